//! What a node asks the instance metadata service (IMDSv2), and that it can do without it.

use std::time::{Duration, Instant};

use crate::harness::aws::{Imds, SECRET_KEY, nobody};
use crate::harness::canned::CannedServer;
use crate::harness::eventually;
use crate::harness::gateway::Gateway;
use crate::harness::probes::RoundTrip;
use crate::harness::scripted::mute;

#[test]
fn region_credentials_and_zone_come_from_instance_metadata() {
    let there = RoundTrip::start();
    let imds = Imds::start();
    let gateway = there.gateway().set("node", "zone = \"auto\"").on_instance(&imds).start();
    gateway.until_healthy(there.server.address);
    eventually("the zone", || gateway.log().contains("zone=\"ap-northeast-1c\"").then_some(()));
    // Asked with a token each time (IMDSv2); the fake answers nothing else.
    let heard = imds.heard();
    for path in
        ["placement/availability-zone", "placement/region", "iam/security-credentials/gateway"]
    {
        let request = format!("GET /latest/meta-data/{path}");
        assert!(heard.contains(&request), "{request}: {heard:?}");
    }
    let log = gateway.log();
    for secret in [SECRET_KEY, "a-session-token", "a-token-of-the-tests"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn a_node_without_instance_metadata_starts_and_serves() {
    let server = CannedServer::script().start();
    for address in [nobody(), mute()] {
        let started = Instant::now();
        let gateway = Gateway::to_address(server.address)
            .set("node", "zone = \"auto\"")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{address}"))
            .start();
        let warning = "the instance metadata service does not tell this node's zone";
        eventually("the news", || gateway.log().contains(warning).then_some(()));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        gateway.until_healthy(server.address);
    }
}
