//! What may go upstream: what the client has sent, once; what that makes the gateway say of its own; and in a
//! replay what sets the state of a session and nothing else.

use super::{Command, Judge, LIMITED, Link, Restart, Verb};

impl Judge {
    /// A line that goes upstream. During a replay it must be one that was known before, of a
    /// kind that may be said twice, and the only one.
    pub(super) fn judge_line(&mut self, line: &[u8]) -> Result<(), String> {
        let Ok(command) = Command::parse(line) else {
            return Err(format!("no command: {}", line.escape_ascii()));
        };
        let limited = self.dialogue.rules().any(|rule| rule == LIMITED);
        let denied = limited && command.word() == b"DELE" && self.link == Link::Up;
        if denied || (command.verb() == Verb::User && command.argument() == b"denied") {
            return Err(format!("what is denied: {}", line.escape_ascii()));
        }
        match self.link {
            Link::Up => {
                self.told.push(line.to_vec());
                match self.given.iter().position(|given| given == line) {
                    Some(at) => drop(self.given.remove(at)),
                    None => self.judge_own(line)?,
                }
            }
            Link::Replaying => {
                let located = command.verb() == Verb::Cwd && command.argument().starts_with(b"/");
                let known = located || self.told.iter().any(|told| told == line);
                self.owed += 1;
                if !known || !is_replayed(command.verb()) || self.owed > 1 {
                    return Err(format!("in the middle of a replay: {}", line.escape_ascii()));
                }
            }
            Link::Connecting | Link::Lost => {
                return Err(format!("to nobody: {}", line.escape_ascii()));
            }
        }
        match command.verb() {
            Verb::Rest if command.argument() != b"0" => self.restart = Restart::Asked,
            Verb::Rest | Verb::Rein => self.restart = Restart::None,
            _ => {}
        }
        Ok(())
    }

    /// A line that the client has not sent: there must be something that it is for.
    fn judge_own(&mut self, line: &[u8]) -> Result<(), String> {
        self.own.push(line.to_vec());
        let (is_cause, each) = causes(line);
        let causes = self.verbs.iter().filter(|&&verb| is_cause(verb)).count();
        if self.own.iter().filter(|own| *own == line).count() > each * causes {
            return Err(format!("nobody has asked for it: {}", line.escape_ascii()));
        }
        Ok(())
    }
}

/// What the gateway says of its own to an upstream, each for commands of the client's, and how often
/// for one of those.
fn causes(line: &[u8]) -> (fn(Verb) -> bool, usize) {
    match line {
        // Asked again by PASV, and six times by an upstream that has no port free.
        b"EPSV\r\n" | b"PASV\r\n" => {
            (|verb| matches!(verb, Verb::Pasv | Verb::Epsv | Verb::Port | Verb::Eprt), 8)
        }
        b"TYPE I\r\n" => (|verb| verb == Verb::Type, 1),
        b"REST 0\r\n" => (|verb| verb == Verb::Rest, 1),
        b"NOOP\r\n" => (|verb| verb.direction().is_some(), 1),
        b"PWD\r\n" => (|_| true, 1),
        _ => (|_| false, 0),
    }
}

/// What can be said twice without harm: it changes no file and moves none.
pub(super) fn is_harmless(line: &[u8]) -> bool {
    let Ok(command) = Command::parse(line) else { return false };
    let word = command.word().to_ascii_uppercase();
    command.verb().direction().is_none()
        && ![&b"DELE"[..], b"MKD", b"RMD", b"RNTO", b"SITE"].contains(&&*word)
}

/// What sets the state of a session and nothing else.
fn is_replayed(verb: Verb) -> bool {
    let login = matches!(verb, Verb::User | Verb::Pass | Verb::Acct | Verb::Host);
    let directory = matches!(verb, Verb::Cwd | Verb::Cdup);
    let settings = matches!(
        verb,
        Verb::Clnt | Verb::Lang | Verb::Mode | Verb::Opts | Verb::Site | Verb::Stru | Verb::Type
    );
    login || directory || settings
}
