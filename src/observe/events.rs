//! What has happened to this node of late, for who looks at it: changes of state, and what went
//! wrong for clients.
//!
//! It is kept where counts are kept, in memory and bounded, and whoever tells of something waits for
//! nobody: a short lock that no await is within. Clients can make any number of transfers fail, so
//! what they meet has a ring of its own, where the same again within a minute is counted and not
//! told anew: it can never push out that the role has changed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::audit::Record;
use super::log::one_line;
use super::metrics::Refusal;
use crate::ftp::Outcome;
use crate::lock::lock;

/// Changes of state that are kept.
const CHANGES: usize = 100;
/// What clients have met that is kept.
const MISHAPS: usize = 50;
/// What comes again within that time of its first is counted there.
const AGAIN: Duration = Duration::from_secs(60);
/// Characters of a text that are kept: a path may be 4 KiB.
const TEXT: usize = 300;

/// The latest events; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Events {
    rings: Arc<Mutex<Rings>>,
}

#[derive(Debug, Default)]
struct Rings {
    /// The number of the next event.
    next: u64,
    changes: VecDeque<Event>,
    mishaps: VecDeque<Event>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its number since the start, in the order of their first times.
    pub number: u64,
    /// When, or when it came again last.
    #[serde(serialize_with = "crate::rfc3339::serialize")]
    pub time: SystemTime,
    /// What it is about.
    pub about: About,
    /// Whether that is good.
    pub tone: Tone,
    /// One line for people.
    pub text: String,
    /// How often.
    pub count: u64,
    #[serde(skip)]
    first: SystemTime,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A client that got no session.
    Client,
    /// The configuration.
    Configuration,
    /// An endpoint.
    Endpoint,
    /// The lease.
    Lease,
    /// The other node.
    Peer,
    /// The role of this node.
    Role,
    /// Where clients are sent.
    Steering,
    /// A transfer.
    Transfer,
}

/// How an event is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// Somebody may have to do something.
    Bad,
    /// All is well, or well again.
    Good,
    /// Neither.
    Plain,
}

impl Tone {
    /// Good or bad.
    pub fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

impl Events {
    /// The state of something has changed.
    pub fn changed(&self, about: About, tone: Tone, text: &str) {
        let mut rings = self.lock();
        let event = rings.event(SystemTime::now(), about, tone, text);
        push(&mut rings.changes, CHANGES, event);
    }

    /// A transfer is over: told if it began and did not come to its end.
    pub fn transfer_ended(&self, record: &Record) {
        let failed = !matches!(record.outcome, Outcome::Complete | Outcome::Refused);
        if !failed {
            return;
        }
        let Record { verb, path, user, client, outcome, bytes, .. } = record;
        let (client, outcome) = (client.ip(), outcome.as_str());
        let text = format!("{outcome}: {verb} {path} by {user} from {client}, after {bytes} bytes");
        self.lock().mishap(SystemTime::now(), About::Transfer, &text);
    }

    /// A client got no session.
    pub fn refused(&self, reason: Refusal) {
        let text = format!("client refused: {}", reason.as_str());
        self.lock().mishap(SystemTime::now(), About::Client, &text);
    }

    /// All that are kept, the newest first.
    pub fn latest(&self) -> Vec<Event> {
        let rings = self.lock();
        let mut events: Vec<_> = rings.changes.iter().chain(&rings.mishaps).cloned().collect();
        drop(rings);
        events.sort_by_key(|event| std::cmp::Reverse((event.time, event.number)));
        events
    }

    /// A poisoned lock holds what it held: nothing fails in the middle of a change here.
    fn lock(&self) -> MutexGuard<'_, Rings> {
        lock(&self.rings)
    }
}

impl Rings {
    fn mishap(&mut self, now: SystemTime, about: About, text: &str) {
        let text = short(text);
        let is_recent = |event: &&mut Event| {
            now.duration_since(event.first).is_ok_and(|passed| passed <= AGAIN)
        };
        let recent = self.mishaps.iter_mut().rev().take_while(is_recent);
        if let Some(known) = recent.into_iter().find(|event| event.text == text) {
            known.count += 1;
            known.time = now;
            return;
        }
        let event = self.event(now, about, Tone::Bad, &text);
        push(&mut self.mishaps, MISHAPS, event);
    }

    fn event(&mut self, now: SystemTime, about: About, tone: Tone, text: &str) -> Event {
        let number = self.next;
        self.next += 1;
        Event { number, time: now, about, tone, text: short(text), count: 1, first: now }
    }
}

fn push(ring: &mut VecDeque<Event>, limit: usize, event: Event) {
    if ring.len() >= limit {
        ring.pop_front();
    }
    ring.push_back(event);
}

/// One line, and not a long one.
fn short(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_467_894 + second)
    }

    fn failed(path: &str, outcome: Outcome) -> Record {
        Record { time: at(0), outcome, reply: Some(426), ..Record::example(path) }
    }

    #[test]
    fn any_number_of_mishaps_leaves_the_changes() {
        let events = Events::default();
        for number in 0..CHANGES + 5 {
            events.changed(About::Role, Tone::Plain, &format!("change {number}"));
        }
        for number in 0..1000 {
            events.transfer_ended(&failed(&format!("f{number}"), Outcome::ClientFailed));
        }
        let latest = events.latest();
        assert_eq!(latest.len(), CHANGES + MISHAPS);
        let newest = "client-failed: STOR f999 by ann from 192.0.2.1, after 1234 bytes".to_owned();
        assert_eq!((&latest[0].text, latest[0].tone), (&newest, Tone::Bad));
        let texts: Vec<_> = latest.iter().map(|event| event.text.as_str()).collect();
        assert!(texts.contains(&"change 104") && texts.contains(&"change 5"));
        assert!(!texts.contains(&"change 4") && !texts.iter().any(|text| text.contains(" f949 ")));
    }

    #[test]
    fn the_same_again_within_a_minute_is_counted() {
        let mut rings = Rings::default();
        for (second, text) in
            [(0, "limit"), (20, "no-endpoint"), (30, "limit"), (60, "limit"), (61, "limit")]
        {
            rings.mishap(at(second), About::Client, text);
        }
        let told = rings.mishaps.iter().map(|event| (&*event.text, event.count, event.time));
        let expected = [("limit", 3, at(60)), ("no-endpoint", 1, at(20)), ("limit", 1, at(61))];
        assert!(told.eq(expected));
    }

    #[test]
    fn a_transfer_that_is_whole_or_was_refused_is_no_event() {
        let events = Events::default();
        events.transfer_ended(&failed("a", Outcome::Complete));
        events.transfer_ended(&failed("a", Outcome::Refused));
        assert!(events.latest().is_empty());
    }

    #[test]
    fn a_name_is_one_short_line() {
        let events = Events::default();
        events.transfer_ended(&failed(
            &format!("a\r\n\u{1b}[2J{}", "ü".repeat(4096)),
            Outcome::Aborted,
        ));
        let text = &events.latest()[0].text;
        assert!(
            text.starts_with("aborted: STOR a\\u000d\\u000a\\u001b[2Jüü") && text.ends_with("ü…")
        );
        assert_eq!(text.chars().count(), TEXT + 1);
    }
}
