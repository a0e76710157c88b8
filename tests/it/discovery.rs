//! Endpoints found by name, while the name server changes its mind, lies and fails.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::canned::{CONTENT, CannedServer};
use crate::harness::dns::{Dns, Failure};
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::namespace::Namespace;
use crate::harness::{address, eventually};

const NAME: &str = "ftp.example.test";
const AT: &str = "ftp.example.test:2121";

/// A server that says in its banner who it is.
fn server(who: &str) -> CannedServer {
    CannedServer::script().banner(format!("220 {who}\r\n").as_bytes()).start()
}

fn ip(server: &CannedServer) -> IpAddr {
    server.address.ip()
}

/// Who answers a new client.
fn answerer(gateway: &Gateway) -> String {
    Ftp::knock(gateway.address).reply().text.trim_end().to_owned()
}

#[test]
fn a_changed_answer_is_used_within_its_ttl_and_a_second() {
    let (dns, old, new) = (Dns::start(), server("old"), server("new"));
    for ttl in [1, 3] {
        dns.set(NAME, &[ip(&old)], ttl);
        let gateway = Gateway::to_name(AT, &dns).start();
        assert_eq!(answerer(&gateway), "220 old");
        let changed = Instant::now();
        dns.set(NAME, &[ip(&new)], ttl);
        eventually("the new endpoint", || (answerer(&gateway) == "220 new").then_some(()));
        let took = changed.elapsed();
        assert!(took <= Duration::from_secs(u64::from(ttl) + 1), "TTL {ttl}: {took:?}");
    }
}

#[test]
fn floor_and_ceiling_bound_how_long_an_answer_is_kept() {
    let (dns, old, new) = (Dns::start(), server("old"), server("new"));
    dns.set(NAME, &[ip(&old)], 86_400);
    let gateway = Gateway::to_name(AT, &dns).set("dns", "max_ttl = \"1s\"").start();
    assert_eq!(answerer(&gateway), "220 old");
    dns.set(NAME, &[ip(&new)], 86_400);
    eventually("the new endpoint in spite of the TTL", || {
        (answerer(&gateway) == "220 new").then_some(())
    });
    drop(gateway);

    dns.set(NAME, &[ip(&old)], 0);
    let before = dns.lookups(NAME);
    let gateway = Gateway::to_name(AT, &dns).set("dns", "min_ttl = \"1s\"").start();
    let started = Instant::now();
    eventually("three more lookups", || (dns.lookups(NAME) >= before + 4).then_some(()));
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(answerer(&gateway), "220 old");
}

#[test]
fn a_resolver_that_fails_for_a_minute_fails_no_session() {
    let (dns, server) = (Dns::start(), server("the one"));
    dns.set(NAME, &[ip(&server)], 1);
    let gateway = Gateway::to_name(AT, &dns).set("dns", "timeout = \"500ms\"").start();
    let mut old = Ftp::connect(gateway.address);
    old.log_in_as("anyone");
    let mut sessions = 0;
    for failure in [Failure::ServFail, Failure::Silent, Failure::Empty, Failure::NxDomain] {
        dns.fail(Some(failure));
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            let mut client = Ftp::connect(gateway.address);
            client.log_in_as("anyone");
            let (listing, reply) = client.download("LIST");
            assert_eq!((listing.as_slice(), reply.code), (CONTENT, 226), "{failure:?}");
            sessions += 1;
        }
        assert_eq!(gateway.get("/readyz").0, 200, "{failure:?}");
    }
    let (listing, reply) = old.download("LIST");
    assert_eq!((listing.as_slice(), reply.code), (CONTENT, 226));
    assert!(sessions > 100, "only {sessions} sessions in a minute");
    assert_eq!(gateway.metric("ftpgate_sessions_refused_total{reason=\"no-endpoint\"}"), 0.0);
    let failed = format!("ftpgate_dns_lookups_total{{name=\"{NAME}\",result=\"failed\"}}");
    assert!(gateway.metric(&failed) >= 4.0, "it went on asking");
    assert_eq!(gateway.log().matches("cannot be resolved").count(), 1, "told once");

    let new = CannedServer::script().banner(b"220 new\r\n").start();
    dns.set(NAME, &[ip(&new)], 1);
    dns.fail(None);
    eventually("the end of the outage", || (answerer(&gateway) == "220 new").then_some(()));
    gateway.logs("the name resolves again");
    println!("{sessions} sessions during the outage, none failed");
}

#[test]
fn an_address_that_is_gone_keeps_its_sessions_and_gets_no_new_one() {
    let (dns, old, new) = (Dns::start(), server("old"), server("new"));
    dns.set(NAME, &[ip(&old)], 1);
    let gateway = Gateway::to_name(AT, &dns).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    dns.set(NAME, &[ip(&new)], 1);
    eventually("the old one to drain", || {
        let (_, endpoints) = gateway.endpoints();
        endpoints.contains(&format!("{} draining 1", old.address)).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(answerer(&gateway), "220 new");
    }
    let (listing, reply) = client.download("LIST");
    assert_eq!((listing.as_slice(), reply.code), (CONTENT, 226), "the old session still works");
    client.command("QUIT").expect(&[221]);
    eventually("the old one to be gone", || {
        let (_, endpoints) = gateway.endpoints();
        (endpoints == [format!("{} healthy 0", new.address)]).then_some(())
    });
    let (_, metrics) = gateway.get("/metrics");
    assert!(!metrics.contains(&old.address.to_string()), "its series are gone too:\n{metrics}");
}

#[test]
fn an_address_that_comes_back_while_it_drains_gets_clients_again() {
    let (dns, away, other) = (Dns::start(), server("away"), server("other"));
    dns.set(NAME, &[ip(&away), ip(&other)], 1);
    let gateway = Gateway::to_name(AT, &dns).set("upstream", "choice = \"least-sessions\"").start();
    let mut kept: Vec<Ftp> = (0..2).map(|_| Ftp::connect(gateway.address)).collect();
    let series = format!("ftpgate_endpoint_healthy{{endpoint=\"{}\"}}", away.address);
    let is = |state: &str, healthy: f64| {
        let expected = format!("{} {state} 1", away.address);
        eventually(state, || {
            let told = gateway.endpoints().1.contains(&expected);
            (told && gateway.metric(&series) == healthy).then_some(())
        });
    };
    is("healthy", 1.0);
    dns.set(NAME, &[ip(&other)], 1);
    is("draining", 0.0);
    kept.push(Ftp::connect(gateway.address));
    dns.set(NAME, &[ip(&away), ip(&other)], 1);
    is("healthy", 1.0);
    gateway.logs("endpoint is back");
    assert_eq!(answerer(&gateway), "220 away", "it has fewer sessions than the other");
    for client in &mut kept {
        client.command("NOOP").expect(&[200]);
    }
}

#[test]
fn a_name_that_does_not_resolve_yet_is_said_and_then_served() {
    let (dns, server) = (Dns::start(), server("late"));
    dns.fail(Some(Failure::ServFail));
    let gateway = Gateway::to_name(AT, &dns)
        .set("upstream", "connect_timeout = \"200ms\"")
        .set("upstream", "banner_timeout = \"200ms\"")
        .set("upstream", "connect_deadline = \"500ms\"")
        .start();
    gateway.logs("cannot be resolved");
    assert_eq!(gateway.endpoints(), (503, vec![]));
    Ftp::knock(gateway.address).reply().expect(&[421]);
    // A client that is patient enough waits for the first answer.
    dns.set(NAME, &[ip(&server)], 60);
    dns.fail(None);
    eventually("the name to resolve", || (gateway.endpoints().0 == 200).then_some(()));
    assert_eq!(answerer(&gateway), "220 late");
}

#[test]
fn both_families_are_found_and_a_zonal_name_tells_the_zone() {
    let zonal = |zone: &str| {
        format!(
            "vpce-0123456789abcdef0-abcdefgh-{zone}.server.transfer.ap-northeast-1.vpce.amazonaws.com"
        )
    };
    let (a, c) = (zonal("ap-northeast-1a"), zonal("ap-northeast-1c"));
    let (dns, in_a, in_c) = (Dns::start(), server("in a"), server("in c"));
    dns.set(&a, &[ip(&in_a)], 60);
    dns.set(&c, &["::1".parse().unwrap(), ip(&in_c)], 60);
    for (zone, banner) in [("ap-northeast-1a", "220 in a"), ("ap-northeast-1c", "220 in c")] {
        let gateway = Gateway::to_name(&format!("{a}:2121"), &dns)
            .or_to_name(&format!("{c}:2121"))
            .set("node", &format!("zone = \"{zone}\""))
            .start();
        eventually("all three", || (gateway.endpoints().1.len() == 3).then_some(()));
        for _ in 0..4 {
            assert_eq!(answerer(&gateway), banner);
        }
        let body: Value = serde_json::from_str(&gateway.get("/readyz").1).unwrap();
        let of_six = |endpoint: &&Value| endpoint["address"] == "[::1]:2121";
        let six = body["endpoints"].as_array().unwrap().iter().find(of_six).unwrap();
        assert_eq!((&six["zone"], &six["name"]), (&"ap-northeast-1c".into(), &c.clone().into()));
    }
}

#[test]
fn the_family_says_which_addresses_are_used() {
    let four = server("four");
    let six = CannedServer::script().banner(b"220 six\r\n");
    let six = six.start_at("[::1]:0".parse().unwrap());
    let dns = Dns::start();
    dns.set(NAME, &[ip(&four), ip(&six)], 60);
    for (family, server, banner) in [("ipv4", &four, "220 four"), ("ipv6", &six, "220 six")] {
        let gateway = Gateway::to_name(&format!("{NAME}:{}", server.address.port()), &dns)
            .set("dns", &format!("family = \"{family}\""))
            .start();
        let mut client = Ftp::knock(gateway.address);
        assert_eq!(client.reply().text.trim_end(), banner);
        client.log_in_as("anyone");
        let (listing, reply) = client.download("LIST");
        assert_eq!((listing.as_slice(), reply.code), (CONTENT, 226), "{family}");
        assert_eq!(gateway.endpoints().1, [format!("{} healthy 1", server.address)]);
    }
}

#[test]
fn an_answer_too_large_for_udp_is_fetched_whole() {
    let dns = Dns::start();
    let addresses: Vec<IpAddr> =
        (1..=64).map(|last| format!("fd00::{last:x}").parse().unwrap()).collect();
    dns.set(NAME, &addresses, 60);
    let gateway = Gateway::to_name(AT, &dns).start();
    eventually("an answer", || (!gateway.endpoints().1.is_empty()).then_some(()));
    assert_eq!(gateway.endpoints().1.len(), 64);
}

#[test]
fn an_answer_of_which_nothing_can_be_used_takes_nothing_away() {
    let (dns, server) = (Dns::start(), server("the true one"));
    dns.set(NAME, &[ip(&server)], 1);
    let gateway = Gateway::to_name(AT, &dns).start();
    assert_eq!(answerer(&gateway), "220 the true one");
    // What a resolver that blocks names answers.
    dns.set(NAME, &["0.0.0.0".parse().unwrap(), "::".parse().unwrap()], 1);
    gateway.logs("is not used");
    let before = dns.lookups(NAME);
    eventually("two more lookups", || (dns.lookups(NAME) >= before + 2).then_some(()));
    assert_eq!(gateway.endpoints(), (200, vec![format!("{} healthy 0", server.address)]));
    assert_eq!(answerer(&gateway), "220 the true one");
}

#[test]
fn a_listener_everywhere_knows_which_addresses_are_its_own() {
    let zone = Namespace::new();
    // Nodes that share an address are often allowed to bind what they do not have.
    zone.run(&["sysctl", "-q", "net.ipv4.ip_nonlocal_bind=1"]);
    let dns = Dns::start_at(zone.ours.into());
    let server = CannedServer::script().banner(b"220 elsewhere\r\n");
    let server = server.start_at((zone.ours, 2121).into());
    dns.set(NAME, &[zone.address.into(), zone.second.into(), zone.ours.into()], 60);
    let gateway = Gateway::to_name(AT, &dns).inside(&zone).everywhere().start();
    let mut client = Ftp::knock(gateway.address);
    assert_eq!(client.reply().text, "220 elsewhere\r\n");
    assert_eq!(gateway.endpoints().1, [format!("{} healthy 1", server.address)]);
}

#[test]
fn what_a_name_server_may_not_say_is_not_believed() {
    let (dns, server) = (Dns::start(), server("the true one"));
    let many: Vec<IpAddr> = (0..1000).map(|_| IpAddr::from(address::unused())).collect();
    dns.set("many.test", &many, 60);
    let gateway = Gateway::to_name("many.test:2121", &dns).start();
    eventually("the first of many", || (gateway.endpoints().1.len() == 64).then_some(()));
    gateway.logs("more addresses than are used");
    drop(gateway);

    let strange = ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255"];
    let mut answer: Vec<IpAddr> = strange.iter().map(|text| text.parse().unwrap()).collect();
    answer.push(ip(&server));
    dns.set(NAME, &answer, 60);
    let gateway = Gateway::to_name(AT, &dns).start();
    assert_eq!(answerer(&gateway), "220 the true one");
    assert_eq!(gateway.endpoints().1.len(), 1, "{:?}", gateway.endpoints());
    drop(gateway);

    // Its own listener: it would become its own client, for ever.
    dns.set(NAME, &[ip(&server)], 1);
    let gateway = Gateway::to_name(AT, &dns).start();
    assert_eq!(answerer(&gateway), "220 the true one");
    dns.set(NAME, &[gateway.address.ip(), ip(&server)], 1);
    gateway.logs("this node's own, is not used");
    assert_eq!(
        gateway.endpoints().1,
        [format!("{} healthy 0", SocketAddr::new(ip(&server), 2121))]
    );
}
