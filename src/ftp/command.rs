//! A client's line as verb and argument.
//!
//! The gateway must understand some verbs; every other passes through as it is. The line is
//! kept, and what goes upstream is that very line: no command is ever put together from parts of
//! a client's input.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

use super::line::{IAC, without_end, without_telnet};

/// One command line, checked to hold nothing that could end it early.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    verb: Verb,
    /// Without line end, telnet commands and leading blanks. Wiped when dropped: it may be PASS.
    line: Zeroizing<Vec<u8>>,
    /// Where the argument starts in `line`.
    argument_at: usize,
}

/// A whole line for the upstream, ended by CRLF (RFC 959 3.1). It may be PASS: it is wiped when
/// dropped, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(Zeroizing<Vec<u8>>);

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCommand {
    /// A CR inside the line: a server that splits there would see two commands.
    #[error("a carriage return inside the line")]
    BareCr,
    /// Nothing but blanks.
    #[error("an empty line")]
    Empty,
    /// A NUL inside the line.
    #[error("a NUL inside the line")]
    Nul,
    /// The verb is no word of letters and digits. Servers that trim more than blanks, or know the
    /// capitals of every script, would take some such for another verb than we do.
    #[error("a verb that is no plain word")]
    Verb,
}

impl Command {
    /// Reads one line, with or without its line end. A `Vec` is kept as it is, and not copied.
    pub fn parse(line: impl Into<Vec<u8>>) -> Result<Self, MalformedCommand> {
        let mut line = Zeroizing::new(line.into());
        let length = without_end(&line).len();
        line.truncate(length);
        if line.contains(&IAC) {
            line = Zeroizing::new(without_telnet(&line));
        }
        let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        line.drain(..blanks);
        if line.is_empty() {
            return Err(MalformedCommand::Empty);
        }
        if line.contains(&0) {
            return Err(MalformedCommand::Nul);
        }
        if line.contains(&b'\r') {
            return Err(MalformedCommand::BareCr);
        }
        let verb_length =
            line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
        let word = line.get(..verb_length).unwrap_or_default();
        if !word.iter().all(u8::is_ascii_alphanumeric) {
            return Err(MalformedCommand::Verb);
        }
        let verb = Verb::parse(word);
        let argument_at = (verb_length + 1).min(line.len());
        Ok(Self { verb, line, argument_at })
    }

    /// `TYPE I`: bytes as they are.
    pub(super) fn image() -> Self {
        Self { verb: Verb::Type, line: Zeroizing::new(b"TYPE I".to_vec()), argument_at: 5 }
    }

    /// The verb, if the gateway knows it.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The verb as the client wrote it.
    pub fn word(&self) -> &[u8] {
        self.line.get(..self.argument_at).unwrap_or_default().trim_ascii_end()
    }

    /// What follows the verb and one blank; empty if nothing does.
    pub fn argument(&self) -> &[u8] {
        self.line.get(self.argument_at..).unwrap_or_default()
    }

    /// The same, given away.
    pub(super) fn into_argument(mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut *self.line);
        line.drain(..self.argument_at);
        line
    }

    /// How long the line is, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a command is never empty")]
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// The client's line, for the upstream.
    pub fn to_line(&self) -> Line {
        Line::new(&self.line)
    }
}

impl Line {
    /// Ends a line, which must hold no line end. Nothing is left behind in a buffer that was too
    /// small.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 2));
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
        Self(bytes)
    }
}

impl Deref for Line {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Shows only how long it is.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} bytes)", self.len())
    }
}

/// Shows the line, but of PASS, ACCT and what the gateway does not know only the verb: `SITE PSWD`
/// and a mistyped `PAS` carry a password too.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verb {
            Verb::Pass | Verb::Acct => write!(f, "{:?} ***", self.verb),
            Verb::Other | Verb::Site => {
                let verb = self.line.get(..self.argument_at).unwrap_or_default().trim_ascii();
                write!(f, "{} ***", verb.escape_ascii())
            }
            _ => write!(f, "{}", self.line.escape_ascii()),
        }
    }
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $($text:literal)|+;)*) => {
        /// The verbs that the gateway acts on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Verb {
            $($(#[$doc])* $name,)*
            /// Any other: it passes through.
            Other,
        }

        impl Verb {
            /// Upper and lower case are the same (RFC 959 5.3). Apache FtpServer, which Transfer Family
            /// answers like, takes an X before any verb, and not only where RFC 775 has it: who is
            /// judged by USER must not come in by XUSER.
            fn parse(text: &[u8]) -> Self {
                let mut upper = [0; 8];
                let Some(upper) = upper.get_mut(..text.len()) else { return Self::Other };
                upper.copy_from_slice(text);
                upper.make_ascii_uppercase();
                let word = std::str::from_utf8(upper).unwrap_or_default();
                match (Self::known(word), word.strip_prefix('X').map(Self::known)) {
                    (Self::Other, Some(verb)) if verb != Self::Http => verb,
                    (verb, _) => verb,
                }
            }

            fn known(word: &str) -> Self {
                match word {
                    $($($text)|+ => Self::$name,)*
                    _ => Self::Other,
                }
            }

            /// The verb in capitals; empty for [`Verb::Other`].
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => verbs!(@first $($text)|+),)*
                    Self::Other => "",
                }
            }
        }
    };
    (@first $first:literal $(| $rest:literal)*) => { $first };
}

verbs! {
    /// RFC 959: abort the transfer.
    Abor = "ABOR";
    /// RFC 959: account; carries a secret.
    Acct = "ACCT";
    /// RFC 959: announces how many bytes will be stored.
    Allo = "ALLO";
    /// RFC 959: append.
    Appe = "APPE";
    /// RFC 4217: start TLS.
    Auth = "AUTH";
    /// RFC 2228: end TLS.
    Ccc = "CCC";
    /// RFC 2428: extended active mode.
    Eprt = "EPRT";
    /// RFC 2428: extended passive mode.
    Epsv = "EPSV";
    /// RFC 959: to the parent directory.
    Cdup = "CDUP" | "XCUP";
    /// Widespread: the client's name.
    Clnt = "CLNT";
    /// RFC 959: to a directory.
    Cwd = "CWD" | "XCWD";
    /// RFC 2389: the list of features.
    Feat = "FEAT";
    /// RFC 959: help.
    Help = "HELP";
    /// RFC 7151: the virtual host.
    Host = "HOST";
    /// A web browser or a NAT slipstreaming page, never an FTP client.
    Http = "GET" | "CONNECT" | "HEAD" | "OPTIONS" | "POST" | "PUT";
    /// RFC 2640: the language of replies.
    Lang = "LANG";
    /// RFC 959: list with details.
    List = "LIST";
    /// RFC 1639: long addresses, long dead.
    Lprt = "LPRT" | "LPSV";
    /// RFC 3659: the time of a file.
    Mdtm = "MDTM";
    /// RFC 3659: machine-readable list.
    Mlsd = "MLSD";
    /// RFC 3659: the same for one file.
    Mlst = "MLST";
    /// RFC 959: transfer mode.
    Mode = "MODE";
    /// RFC 959: list of names.
    Nlst = "NLST";
    /// RFC 959: nothing.
    Noop = "NOOP";
    /// RFC 2389: options of another command.
    Opts = "OPTS";
    /// RFC 959: password.
    Pass = "PASS";
    /// RFC 2228: protection buffer size; nothing with TLS, but PROT needs it.
    Pbsz = "PBSZ";
    /// RFC 959: passive mode.
    Pasv = "PASV";
    /// RFC 959: active mode.
    Port = "PORT";
    /// RFC 4217: whether data connections use TLS.
    Prot = "PROT";
    /// The PROXY protocol, version 1, of a balancer that is not trusted or a client that is none.
    Proxy = "PROXY";
    /// RFC 959: which directory.
    Pwd = "PWD" | "XPWD";
    /// RFC 959: good-bye.
    Quit = "QUIT";
    /// RFC 959: back to before login.
    Rein = "REIN";
    /// RFC 959: where the next transfer starts.
    Rest = "REST";
    /// RFC 959: download.
    Retr = "RETR";
    /// RFC 959: the file to be renamed.
    Rnfr = "RNFR";
    /// RFC 959: its new name.
    Rnto = "RNTO";
    /// RFC 2228: what other mechanisms than TLS need.
    Secure = "ADAT" | "CONF" | "ENC" | "MIC";
    /// RFC 959: what only this server has; `SITE PSWD` carries a password.
    Site = "SITE";
    /// RFC 3659: the size of a file.
    Size = "SIZE";
    /// RFC 959: status, also of a running transfer.
    Stat = "STAT";
    /// RFC 959: upload.
    Stor = "STOR";
    /// RFC 959: upload under a name that the server picks.
    Stou = "STOU";
    /// RFC 959: file structure.
    Stru = "STRU";
    /// RFC 959: the server's system.
    Syst = "SYST";
    /// RFC 959: representation type.
    Type = "TYPE";
    /// RFC 959: user name.
    User = "USER";
}

/// Which way a transfer's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// RETR: from the upstream to the client.
    Download,
    /// LIST, NLST, MLSD: from the upstream to the client, but no file.
    Listing,
    /// STOR, STOU, APPE: from the client to the upstream.
    Upload,
}

impl Direction {
    /// All of them, for metrics.
    pub const ALL: [Self; 3] = [Self::Download, Self::Listing, Self::Upload];

    /// The word for it in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Listing => "listing",
            Self::Upload => "upload",
        }
    }
}

impl Verb {
    /// The direction of the verbs that use a data connection.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Self::Retr => Some(Direction::Download),
            Self::List | Self::Mlsd | Self::Nlst => Some(Direction::Listing),
            Self::Appe | Self::Stor | Self::Stou => Some(Direction::Upload),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn verb_and_argument_are_told_apart_in_any_case_and_spelling() {
        let cases: [(&[u8], Verb, &[u8]); 10] = [
            (b"PASV\r\n", Verb::Pasv, b""),
            (b"pasv\n", Verb::Pasv, b""),
            (b"  Stor a b.txt\r\n", Verb::Stor, b"a b.txt"),
            (b"STOR  leading\r\n", Verb::Stor, b" leading"),
            (b"RETR\tx", Verb::Retr, b"x"),
            (b"\xff\xf4\xff\xf2ABOR\r\n", Verb::Abor, b""),
            (b"SITE CHMOD 644 x", Verb::Site, b"CHMOD 644 x"),
            (b"RETR \xff\xffy", Verb::Retr, b"\xff\xffy"),
            (b"GET / HTTP/1.1\r\n", Verb::Http, b"/ HTTP/1.1"),
            (b"PROXY UNKNOWN\r\n", Verb::Proxy, b"UNKNOWN"),
        ];
        for (line, verb, argument) in cases {
            let command = Command::parse(line).unwrap();
            assert_eq!((command.verb(), command.argument()), (verb, argument), "{line:?}");
        }
    }

    #[test]
    fn what_could_be_two_commands_is_none() {
        assert_eq!(Command::parse(b"RETR a\rDELE b\r\n"), Err(MalformedCommand::BareCr));
        assert_eq!(Command::parse(b"RETR a\0\r\n"), Err(MalformedCommand::Nul));
        assert_eq!(Command::parse(b"  \r\n"), Err(MalformedCommand::Empty));
    }

    #[test]
    fn what_a_server_could_take_for_another_verb_is_that_or_none() {
        for line in
            ["\u{1}USER ann", "U\u{17f}ER ann", "S\u{131}TE x", "\u{c}DELE f", "DELE\u{b}f", "(x)"]
        {
            assert_eq!(Command::parse(line.as_bytes()), Err(MalformedCommand::Verb), "{line}");
        }
        for (line, verb) in [
            ("xuser ann", Verb::User),
            ("XPASS x", Verb::Pass),
            ("XRETR f", Verb::Retr),
            ("XCUP", Verb::Cdup),
            ("XDELE f", Verb::Other),
            ("XGET /", Verb::Other),
            ("XXUSER ann", Verb::Other),
        ] {
            assert_eq!(Command::parse(line.as_bytes()).unwrap().verb(), verb, "{line}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for line in ["pass sekret\r\n", "ACCT sekret", "PAS sekret", "SITE PSWD old sekret"] {
            let shown = format!("{:?}", Command::parse(line.as_bytes()).unwrap());
            assert!(!shown.contains("sekret"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_upstream_is_exactly_one_line(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(command) = Command::parse(&*line) && !line.contains(&b'\n') {
                let bytes = command.to_line();
                prop_assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
                prop_assert!(bytes.ends_with(b"\r\n"));
                prop_assert_eq!(Command::parse(&*bytes), Ok(command));
            }
        }
    }
}
