//! What lines may go upstream, and why, for the judge beside this.

use super::{Command, Verb};

/// What the gateway says of its own to an upstream, each for commands of the client's, and how often
/// for one of those.
pub(crate) fn causes(line: &[u8]) -> (fn(Verb) -> bool, usize) {
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
pub(crate) fn is_harmless(line: &[u8]) -> bool {
    let Ok(command) = Command::parse(line) else { return false };
    let word = command.word().to_ascii_uppercase();
    command.verb().direction().is_none()
        && ![&b"DELE"[..], b"MKD", b"RMD", b"RNTO", b"SITE"].contains(&&*word)
}

/// What sets the state of a session and nothing else.
pub(crate) fn is_replayed(verb: Verb) -> bool {
    let login = matches!(verb, Verb::User | Verb::Pass | Verb::Acct | Verb::Host);
    let directory = matches!(verb, Verb::Cwd | Verb::Cdup);
    let settings = matches!(
        verb,
        Verb::Clnt | Verb::Lang | Verb::Mode | Verb::Opts | Verb::Site | Verb::Stru | Verb::Type
    );
    login || directory || settings
}
