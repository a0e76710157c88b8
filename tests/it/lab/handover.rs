//! A new process takes over on the active gateway, and then on the standby: to the pair it is the
//! same node, so that no lease and no client is moved.

use std::collections::BTreeSet;

use super::load::Load;
use super::network::Place;
use super::{Lab, Mode, TTL, record};
use crate::harness::eventually;

/// On each gateway.
const HAND_OVERS: usize = 3;

/// Which run of which node wrote, as the nonces of all writes since then say.
fn writers(lab: &Lab, since: usize) -> BTreeSet<(u64, String, String)> {
    let writes = lab.s3.writes();
    let writes = writes[since..].iter().map(|write| {
        let (generation, holder) = write.holder();
        let incarnation = write.body["nonce"].as_str().unwrap().split('.').next().unwrap();
        assert_eq!(write.body["state"], "held", "it is never given up");
        (generation, holder, incarnation.to_owned())
    });
    writes.collect()
}

#[test]
fn a_hand_over_within_a_node_moves_no_lease_and_no_client() {
    let mut lab = Lab::start(Mode::LeaseRecord);
    let active = lab.wait_until_whole();
    let before = lab.s3.writes().len();
    let load = Load::start(&lab.client, 10);
    for _ in 0..HAND_OVERS {
        for place in [active, active.other()] {
            let done = load.done();
            lab.upgrade_gateway(place);
            // From its first answer on it is what the node was.
            let roles = Place::GATEWAYS.map(|place| lab.node(place).report()["role"].clone());
            let expected =
                Place::GATEWAYS.map(|place| if place == active { "active" } else { "standby" });
            assert_eq!(roles, expected);
            eventually("transfers", || (load.done() > done + 10).then_some(()));
        }
    }
    // For longer than a peer would wait that takes over.
    let written = lab.s3.writes().len();
    let renewals = 2 * 3;
    eventually("two TTLs of renewals", || {
        (lab.s3.writes().len() > written + renewals).then_some(())
    });
    assert_eq!(lab.wait_until_whole(), active);
    let outcome = load.stop();
    assert_eq!(outcome.failures, [], "failed transfers");
    let writers = writers(&lab, before);
    assert_eq!(writers.len(), 1, "one run of one node, in one generation: {writers:?}");
    record!(
        "{} hand-overs within nodes of a pair (lease of {TTL:?}): no write but the holder's renewals; {} \
         transfers, none failed, the longest {:?}",
        2 * HAND_OVERS,
        outcome.times.len(),
        outcome.times.iter().max(),
    );
}
