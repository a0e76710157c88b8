//! The lease as pure transitions: no I/O, no clock, no chance. The driver and the model checker
//! run this same code.
//!
//! One object in S3 names the holder. Every write is conditional on the ETag that the writer last
//! saw, and carries a nonce, so that no two versions of the object are alike. No wall clocks are
//! compared: a node measures only how long ago *it* did or saw something.
//!
//! - **A holder** believes in its lease for a TTL from *before it sent* its last successful write,
//!   less a margin for clocks that run at different speeds.
//! - **Another node** takes over after it has seen one version for a TTL and the margin, counted
//!   from *after it received* that version first. The holder's last write was sent before it could
//!   be seen, so its belief ends first. Readings further apart than a TTL start the count anew:
//!   when S3 comes back for everyone, the holder has time to renew.
//! - **An answer that did not come**, or a refusal, may still mean success. Nothing is assumed: the
//!   object is read, and who finds its own nonce there has held the lease since it sent that write.
//! - **Releasing** is a write like any other; belief ends when it is sent. A released lease may be
//!   taken at once, but the node that released it waits for another to take it.
//!
//! A request that was given up may still arrive. Its condition then fails, as every other write has
//! changed the ETag, or it succeeds before any other write has, and is found there.
//!
//! How to drive it: ask [`Lease::poll`] what to send or how long to wait; hand what came of it to
//! [`Lease::handle_read`] or [`Lease::handle_write`]; poll after each event, after a change of
//! candidacy, and when the wait is over. At most one request is in flight.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: the time since some beginning of this node's own, by its monotonic clock.
pub type Moment = Duration;

/// What the lease object says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// How often the lease has changed hands: a fencing token.
    pub generation: u64,
    /// The name of the node that wrote it.
    pub holder: String,
    /// Whether the holder keeps it.
    pub state: State,
    /// Different in every write of every node, as an ETag is a hash of the content: the writer's
    /// incarnation, a dot, and a number.
    pub nonce: String,
}

/// Whether the writer of the lease keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It does.
    Held,
    /// It has given it up.
    Released,
}

/// A version of the lease object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// S3's name for it, not to be understood.
    pub etag: String,
    /// What it says.
    pub content: Content,
}

/// What is to be sent to S3.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// GetObject.
    Read,
    /// PutObject.
    Write {
        /// The ETag for If-Match, or nothing for `If-None-Match: *`.
        expected: Option<String>,
        /// The new content.
        content: Content,
    },
}

/// What came of a PutObject.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Written {
    /// 200: the object is ours, and this is its ETag.
    Done(String),
    /// 412, 409 or 404: it was not applied, or it was and this answers a repetition of it.
    Refused,
    /// No answer, or a 5xx: it may have been applied, or may yet be.
    Unknown,
}

/// What a driver has to do next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Next {
    /// A request is in flight.
    Busy,
    /// Send this now, and call [`Lease::handle_read`] or [`Lease::handle_write`] when it is over.
    Send(Request),
    /// Poll again at this moment.
    Wait(Moment),
}

/// Who this node is, and how fast things go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// This node's name, for people.
    pub node: String,
    /// This run of this node: no other run of any node has it.
    pub incarnation: String,
    /// How long a version is good for.
    pub ttl: Duration,
    /// What clocks may differ by within a TTL: a holder stops so much earlier, another node takes
    /// over so much later.
    pub margin: Duration,
    /// From one renewal to the next.
    pub renewal: Duration,
    /// From one reading to the next, and from a failed request to the next.
    pub reading: Duration,
}

/// Whether this node would serve as the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Candidacy {
    /// It would not, and gives the lease up: it is stopping, or its peer can serve and it cannot.
    Never,
    /// It keeps the lease, and takes it if nobody else does for long: it cannot serve now.
    Reluctant,
    /// It would.
    Willing,
}

/// A reluctant node, and the one that released the lease, wait for so many TTLs.
const RELUCTANCE: u32 = 3;

/// This node's view of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    settings: Settings,
    candidacy: Candidacy,
    /// The lease is to be given up once, though this node would serve.
    handing_over: bool,
    /// What was seen last, if S3 was ever reached.
    seen: Option<Seen>,
    /// Until when this node believes that it holds the lease.
    held_until: Option<Moment>,
    /// The highest generation seen.
    generation: u64,
    /// How many writes there have been.
    writes: u64,
    /// The last write, until it has been seen.
    unsettled: Option<Attempt>,
    /// S3 is to be read before the next write: the last one may have been applied or not.
    unsure: bool,
    in_flight: Option<Flight>,
    /// When the next reading is due.
    read_at: Moment,
    /// When the next renewal is due.
    renew_at: Moment,
    /// No write before that.
    write_at: Moment,
}

/// What a reading showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Seen {
    /// The object, if there was one.
    version: Option<Version>,
    /// When that was received first, in an unbroken row of readings.
    since: Moment,
    /// When it was received last.
    last: Moment,
}

/// A write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Attempt {
    content: Content,
    sent_at: Moment,
}

/// The request in flight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Flight {
    Read { sent_at: Moment },
    Write(Attempt),
}

// === impl Lease ===

impl Lease {
    /// Knows nothing yet; the first poll reads.
    pub fn new(settings: Settings, candidacy: Candidacy) -> Self {
        Self {
            settings,
            candidacy,
            handing_over: false,
            seen: None,
            held_until: None,
            generation: 0,
            writes: 0,
            unsettled: None,
            unsure: false,
            in_flight: None,
            read_at: Moment::ZERO,
            renew_at: Moment::ZERO,
            write_at: Moment::ZERO,
        }
    }

    /// The same in another process of the same run of this node, which goes on where this one has
    /// stopped. What may have changed are the times.
    pub fn go_on(self, settings: Settings, candidacy: Candidacy) -> Self {
        let incarnation = self.settings.incarnation;
        Self { settings: Settings { incarnation, ..settings }, candidacy, ..self }
    }

    /// Whether this node would serve has changed.
    pub fn set_candidacy(&mut self, candidacy: Candidacy) {
        self.candidacy = candidacy;
    }

    /// Gives the lease up once, for another node to take; this node takes it back if none does.
    /// Or, as long as it is not too late, does not.
    pub fn set_handing_over(&mut self, handing_over: bool) {
        self.handing_over = handing_over && self.owns();
    }

    /// What to do now. Whoever sends a request gives it up after a while, as an answer that comes
    /// later than the next one is due helps nobody.
    pub fn poll(&mut self, now: Moment) -> Next {
        if self.in_flight.is_some() {
            return Next::Busy;
        }
        let write_at = self.write_due(now).map(|due| due.max(self.write_at));
        if write_at.is_some_and(|due| due <= now) && self.knows(now) {
            return Next::Send(self.write(now));
        }
        if self.read_at <= now {
            self.in_flight = Some(Flight::Read { sent_at: now });
            return Next::Send(Request::Read);
        }
        let write_at = write_at.filter(|&due| due > now);
        Next::Wait(write_at.map_or(self.read_at, |due| due.min(self.read_at)))
    }

    /// A GetObject is over: the object, or nothing if there is none (404), or no good answer.
    pub fn handle_read<E>(&mut self, now: Moment, answer: Result<Option<Version>, E>) {
        let Some(Flight::Read { sent_at }) = self.in_flight.take() else { return };
        self.read_at = now.max(sent_at + self.settings.reading);
        if let Ok(version) = answer {
            self.unsure = false;
            self.see(now, version);
        }
    }

    /// A PutObject is over.
    pub fn handle_write(&mut self, now: Moment, written: Written) {
        let Some(Flight::Write(attempt)) = self.in_flight.take() else { return };
        let (sent_at, content) = (attempt.sent_at, attempt.content.clone());
        self.unsettled = Some(attempt);
        self.unsure = !matches!(written, Written::Done(_));
        let later = now.max(sent_at + self.settings.reading);
        (self.read_at, self.write_at) = (later, later);
        match written {
            Written::Done(etag) => {
                self.write_at = now;
                self.see(now, Some(Version { etag, content }));
            }
            // What is there now, is known at once; but nobody fights for it in a loop.
            Written::Refused => self.read_at = now,
            Written::Unknown => {}
        }
    }

    /// Whether this node believes that it holds the lease.
    pub fn is_held(&self, now: Moment) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Until when it does, if nothing else happens.
    pub fn held_until(&self) -> Option<Moment> {
        self.held_until
    }

    /// Whether the version seen last is this node's own, and held: it still is the holder as far as
    /// it knows, if only because S3 cannot be asked.
    pub fn owns(&self) -> bool {
        self.content().is_some_and(|content| content.state == State::Held && self.wrote(content))
    }

    /// What the lease object said last.
    pub fn content(&self) -> Option<&Content> {
        Some(&self.version()?.content)
    }

    /// How long ago S3 last showed it, if ever.
    pub fn age(&self, now: Moment) -> Option<Duration> {
        self.seen.as_ref().map(|seen| now.saturating_sub(seen.last))
    }

    fn version(&self) -> Option<&Version> {
        self.seen.as_ref()?.version.as_ref()
    }

    fn wrote(&self, content: &Content) -> bool {
        let rest = content.nonce.strip_prefix(&self.settings.incarnation);
        rest.is_some_and(|rest| rest.starts_with('.'))
    }

    /// S3 has shown that version, or that there is none.
    fn see(&mut self, now: Moment, version: Option<Version>) {
        let etag = |version: &Option<Version>| version.as_ref().map(|version| version.etag.clone());
        let known = self.seen.take().filter(|seen| {
            etag(&seen.version) == etag(&version)
                && now.saturating_sub(seen.last) <= self.settings.ttl
        });
        let since = known.map_or(now, |seen| seen.since);
        if let Some(Version { content, .. }) = &version {
            let is_last = |attempt: &mut Attempt| attempt.content.nonce == content.nonce;
            let attempt = self.unsettled.take_if(is_last);
            self.generation = self.generation.max(content.generation);
            if content.state == State::Released || !self.wrote(content) {
                self.held_until = None;
                self.handing_over = false;
            } else if let Some(Attempt { sent_at, .. }) = attempt {
                let Settings { ttl, margin, renewal, .. } = self.settings;
                self.held_until = Some(sent_at + ttl.saturating_sub(margin));
                self.renew_at = sent_at + renewal;
                // The renewal tells as much as a reading would.
                self.read_at = now.max(self.renew_at);
            }
        }
        self.seen = Some(Seen { version, since, last: now });
    }

    /// Whether what was seen last may be acted on.
    fn knows(&self, now: Moment) -> bool {
        let recent = |seen: &Seen| now.saturating_sub(seen.last) <= self.settings.ttl;
        !self.unsure && (self.owns() || self.seen.as_ref().is_some_and(recent))
    }

    /// When the lease may be written, if it may: renewed, released or taken.
    fn write_due(&self, now: Moment) -> Option<Moment> {
        let Settings { ttl, margin, .. } = self.settings;
        let seen = self.seen.as_ref()?;
        let patience = match self.candidacy {
            Candidacy::Never => None,
            Candidacy::Reluctant => Some(RELUCTANCE),
            Candidacy::Willing => Some(1),
        };
        let expired = |patience| seen.since + (ttl + margin) * patience;
        let Some(Version { content, .. }) = &seen.version else {
            // Nobody has made it yet, or somebody has deleted it, whose holder may make it anew.
            return patience.map(
                |patience| {
                    if self.is_held(now) { seen.last } else { expired(patience) }
                },
            );
        };
        match (content.state, self.wrote(content)) {
            (State::Held, true) if self.is_leaving() => Some(seen.last),
            (State::Held, true) => Some(self.renew_at),
            (State::Held, false) => patience.map(expired),
            (State::Released, true) => patience.map(|_| expired(RELUCTANCE)),
            (State::Released, false) if self.candidacy == Candidacy::Willing => Some(seen.last),
            (State::Released, false) => patience.map(expired),
        }
    }

    fn is_leaving(&self) -> bool {
        self.handing_over || self.candidacy == Candidacy::Never
    }

    /// Renews, releases or takes the lease, on what was seen last.
    fn write(&mut self, now: Moment) -> Request {
        let renews = self.owns();
        let releases = renews && self.is_leaving();
        if releases {
            self.held_until = None;
        }
        let content = Content {
            // Whoever may write to the bucket may have written any number.
            generation: self.generation.saturating_add(u64::from(!renews)),
            holder: self.settings.node.clone(),
            state: if releases { State::Released } else { State::Held },
            nonce: format!("{}.{}", self.settings.incarnation, self.writes),
        };
        self.writes += 1;
        let expected = self.version().map(|version| version.etag.clone());
        let attempt = Attempt { content: content.clone(), sent_at: now };
        self.in_flight = Some(Flight::Write(attempt));
        Request::Write { expected, content }
    }
}
