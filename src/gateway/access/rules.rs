//! Which rule a client and its user are under: the first that matches both.
//!
//! A rule without users can decide as soon as the client is there, if none with users stands before
//! it that may match once the user is known.

use std::sync::Arc;

use super::book::{Book, Books, Seat, TransferPlace};
use super::rate::Rate;
use super::{Denied, Visitor};
use crate::config::{self, Config, EndpointAddress, is_like};
use crate::ftp::Direction;
use crate::ftp::dialogue::Permit;
use crate::observe::metrics::Denial;

/// The rules of one configuration.
#[derive(Debug)]
pub(in crate::gateway) struct Rules {
    rules: Vec<Rule>,
    allows_others: bool,
    bans: Option<config::Bans>,
}

/// One rule, ready to be used.
#[derive(Debug)]
pub(in crate::gateway) struct Rule {
    config: config::Rule,
    permit: Arc<Permit>,
    book: Arc<Book>,
}

/// What is known of a client before its user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening<'a> {
    /// Whoever it is: with this message, if the rule has one.
    Denied(Option<&'a str>),
    /// Whoever it is, it is under this rule.
    Ruled(usize),
    /// It depends on the user.
    Undecided,
}

// === impl Rules ===

impl Rules {
    pub(super) fn new(config: &Config, books: &Books) -> Self {
        let rule = |(number, rule): (usize, &config::Rule)| {
            let book = books.of(&rule.name);
            if let Some(rate) = rule.upload_rate {
                book.upload.set(rate);
            }
            if let Some(rate) = rule.download_rate {
                book.download.set(rate);
            }
            let permit = Permit {
                rule: number,
                name: rule.name.clone(),
                commands: rule.commands.clone(),
                limits_transfers: rule.transfers.is_some(),
            };
            Rule { config: rule.clone(), permit: Arc::new(permit), book }
        };
        Self {
            rules: config.access.rules.iter().enumerate().map(rule).collect(),
            allows_others: config.access.allows_others,
            bans: config.access.bans.clone(),
        }
    }

    /// What becomes of who guesses passwords.
    pub(super) fn bans(&self) -> Option<&config::Bans> {
        self.bans.as_ref()
    }

    /// The rule of that number.
    pub(in crate::gateway) fn get(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number)
    }

    /// A place for one more session.
    pub(super) fn seat(&self, number: usize) -> Result<Seat, Denied> {
        let seat = self.get(number).and_then(|rule| rule.book.seat(number, rule.config.sessions));
        seat.ok_or_else(|| Denied::new(Denial::RuleLimit, None))
    }

    /// What is known of a client before its user.
    pub(super) fn opening(&self, visitor: Visitor) -> Opening<'_> {
        let (mut depends, mut hope) = (false, false);
        for (number, rule) in self.of(visitor) {
            if rule.config.users.is_empty() {
                return match rule.config.allows {
                    true if !depends => Opening::Ruled(number),
                    false if !hope => Opening::Denied(rule.config.message.as_deref()),
                    _ => Opening::Undecided,
                };
            }
            depends = true;
            hope |= rule.config.allows;
        }
        if hope || self.allows_others { Opening::Undecided } else { Opening::Denied(None) }
    }

    /// The rule of a user, or none if nobody asks for one.
    pub(super) fn for_user(&self, visitor: Visitor, user: &[u8]) -> Result<Option<usize>, Denied> {
        let is_named = |rule: &Rule| {
            let users = &rule.config.users;
            users.is_empty() || users.iter().any(|pattern| is_like(pattern, user))
        };
        match self.of(visitor).find(|(_, rule)| is_named(rule)) {
            Some((number, rule)) if rule.config.allows => Ok(Some(number)),
            Some((_, rule)) => Err(Denied::new(Denial::Rule, rule.config.message.as_deref())),
            None if self.allows_others => Ok(None),
            None => Err(Denied::new(Denial::Rule, None)),
        }
    }

    /// Those that match a client, with their numbers.
    fn of(&self, visitor: Visitor) -> impl Iterator<Item = (usize, &Rule)> {
        self.rules.iter().enumerate().filter(move |(_, rule)| {
            let config::Rule { clients, listeners, .. } = &rule.config;
            (clients.is_empty() || clients.iter().any(|it| it.contains(&visitor.client)))
                && (listeners.is_empty() || listeners.contains(&visitor.listener))
        })
    }
}

// === impl Rule ===

impl Rule {
    pub(in crate::gateway) fn name(&self) -> &str {
        &self.config.name
    }

    /// What its users may do.
    pub(in crate::gateway) fn permit(&self) -> &Arc<Permit> {
        &self.permit
    }

    /// Where they are served; everywhere if there are none.
    pub(in crate::gateway) fn endpoints(&self) -> Option<&[EndpointAddress]> {
        let endpoints = &*self.config.endpoints;
        (!endpoints.is_empty()).then_some(endpoints)
    }

    /// A place for one more transfer.
    pub(in crate::gateway) fn place(&self) -> Option<TransferPlace> {
        self.book.place(self.config.transfers)
    }

    /// How fast bytes may go that way.
    pub(in crate::gateway) fn rate(&self, direction: Direction) -> Option<Arc<Rate>> {
        let (limit, rate) = match direction {
            Direction::Upload => (self.config.upload_rate, &self.book.upload),
            Direction::Download | Direction::Listing => {
                (self.config.download_rate, &self.book.download)
            }
        };
        limit.map(|_| Arc::clone(rate))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::observe::metrics::Metrics;

    fn rules(access: &str) -> Rules {
        let text = format!(
            "{access}\n[[listener]]\naddress = \"10.0.0.1:21\"\n[[listener]]\naddress = \"10.0.0.1:2121\"\n\
             [[upstream.endpoint]]\naddress = \"10.2.3.4:21\"\n[[upstream.endpoint]]\naddress = \"ftp.internal\"\n"
        );
        let config = Config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}"));
        Rules::new(&config, &Books::new(Metrics::new().unwrap()))
    }

    fn visitor(client: &str, port: u16) -> Visitor {
        Visitor::new(client.parse().unwrap(), SocketAddr::from(([10, 0, 0, 1], port)))
    }

    fn rule(name: &str, lines: &str) -> String {
        format!("[[access.rule]]\nname = \"{name}\"\n{lines}\n")
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = rules(
            &[
                "[access]\ndefault = \"deny\"\n".to_owned(),
                rule("bad", "clients = [\"10.9.0.0/16\"]\naction = \"deny\"\nmessage = \"Gone.\""),
                rule("acme", "clients = [\"10.1.0.0/16\"]\nusers = [\"acme-*\", \"ann\"]"),
                rule("lab", "clients = [\"10.1.7.0/24\"]\nlisteners = [\"10.0.0.1:2121\"]"),
                rule("eve", "users = [\"eve\"]\naction = \"deny\""),
                rule("six", "clients = [\"2001:db8::/32\", \"192.0.2.1\"]"),
            ]
            .concat(),
        );
        for (client, port, opening, users) in [
            ("10.9.1.1", 21, Opening::Denied(Some("Gone.")), [("ann", None), ("eve", None)]),
            ("10.1.1.1", 21, Opening::Undecided, [("acme-x", Some(1)), ("bob", None)]),
            ("::ffff:10.1.1.1", 21, Opening::Undecided, [("ann", Some(1)), ("eve", None)]),
            ("10.1.7.9", 2121, Opening::Undecided, [("ann", Some(1)), ("eve", Some(2))]),
            ("192.0.2.1", 21, Opening::Undecided, [("bob", Some(4)), ("eve", None)]),
            ("2001:db8::9", 21, Opening::Undecided, [("bob", Some(4)), ("eve", None)]),
            ("192.0.2.2", 21, Opening::Denied(None), [("ann", None), ("eve", None)]),
        ] {
            let visitor = visitor(client, port);
            assert_eq!(rules.opening(visitor), opening, "{client}:{port}");
            for (user, expected) in users {
                let got = rules.for_user(visitor, user.as_bytes());
                assert_eq!(got.ok().flatten(), expected, "{user} from {client}:{port}");
            }
        }
    }

    #[test]
    fn what_no_user_can_change_is_decided_at_once() {
        let ruled =
            rules(&(rule("all", "clients = [\"10.0.0.0/8\"]") + &rule("ann", "users = [\"ann\"]")));
        assert_eq!(ruled.opening(visitor("10.1.1.1", 21)), Opening::Ruled(0));
        assert_eq!(ruled.opening(visitor("192.0.2.1", 21)), Opening::Undecided);
        assert_eq!(ruled.for_user(visitor("192.0.2.1", 21), b"bob").unwrap(), None);
        let hopeless = rules(
            &(rule("eve", "users = [\"eve\"]\naction = \"deny\"")
                + &rule("out", "clients = [\"10.0.0.0/8\"]\naction = \"deny\"\nmessage = \"No.\"")),
        );
        assert_eq!(hopeless.opening(visitor("10.1.1.1", 21)), Opening::Denied(Some("No.")));
        assert_eq!(hopeless.opening(visitor("192.0.2.1", 21)), Opening::Undecided);
    }

    #[test]
    fn a_rule_knows_its_endpoints_and_rates() {
        let rules = rules(
            &(rule(
                "far",
                "users = [\"a\"]\nendpoints = [\"FTP.internal:21\"]\nupload_rate = \"1MiB\"",
            ) + &rule("any", "")),
        );
        let (far, any) = (rules.get(0).unwrap(), rules.get(1).unwrap());
        let name = EndpointAddress::Name { name: "ftp.internal".into(), port: 21 };
        assert_eq!((far.endpoints(), any.endpoints()), (Some(&[name][..]), None));
        assert!(far.rate(Direction::Upload).is_some() && far.rate(Direction::Listing).is_none());
        assert!(any.rate(Direction::Upload).is_none() && rules.get(2).is_none());
    }
}
