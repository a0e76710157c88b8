//! The pool's rules, one by one and against a model.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn nine() -> Table<()> {
    Table::new(8192..=8200).unwrap()
}

fn granted(asked: (Id, Asked)) -> u16 {
    match asked.1 {
        Asked::Granted(port) => port,
        Asked::Queued => panic!("no port"),
    }
}

fn nobody<C>(port: u16, _: &mut C) {
    panic!("{port} was granted to someone");
}

#[test]
fn each_client_address_has_all_nine_ports_and_the_tenth_waits() {
    let mut table = nine();
    for client in [A, B] {
        let ports: HashSet<u16> = (0..9).map(|_| granted(table.reserve(client, ()))).collect();
        assert_eq!(ports, (8192..=8200).collect());
        assert_eq!(table.reserve(client, ()).1, Asked::Queued);
    }
}

#[test]
fn a_range_of_one_port_works_and_an_empty_one_is_refused() {
    let mut table = Table::new(65_535..=65_535).unwrap();
    for _ in 0..3 {
        assert_eq!(granted(table.reserve(A, ())), 65_535);
        assert_eq!(table.reserve(B, ()).1, Asked::Granted(65_535));
        assert!(table.arrive(A, 65_535, nobody).is_some());
        assert!(table.arrive(B, 65_535, nobody).is_some());
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
    let empty = 2..=1;
    assert!(Table::<()>::new(empty).is_none());
    assert!(Table::<()>::new(0..=65_535).is_none());
}

#[test]
fn a_preferred_port_comes_first_and_any_other_before_a_wait() {
    let mut table = nine();
    let mut place = |parity: u16| {
        let id = table.new_id();
        match table.place(A, id, (), |port| port % 2 == parity) {
            Asked::Granted(port) => Some(port),
            Asked::Queued => None,
        }
    };
    let granted = [1, 1, 0, 1, 1].map(|parity| place(parity).unwrap());
    let odd = granted.iter().filter(|port| *port % 2 == 1).count();
    assert_eq!((granted.len(), odd), (5, 4), "{granted:?}");
    // There are four odd ones.
    let others = [1, 1, 1, 1].map(|parity| place(parity).unwrap());
    let all: HashSet<u16> = granted.into_iter().chain(others).collect();
    assert_eq!(all, (8192..=8200).collect());
    assert_eq!(place(1), None);
}

#[test]
fn of_the_preferred_ports_too_the_one_used_longest_ago_comes_first() {
    let mut table = nine();
    let mut order = Vec::new();
    for _ in 0..20 {
        let id = table.new_id();
        let Asked::Granted(port) = table.place(A, id, (), |port| port % 2 == 0) else { panic!() };
        assert!(table.arrive(A, port, nobody).is_some());
        order.push(port);
    }
    assert!(order.iter().all(|port| port % 2 == 0), "{order:?}");
    assert_eq!(order[..5].iter().collect::<HashSet<_>>().len(), 5);
    assert_eq!(order[..15], order[5..]);
}

#[test]
fn the_whole_range_is_used_before_a_port_comes_again() {
    for at_once in 1..=9 {
        let mut table = nine();
        let mut order = Vec::new();
        while order.len() < 36 {
            let ports: Vec<_> = (0..at_once).map(|_| granted(table.reserve(A, ()))).collect();
            for port in ports {
                order.push(port);
                assert!(table.arrive(A, port, nobody).is_some());
            }
        }
        for (at, port) in order.iter().enumerate().skip(9) {
            assert_eq!(*port, order[at - 9], "{at_once} at once: {order:?}");
        }
    }
}

#[test]
fn a_freed_port_goes_to_whoever_has_waited_longest() {
    let mut table = Table::new(1000..=1000).unwrap();
    let (holder, _) = table.reserve(A, 'a');
    let (left, _) = table.reserve(A, 'b');
    table.reserve(A, 'c');
    table.reserve(A, 'd');
    assert!(!table.cancel(A, left), "it had no port");
    let mut order = Vec::new();
    assert!(table.cancel(A, holder));
    table.rested(A, holder, |port, claim| order.push((port, *claim)));
    assert_eq!(table.arrive(A, 1000, |port, claim| order.push((port, *claim))), Some('c'));
    assert_eq!(table.arrive(A, 1000, nobody), Some('d'));
    assert_eq!(order, [(1000, 'c'), (1000, 'd')]);
}

#[test]
fn a_late_connection_is_nobody_elses() {
    let mut table = Table::new(1000..=1000).unwrap();
    let (gone, _) = table.reserve(A, 'a');
    let (waiting, _) = table.reserve(A, 'b');
    assert!(table.cancel(A, gone));
    assert!(!table.cancel(A, gone));
    let mut next = None;
    assert_eq!(table.arrive(A, 1000, |port, _| next = Some(port)), None, "it came too late");
    assert_eq!(next, Some(1000), "and no other can come");
    table.rested(A, gone, nobody);
    assert!(table.cancel(A, waiting));
    assert_eq!(table.reserve(A, 'c').1, Asked::Queued);
    table.rested(A, waiting, |port, claim| assert_eq!((port, *claim), (1000, 'c')));
    assert_eq!(table.arrive(A, 1000, nobody), Some('c'));
    assert!(table.clients.is_empty());
}

#[test]
fn a_second_connection_and_another_address_are_strangers() {
    let mut table = nine();
    let port = granted(table.reserve(A, ()));
    assert!(table.arrive(B, port, nobody).is_none());
    assert!(table.arrive(A, port + 1, nobody).is_none());
    assert!(table.arrive(A, port, nobody).is_some());
    assert!(table.arrive(A, port, nobody).is_none());
}

#[test]
fn a_table_goes_on_with_what_another_one_held() {
    let mut old = Table::new(8192..=8200).unwrap();
    for claim in 0..11 {
        old.reserve(A, claim);
    }
    old.reserve(B, 100);
    let first = granted(old.reserve(B, 101));
    let mut new = Table::new(8192..=8200).unwrap();
    let mut waiting = Vec::new();
    for (client, port, _, claim) in old.entries() {
        match port {
            Some(port) => new.adopt(client, port, *claim).unwrap(),
            None => waiting.push((client, *claim)),
        }
    }
    assert_eq!(waiting, [(A, 9), (A, 10)], "in their order");
    for (client, claim) in waiting {
        assert_eq!(new.reserve(client, claim).1, Asked::Queued);
    }
    assert_eq!(new.adopt(B, first, 102), Err(102), "it is taken");
    assert_eq!(new.adopt(B, 9000, 102), Err(102), "there is no such port");
    for (client, port, _, claim) in old.entries().filter(|(_, port, ..)| port.is_some()) {
        let mut next = None;
        let arrived = new.arrive(client, port.unwrap(), |_, claim| next = Some(*claim));
        assert_eq!(arrived, Some(*claim));
    }
    // Of B's, seven were free all the time; those of A's queue have theirs now.
    assert_eq!(new.entries().count(), 2);
    assert!(new.find(A, |_, claim| *claim == 9).is_some());
    assert_eq!(new.take_all().len(), 2);
    let ports: HashSet<u16> = (0..9).map(|_| granted(new.reserve(A, 0))).collect();
    assert_eq!(ports.len(), 9);
}

#[test]
fn a_client_without_reservations_takes_no_memory() {
    let mut table = nine();
    for n in 0..10_000_u32 {
        let client = IpAddr::V4((0x0a00_0000 + n).into());
        let (id, asked) = table.reserve(client, ());
        match n % 2 {
            0 => {
                assert!(table.cancel(client, id));
                table.rested(client, id, nobody);
            }
            _ => assert!(table.arrive(client, granted((id, asked)), nobody).is_some()),
        }
    }
    assert!(table.clients.is_empty());
}

/// One thing that happens to a table; numbers choose among what there is.
#[derive(Debug, Clone, Copy)]
enum Step {
    Reserve(u8),
    Cancel(usize),
    CancelQueued(usize),
    Rested(usize),
    Arrive(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8).prop_map(Step::Reserve),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::CancelQueued),
        1 => any::<usize>().prop_map(Step::Rested),
        2 => any::<usize>().prop_map(Step::Arrive),
    ]
}

proptest! {
    /// Against a model that is nothing but lists: no port is held twice by one address, or while
    /// it rests; the queue is first come, first served, it is empty while a port is free, and in the end
    /// nothing is left.
    #[test]
    fn reservations_never_collide(count in 1..=9_u16, steps in prop::collection::vec(step(), 1..200)) {
        let mut table = Table::new(8192..=8191 + count).unwrap();
        // Those whose claim is gone rest.
        let mut held: Vec<(IpAddr, Id, u16, bool)> = Vec::new();
        let mut queues: HashMap<IpAddr, VecDeque<Id>> = HashMap::new();
        let mut ids = 0;
        let steps = steps.into_iter().chain((0..400).map(|_| Step::Arrive(0)));
        for step in steps {
            let mut freed = None;
            let mut next = None;
            let mut tell = |port: u16, claim: &mut Id| next = Some((*claim, port));
            match step {
                Step::Reserve(client) => {
                    let client = IpAddr::V4([10, 0, 0, client].into());
                    let (id, asked) = table.reserve(client, ids);
                    prop_assert_eq!(id, ids);
                    ids += 1;
                    let holds = held.iter().filter(|(holder, ..)| *holder == client).count();
                    match asked {
                        Asked::Granted(port) => {
                            prop_assert!((8192..8192 + count).contains(&port));
                            prop_assert!(!held.iter().any(|&(c, _, p, _)| (c, p) == (client, port)));
                            held.push((client, id, port, false));
                        }
                        Asked::Queued => {
                            prop_assert_eq!(holds, usize::from(count));
                            queues.entry(client).or_default().push_back(id);
                        }
                    }
                }
                Step::Cancel(which) if !held.is_empty() => {
                    let at = which % held.len();
                    let (client, id, _, rests) = &mut held[at];
                    prop_assert_eq!(table.cancel(*client, *id), !*rests);
                    *rests = true;
                }
                Step::Rested(which) if !held.is_empty() => {
                    let at = which % held.len();
                    let (client, id, port, rests) = held[at];
                    table.rested(client, id, &mut tell);
                    if rests {
                        held.swap_remove(at);
                        freed = Some((client, port));
                    }
                }
                Step::CancelQueued(which) => {
                    let queued: Vec<_> =
                        queues.iter().flat_map(|(c, q)| q.iter().map(|id| (*c, *id))).collect();
                    if !queued.is_empty() {
                        let (client, id) = queued[which % queued.len()];
                        prop_assert!(!table.cancel(client, id));
                        queues.get_mut(&client).unwrap().retain(|other| *other != id);
                    }
                }
                Step::Arrive(which) if !held.is_empty() => {
                    let (client, id, port, rests) = held.swap_remove(which % held.len());
                    let claim = table.arrive(client, port, &mut tell);
                    prop_assert_eq!(claim, (!rests).then_some(id));
                    freed = Some((client, port));
                }
                Step::Cancel(_) | Step::Rested(_) | Step::Arrive(_) => {}
            }
            if let Some((client, port)) = freed {
                let first = queues.get_mut(&client).and_then(VecDeque::pop_front);
                prop_assert_eq!(next, first.map(|id| (id, port)));
                held.extend(first.map(|id| (client, id, port, false)));
            }
        }
        prop_assert!(held.is_empty() && table.clients.is_empty());
    }
}
