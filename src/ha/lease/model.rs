//! Every run of two nodes and one object within bounds: the lease's own transitions, not a copy of
//! them, under slow, lost, repeated and late requests, crashes, pauses, partitions, changes of mind
//! and clocks that run at different speeds.
//!
//! Time is in whole seconds. What happens at one instant happens in every order. A request that is
//! not slow is answered in the instant in which it is sent; a slow one costs a fault, and may then
//! reach the store, be answered or be given up at any time, however late: nothing relies on
//! time-outs. A write that was given up stays on its way.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::protocol::{
    Candidacy, Content, Lease, Moment, Next, Request, Settings, State, Version, Written,
};

const TTL: u8 = 4;
const NAMES: [&str; 2] = ["a", "b"];

/// A TTL and the margin, twice, and some readings: so long it takes at most until one node holds
/// the lease for good.
const CALMING: u8 = 12;

const ONE: &str = "at most one node believes that it holds the lease";
const NAMED: &str = "the object is a version of who believes";
const FENCED: &str = "a generation has one holder and is never followed by a lower one";
const CALM: &str = "one node holds it soon after things went wrong for the last time";
const ALWAYS: [&str; 4] = [ONE, NAMED, FENCED, CALM];

const BOTH: &str = "the other node holds it";
const TAKEN: &str = "it is taken over";
const FOLLOWED: &str = "it is taken from who released it";
const RECOGNISED: &str = "a success whose answer was lost is recognised";

const BOUNDS: Bounds = Bounds {
    name: "",
    held: true,
    seconds: 10,
    faults: 0,
    kinds: &[],
    drifts: 0,
    drift_gap: TTL,
    margin: 1,
    renewal: 2,
    flaw: None,
};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Up,
    Paused,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Answer {
    Read(Option<Version>),
    Written(Written),
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// A second passes, and the nodes' clocks advance by so much.
    Tick([u8; 2]),
    /// A node sends what is due and is answered at once.
    Ask(usize),
    /// A node sends what is due.
    Send(usize),
    /// A slow request reaches the store.
    Arrive(usize),
    /// Its answer reaches the node.
    Answer(usize),
    /// The node does not wait for it any longer.
    GiveUp(usize),
    /// A write that was given up reaches the store.
    ArriveLate(usize),
    Status(usize, Status),
    Connect(usize, bool),
    Candidacy(usize, Candidacy),
    HandOver(usize, bool),
    Delete,
}

fn s(seconds: u8) -> Duration {
    Duration::from_secs(seconds.into())
}

/// The run of a node that wrote that.
fn writer(content: &Content) -> &str {
    content.nonce.split_once('.').unwrap().0
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
        world.run(CALMING, bounds.flaw);
        let holders = |world: &Self| world.nodes.each_ref().map(Node::believes);
        let before = holders(&world);
        (0..TTL).all(|_| {
            world.run(1, bounds.flaw);
            holders(&world) == before && world.believers().count() == 1
        })
    }
}

// === impl Bounds ===

impl Bounds {
    fn paces(&self, world: &World, i: usize) -> &'static [u8] {
        let node = &world.nodes[i];
        let even = world.drifts == 0 || node.steady < self.drift_gap;
        if even || node.status == Status::Down { &[1] } else { &[1, 0, 2] }
    }

    fn is_fault(&self, world: &World, action: Action) -> Option<Kind> {
        match action {
            Action::Send(_) => Some(Kind::Slow),
            Action::Arrive(i) => {
                let call = world.nodes[i].call.as_ref();
                call.is_some_and(|call| call.answer.is_some()).then_some(Kind::Repeat)
            }
            Action::Status(_, Status::Down) => Some(Kind::Crash),
            Action::Status(_, Status::Paused) => Some(Kind::Pause),
            Action::Connect(_, false) => Some(Kind::Cut),
            Action::Candidacy(..) | Action::HandOver(..) => Some(Kind::Wish),
            Action::Delete => Some(Kind::Delete),
            _ => None,
        }
    }

    /// What a node may do, or what may be done to it.
    fn node_actions(world: &World, i: usize, actions: &mut Vec<Action>) {
        let node = &world.nodes[i];
        match node.status {
            Status::Down => actions.push(Action::Status(i, Status::Up)),
            Status::Paused => {
                actions.extend([Status::Up, Status::Down].map(|s| Action::Status(i, s)))
            }
            Status::Up => {
                actions.extend([Status::Paused, Status::Down].map(|s| Action::Status(i, s)));
                for candidacy in [Candidacy::Willing, Candidacy::Reluctant, Candidacy::Never] {
                    actions.push(Action::Candidacy(i, candidacy));
                }
                actions.extend([true, false].map(|hands_over| Action::HandOver(i, hands_over)));
            }
        }
        actions.push(Action::Connect(i, !node.connected));
        if node.is_due() {
            actions.push(Action::Ask(i));
            if node.connected {
                actions.push(Action::Send(i));
            }
        }
        if let Some(call) = &node.call {
            if call.answer.is_none() || matches!(call.request, Request::Write { .. }) {
                actions.push(Action::Arrive(i));
            }
            if node.status == Status::Up {
                actions.push(Action::GiveUp(i));
                if call.answer.is_some() {
                    actions.push(Action::Answer(i));
                }
            }
        }
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(self);
        if self.held {
            // The nodes' clocks do not agree, and `a` has just renewed.
            world.run(TTL + self.margin + 1, self.flaw);
            world.second = 0;
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for i in 0..world.nodes.len() {
            Self::node_actions(world, i, actions);
        }
        actions.extend((0..world.late.len()).map(Action::ArriveLate));
        if world.object.is_some() {
            actions.push(Action::Delete);
        }
        actions.retain(|&action| {
            self.is_fault(world, action)
                .is_none_or(|kind| world.faults > 0 && self.kinds.contains(&kind))
        });
        if world.second < self.seconds && !world.nodes.iter().any(Node::is_due) {
            for &a in self.paces(world, 0) {
                for &b in self.paces(world, 1) {
                    if u8::from(a != 1) + u8::from(b != 1) <= world.drifts {
                        actions.push(Action::Tick([a, b]));
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let flaw = self.flaw;
        match action {
            Action::Tick(paces) => world.tick(paces),
            Action::Ask(i) => world.ask(i, flaw),
            Action::Send(i) => world.nodes[i].call = Some(world.nodes[i].send(flaw)),
            Action::Arrive(i) => {
                let mut call = world.nodes[i].call.take()?;
                call.answer = Some(world.apply(&call.request, flaw));
                world.nodes[i].call = Some(call);
            }
            Action::Answer(i) => {
                let call = world.nodes[i].call.take()?;
                world.nodes[i].finish(call, flaw);
            }
            Action::GiveUp(i) => {
                let mut call = world.nodes[i].call.take()?;
                if call.answer.take().is_none() && call.request != Request::Read {
                    world.late.push(call.request.clone());
                }
                world.nodes[i].finish(call, flaw);
            }
            Action::ArriveLate(k) => {
                let request = world.late.remove(k);
                world.apply(&request, flaw);
            }
            Action::Status(i, Status::Up) if last.nodes[i].status == Status::Down => {
                let Node { name, restarts, connected, .. } = last.nodes[i];
                world.nodes[i] = Node { connected, ..Node::new(self, name, restarts + 1) };
            }
            Action::Status(i, status) => {
                world.nodes[i].status = status;
                if status == Status::Down {
                    // All that is left of a dead node is what it had sent.
                    let call = world.nodes[i].call.take();
                    let on_its_way =
                        |call: &Call| call.answer.is_none() && call.request != Request::Read;
                    world.late.extend(call.filter(on_its_way).map(|call| call.request));
                    let Node { name, restarts, connected, .. } = last.nodes[i];
                    world.nodes[i] = Node { status, connected, ..Node::new(self, name, restarts) };
                }
            }
            Action::Connect(i, connected) => world.nodes[i].connected = connected,
            Action::Candidacy(i, candidacy) => world.nodes[i].lease.set_candidacy(candidacy),
            Action::HandOver(i, hands_over) => world.nodes[i].lease.set_handing_over(hands_over),
            Action::Delete => world.object = None,
        }
        // What changes nothing is no fault.
        let changes = world != *last;
        world.faults -= u8::from(self.is_fault(last, action).is_some());
        changes.then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |_, world: &World| world.believers().count() <= 1),
            Property::always(NAMED, |bounds: &Self, world: &World| {
                let content = world.object.as_ref().map(|object| &object.version.content);
                bounds.kinds.contains(&Kind::Delete)
                    || world.believers().all(|node| content.is_some_and(|c| node.is_author_of(c)))
            }),
            Property::always(FENCED, |_, world: &World| world.fenced),
            Property::always(CALM, |bounds: &Self, world: &World| {
                // The end of every run; whoever holds it before may hold it on.
                world.second < bounds.seconds || world.has_one_holder_when_calm(bounds)
            }),
            Property::sometimes(BOTH, |_, world: &World| world.nodes[1].believes()),
            Property::sometimes(TAKEN, |_, world: &World| world.came_by(Origin::TakenOver)),
            Property::sometimes(FOLLOWED, |_, world: &World| world.came_by(Origin::Followed)),
            Property::sometimes(RECOGNISED, |_, world: &World| {
                world.believers().any(|node| node.recognised)
            }),
        ]
    }
}

// === what is checked ===

/// Explores all there is within the bounds. Each of the properties that must always hold does, and
/// of the others those expected are reached.
fn check(bounds: Bounds, expected: &[&'static str]) {
    let started = Instant::now();
    let checker = bounds.clone().checker().threads(2).spawn_bfs().join();
    report(&bounds, &checker, started);
    for must in ALWAYS {
        if let Some(path) = checker.discovery(must) {
            panic!("not so: {must}\n{:?}\n{:#?}", path.clone().into_actions(), path.last_state());
        }
    }
    for may in expected {
        assert!(checker.discovery(may).is_some(), "never: {may}");
    }
}

/// Explores until two nodes believe in the lease at one instant, as they will.
fn check_broken(bounds: Bounds) {
    let started = Instant::now();
    let found = HasDiscoveries::AllOf([ONE].into());
    let checker = bounds.clone().checker().threads(2).finish_when(found).spawn_bfs().join();
    report(&bounds, &checker, started);
    assert!(checker.discovery(ONE).is_some(), "not found out");
}

/// Prints what was explored, and keeps it in `target/lease-model.txt`.
fn report(bounds: &Bounds, checker: &impl Checker<Bounds>, started: Instant) {
    let found = checker.discoveries();
    let mut text = format!(
        "{}: {} states, {} of them different, {} steps deep, in {:.1} s\n",
        bounds.name,
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f64(),
    );
    let is_broken = ALWAYS.iter().any(|name| found.contains_key(name));
    for Property { name, .. } in bounds.properties() {
        text += &match (found.get(name), ALWAYS.contains(&name)) {
            (None, true) if !is_broken => format!("  always: {name}\n"),
            (Some(_), false) if !is_broken => format!("  sometimes: {name}\n"),
            (Some(path), true) => {
                format!("  broken in {} steps: {name}\n", path.clone().into_actions().len())
            }
            _ => continue,
        };
    }
    println!("{text}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/lease-model.txt");
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
}

#[test]
fn whatever_goes_wrong_twice() {
    use Kind::{Crash, Cut, Pause, Repeat, Slow, Wish};
    let kinds = &[Slow, Repeat, Crash, Pause, Cut, Wish];
    let bounds = Bounds { name: "any two faults", seconds: 7, kinds, faults: 2, ..BOUNDS };
    check(bounds, &[BOTH, TAKEN, FOLLOWED, RECOGNISED]);
}

#[test]
fn clocks_that_run_at_different_speeds() {
    let kinds = &[Kind::Slow, Kind::Crash, Kind::Pause];
    let bounds = Bounds {
        name: "a fault and two drifts",
        seconds: 6,
        kinds,
        faults: 1,
        drifts: 2,
        ..BOUNDS
    };
    check(bounds, &[BOTH, TAKEN, RECOGNISED]);
}

#[test]
fn requests_that_come_late_while_nodes_change_their_minds() {
    let kinds = &[Kind::Slow, Kind::Wish];
    let bounds =
        Bounds { name: "slow requests and wishes", seconds: 3, kinds, faults: 3, ..BOUNDS };
    check(bounds, &[BOTH, FOLLOWED, RECOGNISED]);
}

#[test]
fn the_first_lease() {
    let kinds = &[Kind::Slow, Kind::Repeat, Kind::Crash, Kind::Pause, Kind::Cut];
    let bounds =
        Bounds { name: "the first lease", held: false, seconds: 8, kinds, faults: 2, ..BOUNDS };
    check(bounds, &[BOTH, RECOGNISED]);
}

#[test]
fn an_object_that_is_deleted() {
    let kinds = &[Kind::Delete];
    let bounds = Bounds { name: "a deletion and a drift", kinds, faults: 1, drifts: 1, ..BOUNDS };
    check(bounds, &[]);
}

/// No version tells that the object had been there in between. Operators delete it once, or never.
#[test]
fn an_object_that_is_deleted_as_soon_as_it_is_made_anew_has_two_holders() {
    let kinds = &[Kind::Delete];
    check_broken(Bounds { name: "known: two deletions", kinds, faults: 2, ..BOUNDS });
}

#[test]
fn a_margin_is_needed_if_clocks_drift() {
    check_broken(Bounds { name: "seeded: no margin", margin: 0, drifts: 2, ..BOUNDS });
}

#[test]
fn a_margin_is_for_so_much_and_no_more() {
    let bounds = Bounds { name: "seeded: too much drift", drifts: 4, drift_gap: 2, ..BOUNDS };
    check_broken(bounds);
}

#[test]
fn mistakes_are_found_out() {
    use Flaw::{BeliefFromAnswer, EtagsRepeat, SeenWhenAsked, SilenceIsSuccess};
    let flaws = [
        ("seeded: belief counts from the answer", BeliefFromAnswer),
        ("seeded: a version is as old as the question", SeenWhenAsked),
        ("seeded: silence is taken for success", SilenceIsSuccess),
        ("seeded: the nonce is forgotten", EtagsRepeat),
    ];
    let kinds = &[Kind::Slow, Kind::Wish];
    for (name, flaw) in flaws {
        check_broken(Bounds { name, kinds, faults: 2, flaw: Some(flaw), ..BOUNDS });
    }
}
