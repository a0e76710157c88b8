//! Mode lease with an overlay IP: clients keep one address, whichever zone is lost.

use std::time::{Duration, Instant};

use super::{Lab, Mode, OVERLAY, TTL, record};
use crate::harness::ftp::Ftp;
use crate::harness::namespace::Network as _;

/// From the loss of a zone to the first complete transfer.
const LIMIT: Duration = Duration::from_secs(2 * TTL.as_secs() + 1);

#[test]
fn one_address_serves_clients_whichever_zone_is_lost() {
    let lab = Lab::start(Mode::LeaseOverlay);
    for _ in 0..2 {
        let active = lab.wait_until_whole();
        // A transfer fails unless 227 names the address that the client has connected to.
        lab.transfer_once(LIMIT).unwrap();
        let lost = Instant::now();
        lab.lose_zone(active);
        let took = lab.first_transfer(lost);
        record!("the zone of {} is lost: served again after {took:?}", active.name());
        assert!(took <= LIMIT, "{took:?}");
        lab.wait_for_node(active.other());
        lab.mend_zone(active);
        assert_eq!(lab.wait_until_whole(), active.other(), "nothing moves back by itself");
    }
}

#[test]
fn the_passive_reply_names_the_overlay_address() {
    let lab = Lab::start(Mode::LeaseOverlay);
    lab.wait_until_whole();
    let client = lab.host(super::network::Place::Client);
    assert_ne!(client.address(), OVERLAY);
    let named = client.inside(|| {
        let mut ftp = Ftp::connect((OVERLAY, 21).into());
        ftp.log_in_as("alice");
        ftp.pasv()
    });
    assert_eq!(named.ip(), OVERLAY);
}
