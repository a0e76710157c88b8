//! What a session remembers for an upstream that must be told where it was.
//!
//! The lines are wiped when they are forgotten, and so is every [`Command`] and [`Line`]. What is not
//! wiped: the buffers that a client's bytes come in by, from the socket to [`Command::parse`], and
//! what a socket that is full leaves unsent for a while.

use std::collections::VecDeque;
use std::fmt;

use crate::ftp::command::{Command, Line, Verb};
use crate::ftp::reply::Reply;

/// Lines of a login that are remembered: USER, PASS, ACCT, and some for a server with more questions.
const LOGIN_LIMIT: usize = 8;
/// Settings that are remembered; a client has a handful.
const SETTINGS_LIMIT: usize = 16;
/// The longest of them, in bytes.
const SETTING_SIZE_LIMIT: usize = 512;
/// Changes of directory that are remembered before the upstream is asked where it is. They cannot
/// be joined: `..` need not lead back where a link led from.
const DIRECTORY_LIMIT: usize = 32;
/// The same in bytes.
const DIRECTORY_SIZE_LIMIT: usize = 4096;

/// What a session's upstream must be told to be where it was.
#[derive(Default)]
pub(super) struct Memory {
    host: Option<Line>,
    /// USER, PASS and ACCT, as far as they were accepted.
    pub(super) login: Vec<Line>,
    /// Connections made since an upstream last answered a command.
    pub(super) attempts: u8,
    /// In the order in which they were first made.
    settings: Vec<(Vec<u8>, Line)>,
    pub(super) directory: Vec<Line>,
    /// A login was refused on this connection: the upstream counts such, and a new connection
    /// would start its count anew.
    refused: bool,
    /// More was done than is remembered.
    overflown: bool,
    /// The login was all that it took: what comes behind it does not take its place.
    complete: bool,
    /// It was logged in again: some servers keep the directory then, others do not, and one logs
    /// it out. It is asked where it is.
    pub(super) astray: bool,
    /// A REST was lost, and no transfer may pass that counts on it.
    pub(super) lost_restart: bool,
    /// RNFR has been accepted, and its RNTO is due.
    pub(super) renaming: bool,
    /// An accepted RNFR was lost.
    pub(super) lost_rename: bool,
}

/// One line of a replay.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) line: Line,
    pub(super) login: bool,
}

// === impl Memory ===

impl Memory {
    /// Whether another upstream can be brought where this one was.
    pub(super) fn suffices(&self) -> bool {
        !self.refused && !self.overflown && !self.astray
    }

    /// Keeps what this accepted command has changed for good. Says whether it is time to ask the
    /// upstream for its directory.
    pub(super) fn learn(&mut self, command: &Command, reply: &Reply) -> bool {
        let (verb, positive) = (command.verb(), reply.is_positive());
        let proceeds = positive || (300..400).contains(&reply.code());
        self.renaming = verb == Verb::Rnfr && proceeds;
        match verb {
            Verb::User | Verb::Pass | Verb::Acct => return self.learn_login(command, reply),
            Verb::Rein if positive => *self = Self::default(),
            Verb::Host if positive => self.host = Some(command.to_line()),
            Verb::Cwd | Verb::Cdup if positive => {
                if verb == Verb::Cwd && command.argument().starts_with(b"/") {
                    self.directory.clear();
                    self.astray = false;
                }
                self.directory.push(command.to_line());
                let size: usize = self.directory.iter().map(|line| line.len()).sum();
                return self.directory.len() > DIRECTORY_LIMIT || size > DIRECTORY_SIZE_LIMIT;
            }
            _ if positive => {
                if let Some(key) = setting(command) {
                    self.set(key, command.to_line());
                }
            }
            _ => {}
        }
        false
    }

    /// The same for USER, PASS and ACCT.
    pub(super) fn learn_login(&mut self, command: &Command, reply: &Reply) -> bool {
        let (verb, positive) = (command.verb(), reply.is_positive());
        let proceeds = positive || (300..400).contains(&reply.code());
        match verb {
            // Who is logged in is told so, by 202, 230 or 503, whatever the password. Apache FtpServer
            // says so, too, and logs it out.
            Verb::Pass if self.complete && reply.code() != 530 => {
                self.astray = true;
                return true;
            }
            // 532 to a STOR can ask for an account long after the login (RFC 959 4.1.1).
            Verb::Acct if self.complete && positive => {
                self.set(verb.as_str().into(), command.to_line());
                return false;
            }
            Verb::Acct if self.complete && reply.code() != 530 => return false,
            // ProFTPD and Apache say so of who is logged in already.
            Verb::User if self.complete && positive && self.begins_with(command) => {
                self.astray = true;
                return true;
            }
            Verb::User if proceeds => {
                self.astray |= self.complete;
                self.login = vec![command.to_line()];
                self.settings.retain(|(key, _)| key != Verb::Acct.as_str().as_bytes());
            }
            // vsftpd refuses a second USER, but not the PASS behind it.
            _ if self.login.is_empty() || !proceeds => {
                self.login = Vec::new();
                self.complete = false;
                self.refused = true;
                return false;
            }
            _ if self.login.len() < LOGIN_LIMIT => self.login.push(command.to_line()),
            _ => self.overflown = true,
        }
        self.complete = positive;
        self.refused &= !positive;
        positive && self.astray
    }

    pub(super) fn begins_with(&self, command: &Command) -> bool {
        self.login.first() == Some(&command.to_line())
    }

    pub(super) fn set(&mut self, key: Vec<u8>, line: Line) {
        if line.len() > SETTING_SIZE_LIMIT {
            self.overflown = true;
        } else if let Some((_, known)) = self.settings.iter_mut().find(|(known, _)| *known == key) {
            *known = line;
        } else if self.settings.len() < SETTINGS_LIMIT {
            self.settings.push((key, line));
        } else {
            self.overflown = true;
        }
    }

    /// All of it, in the order in which an upstream takes it.
    pub(super) fn steps(&self) -> VecDeque<Step> {
        let step = |login| move |line: &Line| Step { line: line.clone(), login };
        let settings = self.settings.iter().map(|(_, line)| line);
        let others = settings.chain(&self.directory).map(step(false));
        let host = self.host.iter().map(step(false));
        host.chain(self.login.iter().map(step(true))).chain(others).collect()
    }
}

/// It may hold a password.
impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// It may hold a password.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("login", &self.login).finish_non_exhaustive()
    }
}

/// What a command sets, if it sets something: a later one that sets the same takes its place.
fn setting(command: &Command) -> Option<Vec<u8>> {
    let first = command.argument().trim_ascii().split(u8::is_ascii_whitespace).next()?;
    let of = match command.verb() {
        Verb::Clnt | Verb::Lang | Verb::Mode | Verb::Stru | Verb::Type => &[],
        Verb::Opts => first,
        Verb::Site if first.eq_ignore_ascii_case(b"UMASK") => first,
        _ => return None,
    };
    Some([command.verb().as_str().as_bytes(), &of.to_ascii_uppercase()].concat())
}

/// The path in `257 "path" text`, where a quote inside is doubled (RFC 959, appendix II).
pub(super) fn directory(reply: &Reply) -> Option<Vec<u8>> {
    if reply.code() != 257 {
        return None;
    }
    let mut bytes = reply.bytes().iter().copied().skip_while(|&byte| byte != b'"').skip(1);
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if bytes.next() == Some(b'"') => path.push(b'"'),
            b'"' => return (path.starts_with(b"/")).then_some(path),
            b'\r' | b'\n' | 0 => return None,
            byte => path.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_257_is_between_its_quotes() {
        let cases: [(&str, Option<&[u8]>); 7] = [
            ("\"/\" is current directory.", Some(b"/")),
            ("\"/a b\" is current directory.", Some(b"/a b")),
            ("\"/say \"\"hi\"\"\" is it", Some(b"/say \"hi\"")),
            ("\"/open", None),
            ("/bare is current directory", None),
            ("\"relative\" is odd", None),
            ("\"\"", None),
        ];
        for (text, path) in cases {
            assert_eq!(directory(&Reply::new(257, text)).as_deref(), path, "{text}");
        }
        assert_eq!(directory(&Reply::new(250, "\"/a\"")), None);
    }
}
