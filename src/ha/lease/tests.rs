//! The transitions of the lease, one by one; `model` looks at all of them together.

use std::time::Duration;

use super::protocol::{
    Candidacy, Content, Lease, Moment, Next, Request, Settings, State, Version, Written,
};

fn s(seconds: f64) -> Moment {
    Duration::from_secs_f64(seconds)
}

fn lease(node: &str) -> Lease {
    let settings = Settings {
        node: node.into(),
        incarnation: format!("{node}1"),
        ttl: s(5.0),
        margin: s(0.5),
        renewal: s(1.5),
        reading: s(1.0),
    };
    Lease::new(settings, Candidacy::Willing)
}

/// S3, which always answers at once unless told otherwise.
#[derive(Default)]
struct Store {
    version: Option<Version>,
    writes: usize,
}

impl Store {
    fn write(&mut self, expected: Option<&String>, content: Content) -> Written {
        if self.version.as_ref().map(|version| &version.etag) != expected {
            return Written::Refused;
        }
        self.writes += 1;
        let etag = format!("\"{}\"", content.nonce);
        self.version = Some(Version { etag: etag.clone(), content });
        Written::Done(etag)
    }

    /// Lets a node do all that is due at that moment.
    fn serve(&mut self, lease: &mut Lease, now: Moment) -> Moment {
        loop {
            match lease.poll(now) {
                Next::Send(Request::Read) => {
                    lease.handle_read(now, Ok::<_, ()>(self.version.clone()));
                }
                Next::Send(Request::Write { expected, content }) => {
                    let written = self.write(expected.as_ref(), content);
                    lease.handle_write(now, written);
                }
                Next::Wait(until) => return until,
                Next::Busy => panic!("nothing is in flight"),
            }
        }
    }

    /// Lets a node run from one moment to another.
    fn run(&mut self, lease: &mut Lease, from: f64, to: f64) {
        let mut now = s(from);
        while now <= s(to) {
            now = self.serve(lease, now).max(now + s(0.001));
        }
    }
}

/// A store and a node that holds the lease, having renewed it at 10 s.
fn held() -> (Store, Lease) {
    let (mut store, mut a) = (Store::default(), lease("a"));
    store.run(&mut a, 0.0, 9.0);
    assert!(a.is_held(s(9.0)));
    store.run(&mut a, 9.0, 10.0);
    (store, a)
}

fn write_of(lease: &mut Lease, now: Moment) -> (Option<String>, Content) {
    match lease.poll(now) {
        Next::Send(Request::Write { expected, content }) => (expected, content),
        other => panic!("no write: {other:?}"),
    }
}

#[test]
fn an_absent_lease_is_taken_after_a_whole_ttl() {
    let (mut store, mut a) = (Store::default(), lease("a"));
    store.run(&mut a, 0.0, 5.4);
    assert!(!a.is_held(s(5.4)));
    store.run(&mut a, 5.4, 5.6);
    assert!(a.is_held(s(5.6)));
    assert_eq!(store.version.unwrap().content.generation, 1);
}

#[test]
fn a_holder_renews_and_others_keep_away() {
    let (mut store, mut a) = held();
    let mut b = lease("b");
    let mut now = s(10.0);
    while now < s(60.0) {
        store.serve(&mut a, now);
        store.serve(&mut b, now);
        assert!(a.is_held(now) && !b.is_held(now));
        now += s(0.1);
    }
    assert_eq!(store.version.unwrap().content.generation, 1);
}

#[test]
fn a_forged_lease_keeps_nobody_from_it_for_longer_than_a_ttl() {
    let mut store = Store::default();
    let content = Content {
        generation: u64::MAX,
        holder: "nobody".into(),
        state: State::Held,
        nonce: String::new(),
    };
    store.version = Some(Version { etag: "\"forged\"".into(), content });
    let mut a = lease("a");
    store.run(&mut a, 0.0, 5.4);
    assert!(!a.is_held(s(5.4)));
    store.run(&mut a, 5.4, 20.0);
    assert!(a.is_held(s(20.0)));
}

/// As it is after a hand-over within its node: through JSON, to a process that has a run of its own.
fn carried(lease: &Lease, node: &str) -> Lease {
    let text = serde_json::to_string(lease).unwrap();
    let carried: Lease = serde_json::from_str(&text).unwrap();
    let settings = Settings {
        node: node.into(),
        incarnation: "another".into(),
        ttl: s(5.0),
        margin: s(0.5),
        renewal: s(1.0),
        reading: s(1.0),
    };
    carried.go_on(settings, Candidacy::Reluctant)
}

#[test]
fn the_holders_next_process_goes_on_and_nobody_else_notices() {
    let (mut store, mut a) = held();
    let mut b = lease("b");
    let mut now = s(10.0);
    let mut writes = 0;
    while now < s(60.0) {
        // Each second another process.
        a = carried(&a, "a");
        assert!(a.is_held(now), "from the first moment on");
        a.set_candidacy(Candidacy::Willing);
        for _ in 0..10 {
            store.serve(&mut a, now);
            store.serve(&mut b, now);
            assert!(a.is_held(now) && !b.is_held(now));
            now += s(0.1);
        }
        writes = store.writes;
    }
    let content = store.version.unwrap().content;
    assert_eq!((content.generation, &*content.nonce), (1, &*format!("a1.{}", writes - 1)));
}

#[test]
fn a_dead_holder_is_replaced_within_a_ttl_and_its_belief_ends_before() {
    let (mut store, a) = held();
    let mut b = lease("b");
    store.run(&mut b, 10.0, 15.45);
    assert!(!b.is_held(s(15.45)));
    assert!(!a.is_held(s(14.6)));
    store.run(&mut b, 15.45, 15.6);
    assert!(b.is_held(s(15.6)));
    assert_eq!(store.version.unwrap().content.generation, 2);
}

#[test]
fn belief_counts_from_before_the_write_was_sent() {
    let (mut store, mut a) = held();
    let (expected, content) = write_of(&mut a, s(12.0));
    let written = store.write(expected.as_ref(), content);
    a.handle_write(s(13.0), written);
    assert_eq!(a.held_until(), Some(s(12.0 + 4.5)));
}

#[test]
fn a_success_whose_answer_was_lost_is_recognised() {
    for answer in [Written::Unknown, Written::Refused] {
        let (mut store, mut a) = held();
        let (expected, content) = write_of(&mut a, s(12.0));
        store.write(expected.as_ref(), content);
        a.handle_write(s(12.2), answer);
        store.run(&mut a, 12.2, 13.1);
        assert_eq!(a.held_until(), Some(s(12.0 + 4.5)));
        let writes = store.writes;
        store.run(&mut a, 13.1, 13.6);
        assert_eq!(store.writes, writes + 1, "renewed in time");
    }
}

#[test]
fn who_is_replaced_steps_down_when_it_sees_so() {
    let (mut store, mut a) = held();
    let mut b = lease("b");
    store.run(&mut b, 10.0, 16.0);
    assert!(b.is_held(s(16.0)));
    store.run(&mut a, 16.0, 16.1);
    assert!(!a.owns() && a.content().unwrap().holder == "b");
}

#[test]
fn s3_gone_for_everyone_changes_nothing() {
    let (mut store, mut a) = held();
    let mut b = lease("b");
    store.run(&mut b, 10.0, 10.9);
    // Ten minutes without an answer.
    let mut now = s(11.0);
    while now < s(611.0) {
        for lease in [&mut a, &mut b] {
            match lease.poll(now) {
                Next::Send(Request::Read) => lease.handle_read(now, Err::<Option<Version>, _>(())),
                Next::Send(Request::Write { .. }) => lease.handle_write(now, Written::Unknown),
                Next::Wait(_) | Next::Busy => {}
            }
        }
        now += s(0.25);
    }
    assert!(a.owns() && !a.is_held(now));
    // It comes back, and the other one is the first to see it.
    store.serve(&mut b, now);
    store.run(&mut a, 611.5, 613.0);
    assert!(a.is_held(s(613.0)));
    store.run(&mut b, 613.0, 617.0);
    assert_eq!(store.version.unwrap().content.generation, 1);
}

#[test]
fn a_released_lease_is_taken_at_once_and_not_by_the_one_that_released_it() {
    let (mut store, mut a) = held();
    let mut b = lease("b");
    store.serve(&mut b, s(10.0));
    a.set_handing_over(true);
    store.serve(&mut a, s(10.3));
    assert!(!a.is_held(s(10.3)));
    store.run(&mut a, 10.3, 10.9);
    assert!(!a.is_held(s(10.9)));
    store.run(&mut b, 10.9, 11.1);
    assert!(b.is_held(s(11.1)));
}

#[test]
fn who_found_no_taker_takes_it_back() {
    let (mut store, mut a) = held();
    a.set_handing_over(true);
    store.run(&mut a, 10.3, 26.0);
    assert!(!a.is_held(s(26.0)));
    store.run(&mut a, 26.0, 28.0);
    assert!(a.is_held(s(28.0)));
}

#[test]
fn a_release_that_is_called_off_is_harmless() {
    let (mut store, mut a) = held();
    a.set_handing_over(true);
    let (expected, released) = write_of(&mut a, s(10.3));
    a.handle_write(s(11.3), Written::Unknown);
    a.set_handing_over(false);
    store.run(&mut a, 11.3, 13.0);
    assert!(a.is_held(s(13.0)));
    assert_eq!(released.state, State::Released);
    assert_eq!(store.write(expected.as_ref(), released), Written::Refused, "it comes too late");
}

#[test]
fn a_node_that_cannot_serve_lets_others_go_first() {
    let (mut store, _) = held();
    let mut b = lease("b");
    b.set_candidacy(Candidacy::Reluctant);
    store.run(&mut b, 10.0, 26.0);
    assert!(!b.is_held(s(26.0)));
    store.run(&mut b, 26.0, 27.0);
    assert!(b.is_held(s(27.0)), "better it than nobody");
    b.set_candidacy(Candidacy::Never);
    store.serve(&mut b, s(27.1));
    assert!(!b.is_held(s(27.1)));
    store.run(&mut b, 27.1, 60.0);
    assert!(!b.is_held(s(60.0)));
}

#[test]
fn a_holder_whose_lease_was_deleted_makes_it_anew_before_others() {
    let (mut store, mut a) = held();
    let mut b = lease("b");
    store.version = None;
    store.serve(&mut b, s(10.0));
    store.run(&mut a, 10.0, 13.0);
    assert!(a.is_held(s(13.0)));
    assert_eq!(store.version.clone().unwrap().content.generation, 2);
    store.run(&mut b, 13.0, 15.0);
    assert!(!b.is_held(s(15.0)));
}

#[test]
fn answers_that_never_come_are_not_asked_for_in_a_tight_loop() {
    let (_, mut a) = held();
    let mut requests = 0;
    let mut now = s(10.0);
    while now < s(20.0) {
        match a.poll(now) {
            Next::Send(Request::Read) => a.handle_read(now, Err::<Option<Version>, _>(())),
            Next::Send(Request::Write { .. }) => a.handle_write(now, Written::Refused),
            Next::Wait(until) => {
                assert!(until > now);
                now = until;
                continue;
            }
            Next::Busy => panic!(),
        }
        requests += 1;
    }
    assert!(requests <= 22, "{requests}");
}
