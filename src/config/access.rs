//! `[access]`: who may do what.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::EndpointAddress;
use crate::ftp::dialogue::Commands;

/// Bytes of what a client is told instead of the gateway's own words.
const MESSAGE: usize = 200;

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

/// Whether a name is what a pattern says, in which `*` stands for anything, also for nothing.
pub fn is_like(pattern: &str, name: &[u8]) -> bool {
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
}
