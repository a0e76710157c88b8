//! `[access]`: who may do what.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::EndpointAddress;
use crate::ftp::dialogue::Commands;

/// Bytes of what a client is told instead of the gateway's own words.
const MESSAGE: usize = 200;

/// The longest that a refused login is kept back: clients give up after some ten seconds more.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// `[access]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// Whom no rule matches is let in.
    pub allows_others: bool,
    /// The first that matches counts.
    pub rules: Vec<Rule>,
    /// What becomes of who guesses passwords, if anything.
    pub bans: Option<Bans>,
}

/// `[[access.rule]]`: some clients and users, and what they may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The word for it in logs, replies and metrics; no other rule has it.
    pub name: String,
    /// The clients that it is for; all if there are none.
    pub clients: Vec<IpNet>,
    /// The users that it is for, with `*` for anything; all if there are none.
    pub users: Vec<String>,
    /// The listeners that it is for; all if there are none.
    pub listeners: Vec<SocketAddr>,
    /// Whether they may come in.
    pub allows: bool,
    /// What they are told if not.
    pub message: Option<String>,
    /// The commands that they may give.
    pub commands: Commands,
    /// Where they are served, as written in `[[upstream.endpoint]]`; everywhere if there are none.
    pub endpoints: Vec<EndpointAddress>,
    /// Sessions that all of them together may have.
    pub sessions: Option<usize>,
    /// Transfers that all of them together may run.
    pub transfers: Option<usize>,
    /// Bytes a second that all of them together may upload.
    pub upload_rate: Option<u64>,
    /// Bytes a second that all of them together may download.
    pub download_rate: Option<u64>,
}

/// `[access.bans]`: how guesses at passwords are slowed down.
#[derive(Debug, Clone, PartialEq)]
pub struct Bans {
    /// Refused logins of one client address after which it is banned.
    pub failures: u32,
    /// How long each of them counts.
    pub window: Duration,
    /// How long the ban lasts.
    pub duration: Duration,
    /// How long the first refusal is kept back; twice as long each time.
    pub delay: Duration,
    /// Clients whose refused logins do not count.
    pub never: Vec<IpNet>,
}

/// Whether a client can be told this: one line of some length that no terminal would obey.
pub fn is_message(text: &str) -> bool {
    !text.is_empty() && text.len() <= MESSAGE && !text.contains(char::is_control)
}

/// Whether a name is what a pattern says, in which `*` stands for anything, also for nothing. What
/// stands around a name does not count: many servers take ` ann` for `ann`, and Java's trim control
/// characters, too.
pub fn is_like(pattern: &str, name: &[u8]) -> bool {
    let is_around = |byte: &u8| *byte <= b' ';
    let start = name.iter().take_while(|byte| is_around(byte)).count();
    let end = name.iter().rev().take_while(|byte| is_around(byte)).count();
    let name = name.get(start..name.len().saturating_sub(end)).unwrap_or_default();
    let mut parts = pattern.as_bytes().split(|&byte| byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // As early as it can be, so that most is left for what follows.
        let at = (0..=rest.len()).find(|&at| rest.get(at..).is_some_and(|it| it.starts_with(part)));
        match at.and_then(|at| rest.get(at + part.len()..)) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, like) in [
            ("ann", "ann", true),
            ("ann", "anna", false),
            ("ann", "", false),
            ("", "", true),
            ("*", "", true),
            ("*", "ann", true),
            ("acme-*", "acme-in", true),
            ("acme-*", "acme-", true),
            ("acme-*", "Acme-in", false),
            ("*-in", "acme-in", true),
            ("*-in", "acme-in2", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("*b*b", "ab", false),
            ("*ab*ab*", "xabab", true),
            ("ann", "  ann\u{1}\t", true),
            ("a*n", " ann ", true),
            ("", "  ", true),
        ] {
            assert_eq!(is_like(pattern, name.as_bytes()), like, "{pattern} {name}");
        }
        assert!(is_like("a*", b"a\xff"));
    }

    #[test]
    fn a_message_is_one_short_line() {
        assert!(is_message("Maintenance until 18:00.") && is_message("Wartung läuft"));
        for text in ["", "a\r\n230 in", "a\u{1b}[2J", "a\u{85}b", &"x".repeat(201)] {
            assert!(!is_message(text), "{text:?}");
        }
    }

    const ENDPOINT: &str = "[[upstream.endpoint]]\naddress = \"10.2.3.10:21\"\n";

    fn error(text: &str) -> String {
        Config::parse(text, "ftpgate.toml").unwrap_err().to_string()
    }

    /// A rule with these lines, in front of the smallest file.
    fn rule(lines: &str) -> String {
        format!("[[access.rule]]\nname = \"r\"\n{lines}\n{ENDPOINT}")
    }

    #[test]
    fn rules_are_checked_against_what_they_name() {
        for lines in [
            "",
            "clients = [\"10.1.2.3\", \"2001:db8::/32\"]\nusers = [\"acme-*\"]\nlisteners = [\"0.0.0.0:21\"]",
            "commands = [\"stor\", \"LIST\"]\nsessions = 1\ntransfers = 1\nupload_rate = \"1KiB\"",
            "users = [\"a\"]\nendpoints = [\"10.2.3.10\"]\ndownload_rate = \"2 GB\"",
            "action = \"deny\"\nmessage = \"Closed until Monday.\"",
        ] {
            Config::parse(&rule(lines), "ftpgate.toml").unwrap_or_else(|error| panic!("{error}"));
        }
        let resume = "[upstream]\nresume = false\n";
        for (text, told) in [
            (rule("users = []"), "ftpgate.toml:3, key access.rule.users"),
            (rule("users = []"), "leave the key out for all users"),
            (rule("clients = [\"10.0.0.0/33\"]"), "`10.0.0.0/33` is no network"),
            (rule("clients = []"), "leave the key out for all clients"),
            (rule("listeners = [\"0.0.0.0:990\"]"), "there is no listener 0.0.0.0:990"),
            (rule("listeners = [\"990\"]"), "`990` is no address with a port"),
            (rule("endpoints = [\"10.2.3.11:21\"]"), "there is no endpoint 10.2.3.11:21"),
            (rule("commands = [\"DELE f\"]"), "`DELE f` is no FTP command"),
            (rule("deny_commands = [\"PASS\"]"), "PASS cannot be denied"),
            (rule("commands = [\"STOR\"]\ndeny_commands = [\"DELE\"]"), "keep one"),
            (rule("sessions = 0"), "action = \"deny\" for a rule that lets nobody in"),
            (rule("transfers = -1"), "config/ftpgate.toml shows what this key takes"),
            (rule("upload_rate = \"fast\""), "`fast` is no rate"),
            (rule("upload_rate = \"10\""), "write bytes a second in quotes"),
            (rule("upload_rate = 10"), "write bytes a second in quotes"),
            (rule("download_rate = \"9B\""), "files would never arrive"),
            (rule("download_rate = \"99999999999999GiB\""), "is no rate"),
            (rule("message = \"Hello.\""), "only who is denied is told a message"),
            (rule("action = \"deny\"\nmessage = \"a\\r\\n230 in\""), "without control characters"),
            (rule("action = \"deny\"\nsessions = 3"), "has nothing to limit"),
            (rule("action = \"refuse\""), "write one of: allow, deny"),
            (rule("user = [\"a\"]"), "did you mean `users`?"),
            (rule("").replace("\"r\"", "\"two words\""), "write a word of letters"),
            (rule("").replace("name = \"r\"", ""), "missing field `name`"),
            (
                format!("{}{}", rule("users = [\"a\"]").replace(ENDPOINT, ""), rule("")),
                "two rules `r`",
            ),
            (
                format!("{}{}", rule("").replace(ENDPOINT, ""), rule("").replace("\"r\"", "\"s\"")),
                "rule `r` before it is for everybody",
            ),
            (
                rule("users = [\"a\"]\nendpoints = [\"10.2.3.10:21\"]")
                    .replace(ENDPOINT, &format!("{resume}{ENDPOINT}")),
                "endpoints that are known at USER only need upstream.resume",
            ),
            (
                // Not even in a rule without users, behind one that has some.
                format!(
                    "{}{resume}[[access.rule]]\nname = \"s\"\nendpoints = [\"10.2.3.10:21\"]\n{ENDPOINT}",
                    rule("users = [\"a\"]").replace(ENDPOINT, "")
                ),
                "and no users in this rule and those before it",
            ),
            (format!("[access]\ndefault = \"none\"\n{ENDPOINT}"), "write one of: allow, deny"),
            (format!("[access.bans]\nfailures = 0\n{ENDPOINT}"), "leave [access.bans] out"),
            (format!("[access.bans]\ndelay = 1\n{ENDPOINT}"), "\"1s\" or \"0s\""),
            (format!("[access.bans]\nnever = [\"nat\"]\n{ENDPOINT}"), "`nat` is no network"),
            (format!("[access.bans]\nduration = \"0s\"\n{ENDPOINT}"), "a duration of zero"),
            (format!("[access.bans]\nduration = \"10000years\"\n{ENDPOINT}"), "longer than 1000"),
            (format!("[access.bans]\ndelay = \"11s\"\n{ENDPOINT}"), "write at most \"10s\""),
        ] {
            let error = error(&text);
            assert!(error.contains(told), "{told} is missing in\n{error}\n{text}");
        }
        let parse = |text: &str| Config::parse(text, "ftpgate.toml").unwrap().access;
        assert!(parse(ENDPOINT).allows_others && parse(ENDPOINT).bans.is_none());
        assert_eq!(parse(&rule("upload_rate = \"10MiB\"")).rules[0].upload_rate, Some(10 << 20));
        let bans = parse(&format!("[access.bans]\ndelay = \"0s\"\n{ENDPOINT}")).bans.unwrap();
        assert_eq!((bans.failures, bans.delay), (10, Duration::ZERO));
    }
}
