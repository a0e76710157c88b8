//! The alerts of a pair with a lease, as a real Prometheus sees it: none while all is well, and only
//! the right ones when the active node dies.

use std::net::SocketAddr;

use super::network::Place;
use super::node::HTTP_PORT;
use super::{Lab, Mode};
use crate::harness::prometheus::{Prometheus, hasty_rules};

#[test]
fn alerts_tell_of_a_dead_active_node_and_of_nothing_else() {
    let mut lab = Lab::start(Mode::LeaseRecord);
    let http = |place: Place| SocketAddr::from((place.address(), HTTP_PORT));
    let host = lab.host(Place::Client).clone();
    let prometheus = Prometheus::start(Some(&host), &Place::GATEWAYS.map(http), &[&hasty_rules()]);
    let active = lab.wait_until_whole();
    prometheus.wait_for(&[]);
    lab.kill_gateway(active);
    lab.wait_for_node(active.other());
    let (dead, left) = (http(active).to_string(), http(active.other()).to_string());
    prometheus.wait_for(&[("FtpgateNodeDown", &dead), ("FtpgatePeerLost", &left)]);
    lab.restart_gateway(active);
    prometheus.wait_for(&[]);
    prometheus.expect_healthy_rules();
}
