//! What may happen next, what must hold, and how far that is explored.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::super::protocol::{Candidacy, Request};
use super::{Bounds, Call, Flaw, Kind, Node, Origin, Status, TTL, World};

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

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
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
                actions.extend([Status::Up, Status::Down].map(|s| Action::Status(i, s)));
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
            // Both have waited for a TTL and the margin, and `a` was the first to write.
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
                let call = world.nodes[i].call.take()?;
                world.late.extend(call.on_its_way().cloned());
                world.nodes[i].finish(Call { answer: None, ..call }, flaw);
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
                    world.late.extend(call.as_ref().and_then(Call::on_its_way).cloned());
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
        let mut properties = vec![
            Property::always(ONE, |_, world: &World| world.believers().count() <= 1),
            Property::always(NAMED, |_, world: &World| {
                let content = world.object.as_ref().map(|object| &object.version.content);
                world.believers().all(|node| content.is_some_and(|c| node.is_author_of(c)))
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
        ];
        // Who deletes the object makes these untrue.
        let deletes = self.kinds.contains(&Kind::Delete);
        properties.retain(|property| !(deletes && [NAMED, FENCED].contains(&property.name)));
        properties
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
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    fs::create_dir_all(&target).unwrap();
    let file = OpenOptions::new().create(true).append(true).open(target.join("lease-model.txt"));
    file.and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
}

#[test]
fn whatever_goes_wrong_twice() {
    use Kind::{Crash, Cut, Pause, Repeat, Slow, Wish};
    let kinds = &[Slow, Repeat, Crash, Pause, Cut, Wish];
    let bounds = Bounds { name: "any two faults", seconds: 8, kinds, faults: 2, ..BOUNDS };
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
        Bounds { name: "slow requests and wishes", seconds: 4, kinds, faults: 3, ..BOUNDS };
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
