//! Gateways that are stopped or drained, and gateways without an endpoint.

use super::load::Load;
use super::network::Place;
use super::{Lab, Mode, TTL, record};
use crate::harness::eventually;

const PER_SECOND: u32 = 20;

/// Waits until so many more transfers are complete.
fn more(load: &Load, count: usize) {
    let before = load.done();
    eventually("transfers", || (load.done() >= before + count).then_some(()));
}

#[test]
fn an_active_gateway_that_is_drained_or_stopped_fails_no_transfer() {
    let mut lab = Lab::start(Mode::LeaseRecord);
    let active = lab.wait_until_whole();
    let load = Load::start(&lab.client, PER_SECOND);
    more(&load, 20);
    let drained = lab.ftpgate(active, &["drain"]);
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    assert!(lab.node(active).is_refusing());
    assert_eq!(lab.active(), [active.other()]);
    more(&load, 20);
    assert!(lab.ftpgate(active, &["resume"]).status.success());
    assert_eq!(lab.wait_until_whole(), active.other(), "it comes back as the standby");
    lab.stop_gateway(active.other());
    lab.wait_for_active(active);
    more(&load, 20 * TTL.as_secs() as usize);
    let outcome = load.stop();
    record!(
        "drain and stop under load: {} transfers, {} failed",
        outcome.times.len(),
        outcome.failures.len()
    );
    assert_eq!(outcome.failures, []);
}

#[test]
fn a_gateway_without_an_endpoint_gives_its_role_up_if_its_peer_can_serve_and_never_if_not() {
    let lab = Lab::start(Mode::LeaseRecord);
    let active = lab.wait_until_whole();
    let other = active.other();
    let endpoints = [Place::EndpointA, Place::EndpointC];
    for endpoint in endpoints {
        lab.network.cut_between(active, endpoint);
    }
    lab.wait_for_active(other);
    let moved = lab.s3.holders().len();
    // Now the peer is not better off.
    for endpoint in endpoints {
        lab.network.cut_between(other, endpoint);
    }
    eventually("the peer to be without an endpoint", || {
        (!lab.node(other).is_ready()).then_some(())
    });
    let writes = lab.s3.writes().len();
    eventually("the lease to be renewed", || (lab.s3.writes().len() > writes + 4).then_some(()));
    assert_eq!(lab.s3.holders().len(), moved, "nobody else has taken it");
    assert_eq!(lab.node(other).report()["role"], "active");
    // First the holder: to a peer that is ready before it, it would hand over, and rightly.
    for place in [other, active] {
        for endpoint in endpoints {
            lab.network.mend_between(place, endpoint);
        }
        eventually("it to be ready", || lab.node(place).is_ready().then_some(()));
    }
    assert_eq!(lab.wait_until_whole(), other);
}

#[test]
fn an_order_that_would_leave_clients_with_nobody_is_refused() {
    let mut lab = Lab::start(Mode::LeaseRecord);
    let active = lab.wait_until_whole();
    let order = |lab: &Lab, place: Place, order: &[&str]| {
        let output = lab.ftpgate(place, order);
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), printed)
    };
    let (code, printed) = order(&lab, active.other(), &["failover"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("this node is standby"), "{printed}");
    lab.kill_gateway(active.other());
    for asked in ["failover", "drain"] {
        eventually("the peer to be missed", || {
            let (code, printed) = order(&lab, active, &[asked]);
            (code == Some(1) && printed.contains("the peer cannot serve")).then_some(())
        });
    }
    assert_eq!(lab.active(), [active]);
    let (code, printed) = order(&lab, active, &["drain", "--force"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(lab.node(active).is_refusing());
}
