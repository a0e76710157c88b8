//! Where a client is on the upstream and how its files are stored there, as far as its own words and
//! the upstream's answers tell. Nothing is asked for it, and what is not certain is not known.

use super::memory::directory;
use super::{Action, Dialogue};
use crate::ftp::command::{Command, Verb};
use crate::ftp::reply::Reply;

/// The longest path that is kept in mind, in bytes.
const LIMIT: usize = 4096;

/// A place on the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Below the directory in which the session began, wherever that is; otherwise below the root.
    pub from_home: bool,
    /// Names with slashes between them, of which none is empty, `.` or `..`.
    pub path: Vec<u8>,
}

/// What a session has been told.
#[derive(Debug, Default)]
pub(super) struct Location {
    /// The working directory.
    directory: Option<Place>,
    /// RNFR has been accepted for it.
    renaming: Option<Place>,
    /// TYPE I is in effect: bytes are stored as they are.
    image: bool,
    /// STRU R or P is in effect: the upstream makes something of them.
    structured: bool,
}

/// A file is not any more where it was, if anybody knows where that was: it is there, or gone, or nobody
/// knows.
pub(super) type Gone = (Option<Place>, Option<Place>);

impl Location {
    /// Whether files are stored as their bytes are sent.
    fn stores_images(&self) -> bool {
        self.image && !self.structured
    }

    /// A login has been accepted; `again` if somebody was logged in before. Some servers keep the
    /// directory then, others do not.
    pub(super) fn log_in(&mut self, again: bool) {
        let home = Place { from_home: true, path: Vec::new() };
        self.directory = (!again).then_some(home);
    }

    /// Whether the TYPE I of the gateway's own was taken.
    pub(super) fn set_image(&mut self, taken: bool) {
        self.image = taken;
    }

    /// What a command and its final reply have changed.
    pub(super) fn note(&mut self, command: &Command, reply: &Reply) -> Option<Gone> {
        let (verb, argument) = (command.verb(), command.argument());
        if verb == Verb::Rnfr {
            self.renaming = if reply.code() == 350 { self.file(argument) } else { None };
        }
        if !reply.is_positive() {
            return None;
        }
        match verb {
            Verb::Cwd => self.directory = self.join(argument),
            Verb::Cdup => self.directory = self.join(b".."),
            Verb::Pwd => {
                if let Some(path) = directory(reply) {
                    self.directory = self.join(&path);
                }
            }
            Verb::Rein => *self = Self::default(),
            Verb::Type => {
                let kind = argument.trim_ascii().to_ascii_uppercase();
                self.image = kind == b"I" || (kind.starts_with(b"L") && kind.ends_with(b" 8"));
            }
            Verb::Stru => self.structured = !argument.trim_ascii().eq_ignore_ascii_case(b"F"),
            Verb::Rnto => return Some((self.renaming.take(), self.file(argument))),
            _ if command.word().eq_ignore_ascii_case(b"DELE") => {
                return Some((self.file(argument), None));
            }
            _ if command.word().eq_ignore_ascii_case(b"SMNT") => self.directory = None,
            _ => {}
        }
        None
    }

    /// The files of which nobody knows any more, as the reply to a command is lost.
    pub(super) fn lose(&mut self, command: &Command) -> [Option<Place>; 2] {
        match command.verb() {
            Verb::Rnto => [self.renaming.take(), self.file(command.argument())],
            _ if command.word().eq_ignore_ascii_case(b"DELE") => {
                [self.file(command.argument()), None]
            }
            _ => [None, None],
        }
    }

    /// Where a path leads from here, if it is a file's, which has a name.
    fn file(&self, argument: &[u8]) -> Option<Place> {
        self.join(argument).filter(|place| !place.path.is_empty() && !argument.ends_with(b"/"))
    }

    /// The same for any path. What some servers take for more than a path leads nowhere.
    fn join(&self, path: &[u8]) -> Option<Place> {
        let odd = |byte: &u8| byte.is_ascii_control() || *byte == b'\\';
        if path.is_empty() || path.trim_ascii().len() < path.len() {
            return None;
        }
        if path.starts_with(b"~") || path.iter().any(odd) {
            return None;
        }
        let start = match path.starts_with(b"/") {
            true => Place { from_home: false, path: Vec::new() },
            false => self.directory.clone()?,
        };
        let mut names: Vec<&[u8]> =
            start.path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                // Above the root is the root, above a home nobody knows what.
                b".." if names.pop().is_none() && start.from_home => return None,
                b".." => {}
                name => names.push(name),
            }
        }
        let path = names.join(&b'/');
        (path.len() <= LIMIT).then_some(Place { from_home: start.from_home, path })
    }
}

impl Dialogue {
    /// Tells where an upload that begins writes its file. Says whether that will have exactly the
    /// bytes that are sent: APPE and REST add to what is there, and STOU picks a name.
    pub(super) fn locate_upload(&mut self, command: &Command, restart: u64) -> bool {
        let verb = command.verb();
        let Some(location) = self.location.as_ref() else { return false };
        let as_sent = verb == Verb::Stor && restart == 0 && location.stores_images();
        if matches!(verb, Verb::Stor | Verb::Appe)
            && let Some(place) = location.file(command.argument())
        {
            self.actions.push_back(Action::UploadStarted(place));
        }
        as_sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After these commands, each with the reply to it.
    fn after(said: &[(&str, &str)]) -> Location {
        let mut location = Location::default();
        location.log_in(false);
        say(&mut location, said);
        location
    }

    fn say(location: &mut Location, said: &[(&str, &str)]) -> Option<Gone> {
        let mut moved = None;
        for (line, reply) in said {
            let code = reply[..3].parse().unwrap();
            let reply = Reply::from_bytes(code, format!("{reply}\r\n").into_bytes());
            moved = location.note(&Command::parse(*line).unwrap(), &reply);
        }
        moved
    }

    fn shown(place: Option<Place>) -> String {
        place.map_or_else(
            || "?".into(),
            |Place { from_home, path }| {
                let begin = if from_home { "home:" } else { "/" };
                format!("{begin}{}", String::from_utf8(path).unwrap())
            },
        )
    }

    #[test]
    fn a_path_is_joined_to_where_the_client_is() {
        let ok = "250 ok";
        for (said, file, expected) in [
            (&[][..], "f", "home:f"),
            (&[], "/a/./b//f", "/a/b/f"),
            (&[], "a/../f", "home:f"),
            (&[], "../f", "?"),
            (&[], "/../f", "/f"),
            (&[], "a/", "?"),
            (&[], "/", "?"),
            (&[], " f", "?"),
            (&[], "f ", "?"),
            (&[], "a b", "home:a b"),
            (&[], "~/f", "?"),
            (&[], "a\\f", "?"),
            (&[("CWD in", ok)], "f", "home:in/f"),
            (&[("CWD in", "550 no")], "f", "home:f"),
            (&[("CWD in/deep", ok), ("CDUP", ok)], "f", "home:in/f"),
            (&[("CDUP", ok)], "f", "?"),
            (&[("CDUP", ok), ("CWD in", ok)], "f", "?"),
            (&[("CDUP", ok), ("CWD /in", ok)], "f", "/in/f"),
            (&[("CDUP", ok), ("PWD", "257 \"/x\" it is")], "f", "/x/f"),
            (&[("PWD", "257 \"/\" it is"), ("CWD ..", ok)], "f", "/f"),
            (&[("PWD", "257 it is a secret")], "f", "home:f"),
            (&[("CWD ~ann", ok)], "f", "?"),
            (&[("SMNT x", ok)], "f", "?"),
            (&[("REIN", "220 go")], "f", "?"),
        ] {
            let mut location = after(&[]);
            say(&mut location, said);
            assert_eq!(shown(location.file(file.as_bytes())), expected, "{said:?} {file}");
        }
        let mut again = after(&[("CWD /in", ok)]);
        again.log_in(true);
        assert_eq!(shown(again.file(b"f")), "?");
    }

    #[test]
    fn files_are_images_once_the_upstream_has_said_so() {
        for (said, known) in [
            (&[][..], false),
            (&[("TYPE I", "200 ok")], true),
            (&[("TYPE i", "200 ok")], true),
            (&[("TYPE L 8", "200 ok")], true),
            (&[("TYPE I", "504 no")], false),
            (&[("TYPE I", "200 ok"), ("TYPE A", "200 ok")], false),
            (&[("TYPE I", "200 ok"), ("TYPE E", "504 no")], true),
            (&[("TYPE I", "200 ok"), ("REIN", "220 go")], false),
            (&[("TYPE I", "200 ok"), ("STRU R", "200 ok")], false),
            (&[("TYPE I", "200 ok"), ("STRU R", "200 ok"), ("STRU F", "200 ok")], true),
        ] {
            assert_eq!(after(said).stores_images(), known, "{said:?}");
        }
    }

    #[test]
    fn what_is_renamed_or_deleted_is_told() {
        let (ok, go) = ("250 ok", "350 go");
        for (said, expected) in [
            (&[("DELE f", ok)][..], "home:f to ?"),
            (&[("DELE f", "550 no")], "-"),
            (&[("RNFR f", go), ("RNTO /g", ok)], "home:f to /g"),
            (&[("RNFR f", go), ("RNTO ~g", ok)], "home:f to ?"),
            (&[("RNFR f", go), ("RNTO g", "553 no")], "-"),
            (&[("RNFR ~f", go), ("RNTO g", ok)], "? to home:g"),
            (&[("RNFR f", "550 no"), ("RNTO g", ok)], "? to home:g"),
            (&[("RNFR f", go), ("RNTO g", ok), ("RNTO h", ok)], "? to home:h"),
            (&[("RNFR f", go), ("RNFR e", "550 no"), ("RNTO g", ok)], "? to home:g"),
        ] {
            let moved = say(&mut after(&[]), said);
            let told = moved.map(|(from, to)| format!("{} to {}", shown(from), shown(to)));
            assert_eq!(told.as_deref().unwrap_or("-"), expected, "{said:?}");
        }
    }

    #[test]
    fn of_what_a_lost_reply_was_about_nobody_knows() {
        for (said, lost, expected) in [
            (&[][..], "DELE f", "home:f and ?"),
            (&[("RNFR f", "350 go")], "RNTO g", "home:f and home:g"),
            (&[], "RNTO g", "? and home:g"),
            (&[], "MKD d", "? and ?"),
        ] {
            let [one, other] = after(said).lose(&Command::parse(lost).unwrap());
            assert_eq!(format!("{} and {}", shown(one), shown(other)), expected, "{lost}");
        }
    }
}
