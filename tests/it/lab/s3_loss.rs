//! S3 fails, and no client notices.

use std::time::{Duration, Instant};

use super::load::Load;
use super::network::Place;
use super::s3::Fault;
use super::{Lab, Mode, record};
use crate::harness::eventually;

/// A lease so short that many of it are soon over.
const TTL: Duration = Duration::from_secs(1);
/// For so many of it S3 is gone: in the long run of [`super::lease`] as many as a lease of the
/// default length has in 10 minutes.
const LOSS: Duration = Duration::from_secs(40);
const LONG_LOSS: Duration = Duration::from_secs(120);
const PER_SECOND: u32 = 10;

/// Waits until so many more transfers are complete.
fn more(load: &Load, count: usize) {
    let before = load.done();
    eventually("transfers", || (load.done() >= before + count).then_some(()));
}

#[test]
fn while_nobody_reaches_s3_the_active_gateway_stays_so_and_no_transfer_fails() {
    let lab = Lab::with_ttl(Mode::LeaseRecord, TTL);
    let active = lab.wait_until_whole();
    let load = Load::start(&lab.client, PER_SECOND);
    more(&load, 10);
    let holders = lab.s3.holders();
    lab.s3.fail(Some(Fault::Cut));
    let started = Instant::now();
    let loss = if super::lease::is_long() { LONG_LOSS } else { LOSS };
    while started.elapsed() < loss {
        assert_eq!(lab.active(), [active], "after {:?}", started.elapsed());
        more(&load, 1);
    }
    lab.s3.fail(None);
    let writes = lab.s3.writes().len();
    eventually("the lease to be renewed", || (lab.s3.writes().len() > writes + 3).then_some(()));
    more(&load, 10);
    assert_eq!(lab.wait_until_whole(), active);
    let outcome = load.stop();
    record!("{} transfers, the longest {:?}", outcome.times.len(), outcome.times.iter().max());
    assert_eq!(outcome.failures, []);
    assert_eq!(lab.s3.holders(), holders, "nobody has taken it over");
}

#[test]
fn when_only_the_active_gateway_loses_s3_the_other_takes_over_once() {
    let lab = Lab::with_ttl(Mode::LeaseRecord, TTL);
    let active = lab.wait_until_whole();
    let other = active.other();
    let before = lab.s3.holders();
    let load = Load::start(&lab.client, PER_SECOND);
    more(&load, 10);
    let lost = Instant::now();
    lab.s3.fail_for(active.address(), Some(Fault::Cut));
    lab.wait_for_active(other);
    let writes = lab.s3.writes().into_iter();
    let first =
        writes.filter(|write| write.at > lost).find(|write| write.holder().1 == other.name());
    record!("taken over {:?} after the loss", first.unwrap().at - lost);
    more(&load, PER_SECOND as usize * LOSS.as_secs() as usize / 2);
    assert_eq!(lab.active(), [other]);
    lab.s3.fail_for(active.address(), None);
    more(&load, PER_SECOND as usize * 10);
    assert_eq!(lab.wait_until_whole(), other, "nothing moves back by itself");
    let outcome = load.stop();
    assert_eq!(outcome.failures, []);
    let after = lab.s3.holders();
    assert_eq!(after.len(), before.len() + 1, "one takeover: {after:?}");
    assert_eq!(after[after.len() - 1].1, other.name());
}

/// Whether both believe to hold the lease: one before and after the other does.
fn both_hold(lab: &Lab) -> bool {
    let [a, c] = Place::GATEWAYS;
    [a, c, a].into_iter().all(|place| lab.node(place).report()["lease"]["held"] == true)
}

#[test]
fn however_s3_fails_one_of_them_never_do_both_hold_the_lease() {
    let lab = Lab::with_ttl(Mode::LeaseRecord, TTL);
    let active = lab.wait_until_whole();
    let faults = [Fault::LoseReplies, Fault::Unavailable, Fault::Conflict, Fault::Delay(TTL * 2)];
    for fault in faults {
        let writes = lab.s3.writes().len();
        lab.s3.fail_for(active.address(), Some(fault));
        let started = Instant::now();
        while started.elapsed() < TTL * 3 {
            assert!(!both_hold(&lab), "{fault:?}: {:?}", lab.reports());
        }
        lab.s3.fail_for(active.address(), None);
        lab.wait_until_whole();
        assert!(lab.s3.writes().len() > writes, "somebody keeps the lease: {fault:?}");
    }
}
