//! Mode dns: Route 53 sends clients to the other gateway when metrics say so, or when there are none.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::client::{self, pasv_address};
use super::moto;
use super::network::Place;
use super::{Lab, Mode, NAME};
use crate::harness::eventually;
use crate::harness::namespace::Network as _;
use crate::harness::servers::PASSWORD;

const CONTENT: &[u8] = b"from the private subnet\n";

/// Who has test.txt put is on the client's host, as by hand: what tnftp printed.
fn put_test_txt(lab: &Lab) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("test.txt"), CONTENT).unwrap();
    let script = scratch.path().join(format!("script-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let lines = format!(
        "open {NAME}\nuser alice {PASSWORD}\nbin\nepsv4\nput test.txt\nget test.txt back.txt\nquit\n"
    );
    std::fs::write(&script, lines).unwrap();
    let mut tnftp = Command::new("timeout");
    tnftp.args(["--kill-after=1", "60", "tnftp", "-n", "-i", "-v"]).current_dir(scratch.path());
    tnftp.env("HOME", scratch.path()).env("LC_ALL", "C.UTF-8");
    let mut tnftp = lab.host(Place::Client).wrap(&tnftp);
    tnftp.stdin(Stdio::from(std::fs::File::open(&script).unwrap()));
    let output = tnftp.output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let back = std::fs::read(scratch.path().join("back.txt"));
    assert_eq!(back.unwrap_or_else(|error| panic!("{error}: {printed}")), CONTENT, "{printed}");
    printed
}

/// The dialogue that Transfer Family's users know, through that gateway.
#[track_caller]
fn shows_the_sequence(printed: &str, gateway: Place) {
    for code in ["331 ", "230 ", "200 ", "227 ", "150 ", "226 ", "221 "] {
        assert!(printed.lines().any(|line| line.starts_with(code)), "no {code}: {printed}");
    }
    let named = printed.lines().filter(|line| line.starts_with("227 "));
    for reply in named {
        let named = pasv_address(reply).unwrap();
        assert_eq!(named.ip(), gateway.address(), "{printed}");
        assert!((8192..=8200).contains(&named.port()), "{printed}");
    }
}

/// Waits until the name stands for that gateway.
fn leads_to(lab: &Lab, gateway: Place) {
    eventually(&format!("the name to lead to {}", gateway.name()), || {
        let found = lab.host(Place::Client).inside(|| client::look_up(NAME));
        found.is_ok_and(|(address, _)| address == gateway.address()).then_some(())
    });
}

/// Waits until that gateway gets the clients, both know it, and neither is thought ill.
fn is_served_by(lab: &Lab, gateway: Place) {
    eventually("two healthy gateways", || lab.resolver.all_are_healthy().then_some(()));
    leads_to(lab, gateway);
    lab.wait_for_active(gateway);
}

#[test]
fn the_sequence_is_the_same_under_the_same_name_after_failover_by_missing_metrics() {
    let mut lab = Lab::start(Mode::Dns);
    is_served_by(&lab, Place::GatewayA);
    shows_the_sequence(&put_test_txt(&lab), Place::GatewayA);
    let reported = lab.host(Place::Aws).inside(|| moto::metric_names("ftpgate"));
    for name in ["HealthyHostCount", "UnHealthyHostCount", "NewFlowCount", "ProcessedBytes"] {
        assert!(reported.contains(name), "{reported:?}");
    }
    lab.kill_gateway(Place::GatewayA);
    leads_to(&lab, Place::GatewayC);
    shows_the_sequence(&put_test_txt(&lab), Place::GatewayC);
    // Without anybody's doing it finds that it is active now.
    lab.wait_for_active(Place::GatewayC);
    // And back.
    lab.restart_gateway(Place::GatewayA);
    is_served_by(&lab, Place::GatewayA);
    shows_the_sequence(&put_test_txt(&lab), Place::GatewayA);
}

#[test]
fn the_name_leaves_a_zone_that_is_lost() {
    let lab = Lab::start(Mode::Dns);
    is_served_by(&lab, Place::GatewayA);
    lab.lose_zone(Place::GatewayA);
    leads_to(&lab, Place::GatewayC);
    lab.wait_for_node(Place::GatewayC);
    shows_the_sequence(&put_test_txt(&lab), Place::GatewayC);
    lab.mend_zone(Place::GatewayA);
    is_served_by(&lab, Place::GatewayA);
}

#[test]
fn the_name_leaves_a_gateway_that_reports_no_healthy_endpoint() {
    let lab = Lab::start(Mode::Dns);
    is_served_by(&lab, Place::GatewayA);
    for endpoint in [Place::EndpointA, Place::EndpointC] {
        lab.network.cut_between(Place::GatewayA, endpoint);
    }
    leads_to(&lab, Place::GatewayC);
    let reported = lab.cloudwatch.data();
    assert!(
        reported.iter().any(|datum| datum.metric == "HealthyHostCount" && datum.value == 0.0),
        "it says so instead of falling silent"
    );
    shows_the_sequence(&put_test_txt(&lab), Place::GatewayC);
    for endpoint in [Place::EndpointA, Place::EndpointC] {
        lab.network.mend_between(Place::GatewayA, endpoint);
    }
    is_served_by(&lab, Place::GatewayA);
}

#[test]
fn what_cloudwatch_did_not_take_is_reported_later_with_its_own_time() {
    let lab = Lab::start(Mode::Dns);
    assert_eq!(lab.wait_until_whole(), Place::GatewayA);
    let timestamps = || {
        let data = lab.cloudwatch.data().into_iter();
        let own = data.filter(|datum| {
            datum.metric == "HealthyHostCount"
                && datum.dimensions.get("Node").is_some_and(|node| node == "gateway-a")
        });
        let mut times: Vec<f64> = own.filter_map(|datum| datum.timestamp).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    lab.cloudwatch.fail(true);
    let before = timestamps().len();
    // Sessions do not care; the report of every second waits.
    let since = std::time::Instant::now();
    while since.elapsed() < std::time::Duration::from_secs(5) {
        lab.transfer_once(std::time::Duration::from_secs(5)).unwrap();
    }
    assert_eq!(timestamps().len(), before);
    lab.cloudwatch.fail(false);
    eventually("the reports of the meantime", || (timestamps().len() > before + 6).then_some(()));
    let times = timestamps();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    assert!(gap < 2.5, "a report is missing: {times:?}");
}
