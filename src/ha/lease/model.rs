//! Every run of two nodes and one object within bounds: the lease's own transitions, not a copy of
//! them, under slow, lost, repeated and late requests, crashes, pauses, partitions, changes of mind
//! and clocks that run at different speeds.
//!
//! Time is in whole seconds. What happens at one instant happens in every order. A request that is
//! not slow is answered in the instant in which it is sent; a slow one costs a fault, and may then
//! reach the store, be answered or be given up at any time, however late: nothing relies on
//! time-outs. A write that was given up stays on its way.
//!
//! [`World`] is what there is; `runs` says what may happen to it, what must hold, and how far that
//! is explored.

mod runs;

use std::time::Duration;

use super::protocol::{
    Candidacy, Content, Lease, Moment, Next, Request, Settings, State, Version, Written,
};

const TTL: u8 = 4;
const NAMES: [&str; 2] = ["a", "b"];

/// A TTL and the margin, twice, and some readings: so long it takes at most until one node holds
/// the lease for good.
const CALMING: u8 = 12;

/// What is explored, and how far.
#[derive(Debug, Clone)]
struct Bounds {
    name: &'static str,
    /// Whether `a` holds the lease at first; otherwise there is no object.
    held: bool,
    /// For how many seconds things may go wrong.
    seconds: u8,
    /// How often something may go wrong.
    faults: u8,
    /// What may.
    kinds: &'static [Kind],
    /// How often a clock may skip a second, or count one twice.
    drifts: u8,
    /// One clock may do so once in so many seconds.
    drift_gap: u8,
    margin: u8,
    renewal: u8,
    flaw: Option<Flaw>,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A request takes time, comes late, or is not answered.
    Slow,
    /// A request arrives twice, and the second answer is the one that is heard.
    Repeat,
    Crash,
    /// A node does nothing for a while.
    Pause,
    /// A node cannot reach the store for a while.
    Cut,
    /// A node is told to hand over, or that it cannot serve.
    Wish,
    /// Somebody deletes the object.
    Delete,
}

/// A mistake in a driver or a store, which the checker has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Belief counts from the answer, not from before the write was sent.
    BeliefFromAnswer,
    /// A version counts as seen when the question was sent, not when the answer came.
    SeenWhenAsked,
    /// A write without an answer counts as a success.
    SilenceIsSuccess,
    /// ETags are alike when nothing but the nonce differs.
    EtagsRepeat,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    second: u8,
    faults: u8,
    drifts: u8,
    nodes: [Node; 2],
    object: Option<Object>,
    /// Writes that nobody waits for any more.
    late: Vec<Request>,
    /// No generation went back, and none had two holders.
    fenced: bool,
}

/// The object, and how it came to be so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Object {
    version: Version,
    origin: Origin,
}

/// How a version came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    Made,
    Renewed,
    Released,
    /// It was held by another node.
    TakenOver,
    /// It had been released.
    Followed,
}

/// A node, and all that is between it and the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    name: &'static str,
    lease: Lease,
    /// What its clock says.
    now: Moment,
    /// How often it has been restarted.
    restarts: u8,
    status: Status,
    /// Whether it reaches the store.
    connected: bool,
    call: Option<Call>,
    /// For how many seconds the clock has run evenly.
    steady: u8,
    /// It has just learnt from a reading that an earlier write was a success.
    recognised: bool,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Up,
    /// It does nothing, but its clock runs and requests and answers stay on their way.
    Paused,
    /// It has crashed, and forgets everything.
    Down,
}

/// A slow request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Call {
    request: Request,
    sent_at: Moment,
    answer: Option<Answer>,
    /// The lease before, for [`Flaw::BeliefFromAnswer`].
    before: Option<Lease>,
}

/// What the store says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Answer {
    Read(Option<Version>),
    Written(Written),
    None,
}

fn s(seconds: u8) -> Duration {
    Duration::from_secs(seconds.into())
}

/// The run of a node that wrote that.
fn writer(content: &Content) -> &str {
    content.nonce.split_once('.').unwrap().0
}

// === impl Call ===

impl Call {
    /// The write that may arrive when nobody waits for its answer any more.
    fn on_its_way(&self) -> Option<&Request> {
        Some(&self.request).filter(|request| self.answer.is_none() && **request != Request::Read)
    }
}

// === impl Node ===

impl Node {
    fn new(bounds: &Bounds, name: &'static str, restarts: u8) -> Self {
        let settings = Settings {
            node: name.into(),
            incarnation: format!("{name}{restarts}"),
            ttl: s(TTL),
            margin: s(bounds.margin),
            renewal: s(bounds.renewal),
            reading: s(1),
        };
        Self {
            name,
            lease: Lease::new(settings, Candidacy::Willing),
            now: Moment::ZERO,
            restarts,
            status: Status::Up,
            connected: true,
            call: None,
            steady: u8::MAX,
            recognised: false,
        }
    }

    fn believes(&self) -> bool {
        self.status != Status::Down && self.lease.is_held(self.now)
    }

    fn is_author_of(&self, content: &Content) -> bool {
        writer(content) == format!("{}{}", self.name, self.restarts)
    }

    /// Whether it has something to send.
    fn is_due(&self) -> bool {
        self.status == Status::Up
            && self.call.is_none()
            && matches!(self.lease.clone().poll(self.now), Next::Send(_))
    }

    fn send(&mut self, flaw: Option<Flaw>) -> Call {
        let before = (flaw == Some(Flaw::BeliefFromAnswer)).then(|| self.lease.clone());
        let Next::Send(request) = self.lease.poll(self.now) else { panic!("nothing is due") };
        Call { request, sent_at: self.now, answer: None, before }
    }

    /// A request is over.
    fn finish(&mut self, call: Call, flaw: Option<Flaw>) {
        let held_until = self.lease.held_until();
        self.recognised = false;
        match (call.request, call.answer.unwrap_or(Answer::None)) {
            (Request::Read, Answer::Read(version)) => {
                let sees_when_asked = flaw == Some(Flaw::SeenWhenAsked);
                let now = if sees_when_asked { call.sent_at } else { self.now };
                self.lease.handle_read(now, Ok::<_, ()>(version));
                self.recognised = self.lease.held_until() > held_until;
            }
            (Request::Read, _) => self.lease.handle_read(self.now, Err::<Option<Version>, _>(())),
            (Request::Write { content, .. }, answer) => {
                if let Some(before) = call.before {
                    self.lease = before;
                    self.lease.poll(self.now);
                }
                let written = match answer {
                    Answer::Written(written) => written,
                    _ if flaw == Some(Flaw::SilenceIsSuccess) => Written::Done(content.nonce),
                    _ => Written::Unknown,
                };
                self.lease.handle_write(self.now, written);
            }
        }
    }
}

// === impl World ===

impl World {
    fn new(bounds: &Bounds) -> Self {
        let nodes = NAMES.map(|name| Node::new(bounds, name, 0));
        let (faults, drifts) = (bounds.faults, bounds.drifts);
        Self { second: 0, faults, drifts, nodes, object: None, late: Vec::new(), fenced: true }
    }

    /// The store does what it is asked.
    fn apply(&mut self, request: &Request, flaw: Option<Flaw>) -> Answer {
        let Request::Write { expected, content } = request else {
            return Answer::Read(self.object.as_ref().map(|object| object.version.clone()));
        };
        if self.object.as_ref().map(|object| &object.version.etag) != expected.as_ref() {
            return Answer::Written(Written::Refused);
        }
        let origin = self.object.as_ref().map_or(Origin::Made, |object| {
            let old = &object.version.content;
            let is_same = writer(old) == writer(content);
            let is_newer = content.generation > old.generation;
            self.fenced &= is_newer || is_same && content.generation == old.generation;
            match (old.state, content.state) {
                (_, State::Released) => Origin::Released,
                (State::Released, State::Held) => Origin::Followed,
                (State::Held, State::Held) if is_same => Origin::Renewed,
                (State::Held, State::Held) => Origin::TakenOver,
            }
        });
        let etag = if flaw == Some(Flaw::EtagsRepeat) {
            format!("{} {} {:?}", content.holder, content.generation, content.state)
        } else {
            content.nonce.clone()
        };
        let version = Version { etag: etag.clone(), content: content.clone() };
        self.object = Some(Object { version, origin });
        Answer::Written(Written::Done(etag))
    }

    fn ask(&mut self, i: usize, flaw: Option<Flaw>) {
        let mut call = self.nodes[i].send(flaw);
        if self.nodes[i].connected {
            call.answer = Some(self.apply(&call.request, flaw));
        }
        self.nodes[i].finish(call, flaw);
    }

    fn tick(&mut self, paces: [u8; 2]) {
        self.second += 1;
        for (node, pace) in self.nodes.iter_mut().zip(paces) {
            if node.status != Status::Down {
                node.now += s(pace);
            }
            node.steady = if pace == 1 { node.steady.saturating_add(1) } else { 1 };
            self.drifts -= u8::from(pace != 1);
        }
    }

    /// Lets some seconds pass in which nothing goes wrong.
    fn run(&mut self, seconds: u8, flaw: Option<Flaw>) {
        for _ in 0..seconds {
            while let Some(i) = self.nodes.iter().position(Node::is_due) {
                self.ask(i, flaw);
            }
            self.tick([1, 1]);
        }
    }

    /// Who believes to hold the lease.
    fn believers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.believes())
    }

    fn came_by(&self, origin: Origin) -> bool {
        self.object.as_ref().is_some_and(|object| object.origin == origin)
    }

    /// When nothing goes wrong any more, one node soon holds the lease, and keeps it.
    fn has_one_holder_when_calm(&self, bounds: &Bounds) -> bool {
        let mut world = self.clone();
        for request in std::mem::take(&mut world.late) {
            world.apply(&request, bounds.flaw);
        }
        for node in &mut world.nodes {
            if node.status == Status::Down {
                *node = Node::new(bounds, node.name, node.restarts + 1);
            }
            (node.status, node.connected) = (Status::Up, true);
            node.lease.set_candidacy(Candidacy::Willing);
            if let Some(call) = node.call.take() {
                node.finish(call, bounds.flaw);
            }
        }
        let is_one_at_most = (0..CALMING).all(|_| {
            world.run(1, bounds.flaw);
            world.believers().count() <= 1
        });
        let holders = |world: &Self| world.nodes.each_ref().map(Node::believes);
        let before = holders(&world);
        is_one_at_most
            && (0..TTL).all(|_| {
                world.run(1, bounds.flaw);
                holders(&world) == before && world.believers().count() == 1
            })
    }
}
