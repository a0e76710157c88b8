//! Which endpoint a client gets, and which of our addresses its connections leave from.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use crate::harness::canned::{CannedServer, Script, Visit};
use crate::harness::dns::Dns;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::namespace::Namespace;
use crate::harness::{address, eventually};

/// Three servers that say in their banners which they are, and a gateway before them.
fn three(choice: &str) -> ([CannedServer; 3], GatewayOptions<'static>) {
    let servers = ["220 0\r\n", "220 1\r\n", "220 2\r\n"]
        .map(|banner| CannedServer::script().banner(banner.as_bytes()).start());
    let gateway = Gateway::to_address(servers[0].address)
        .or_to_address(servers[1].address)
        .or_to_address(servers[2].address)
        .set("upstream", &format!("choice = \"{choice}\""));
    (servers, gateway)
}

/// A client, and which server it got.
fn client(gateway: &Gateway, from: IpAddr) -> (Ftp, usize) {
    let mut client = Ftp::knock_from(from, gateway.address);
    let banner = client.reply().expect(&[220]).text;
    let server = banner.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    (client, server)
}

fn from(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 9, high, low).into()
}

#[test]
fn least_sessions_keeps_the_servers_even_as_clients_come_and_go() {
    let (_servers, gateway) = three("least-sessions");
    let gateway = gateway.start();
    let mut clients: Vec<(Ftp, usize)> = (0..30).map(|_| client(&gateway, from(1))).collect();
    let count = |clients: &[(Ftp, usize)]| {
        [0, 1, 2].map(|server| clients.iter().filter(|(_, at)| *at == server).count())
    };
    assert_eq!(count(&clients), [10, 10, 10]);
    // All those of one server leave: it gets the next ten.
    clients.retain(|(_, at)| *at != 1);
    let endpoint = |sessions: &str| {
        gateway.endpoints().1.iter().any(|endpoint| endpoint.ends_with(sessions)).then_some(())
    };
    eventually("the server to be empty", || endpoint(" 0"));
    clients.extend((0..10).map(|_| client(&gateway, from(1))));
    assert_eq!(count(&clients), [10, 10, 10]);
}

#[test]
fn source_hash_keeps_a_client_at_its_server_and_moves_only_those_of_a_lost_one() {
    let (servers, gateway) = three("source-hash");
    let gateway = gateway.start();
    let at = |number| client(&gateway, from(number)).1;
    let first: HashMap<u16, usize> = (0..60).map(|number| (number, at(number))).collect();
    let used: HashSet<usize> = first.values().copied().collect();
    assert_eq!(used.len(), 3, "sixty clients are spread: {first:?}");
    for number in 0..60 {
        assert_eq!(at(number), first[&number]);
    }
    drop(gateway);

    // The same clients at a gateway that cannot reach the last of them.
    let nobody = SocketAddr::new(address::unused().into(), 2121);
    let gateway = Gateway::to_address(servers[0].address)
        .or_to_address(servers[1].address)
        .or_to_address(nobody)
        .set("upstream", "choice = \"source-hash\"")
        .start();
    let mut moved = 0;
    for number in 0..60 {
        let now = client(&gateway, from(number)).1;
        assert_ne!(now, 2);
        // Which of them hashed to the lost one depends on its address.
        moved += usize::from(now != first[&number] && first[&number] != 2);
    }
    assert_eq!(moved, 0, "clients of servers that are still there have moved");
}

#[test]
fn prefer_zone_leaves_the_zone_only_while_its_server_is_lost() {
    let zonal = |zone: &str| {
        format!(
            "vpce-0123456789abcdef0-abcdefgh-{zone}.server.transfer.ap-northeast-1.vpce.amazonaws.com"
        )
    };
    let (far_name, near_name) = (zonal("ap-northeast-1a"), zonal("ap-northeast-1c"));
    let far = CannedServer::script().banner(b"220 far\r\n").start();
    let near = CannedServer::script().banner(b"220 near\r\n");
    let near_server = near.clone().start();
    let dns = Dns::start();
    dns.set(&far_name, &[far.address.ip()], 60);
    dns.set(&near_name, &[near_server.address.ip()], 60);
    let gateway = Gateway::to_name(&format!("{far_name}:2121"), &dns)
        .or_to_name(&format!("{near_name}:2121"))
        .set("node", "zone = \"ap-northeast-1c\"")
        .set("upstream", "retry_after = \"100ms\"")
        .set("probe", "interval = \"100ms\"")
        .start();
    let banner = || Ftp::knock(gateway.address).reply().text.trim_end().to_owned();
    let both = |state: [&str; 2]| {
        eventually("the endpoints to be so", || {
            let (_, endpoints) = gateway.endpoints();
            let is = |index: usize| {
                endpoints.get(index)?.contains(&format!(" {} ", state[index])).then_some(())
            };
            is(0).and_then(|()| is(1))
        });
    };
    both(["healthy", "healthy"]);
    let mut kept: Vec<Ftp> = (0..5).map(|_| Ftp::connect(gateway.address)).collect();
    assert_eq!(banner(), "220 near", "however many sessions it has");
    near_server.stop();
    for _ in 0..5 {
        assert_eq!(banner(), "220 far");
    }
    both(["healthy", "unhealthy"]);
    let _near_again = near.start_at(near_server.address);
    both(["healthy", "healthy"]);
    assert_eq!(banner(), "220 near");
    for client in &mut kept {
        client.command("NOOP").expect(&[200]);
    }
}

#[test]
fn with_every_endpoint_marked_down_each_is_still_tried() {
    let endpoint = SocketAddr::new(address::unused().into(), 2121);
    let gateway = Gateway::to_address(endpoint)
        .set("probe", "interval = \"1h\"")
        .set("probe", "depth = \"banner\"")
        .start();
    gateway.logs("endpoint is unhealthy");
    assert_eq!(gateway.endpoints().0, 503);
    // It comes up; the next probe is an hour away.
    let _server = CannedServer::script().banner(b"220 back\r\n").start_at(endpoint);
    assert_eq!(Ftp::knock(gateway.address).reply().text, "220 back\r\n");
}

#[test]
fn control_and_data_of_a_client_leave_from_one_address_and_clients_are_spread() {
    let sources = [(); 3].map(|()| IpAddr::from(address::unused()));
    let listed: Vec<String> = sources.iter().map(|source| format!("\"{source}\"")).collect();
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address)
        .set("upstream", &format!("source_addresses = [{}]", listed.join(", ")))
        .start();
    let mut used = HashSet::new();
    let mut kept = Vec::new();
    for number in 0..30 {
        let before = server.visits().len();
        let mut client = Ftp::connect_from(from(number), gateway.address);
        client.log_in_as("anyone");
        client.download("LIST").1.expect(&[226]);
        client.download("RETR file").1.expect(&[226]);
        kept.push(client);
        // Once more: the same client.
        let mut again = Ftp::connect_from(from(number), gateway.address);
        again.log_in_as("anyone");
        let visits = server.visits().split_off(before);
        let Visit::Control(source) = visits[0] else { panic!("{visits:?}") };
        assert!(sources.contains(&source));
        let expected = [
            Visit::Control(source),
            Visit::Data(source),
            Visit::Data(source),
            Visit::Control(source),
        ];
        assert_eq!(visits, expected);
        used.insert(source);
    }
    assert_eq!(used.len(), 3, "thirty clients are spread over all");
    let open: f64 = sources
        .iter()
        .map(|source| {
            gateway.metric(&format!("ftpgate_upstream_connections{{source=\"{source}\"}}"))
        })
        .sum();
    assert!(open >= 30.0, "{open}");
    assert!(gateway.metric("ftpgate_upstream_port_limit") > 1000.0);
    drop(kept);
    for source in sources {
        let series = format!("ftpgate_upstream_connections{{source=\"{source}\"}}");
        eventually("its connections to be over", || (gateway.metric(&series) == 0.0).then_some(()));
    }
}

#[test]
fn a_source_address_without_ports_left_hands_over_to_the_next() {
    let wire = Namespace::new();
    wire.run(&["sysctl", "-q", "net.ipv4.ip_local_port_range=40000 40007"]);
    let script: Script = CannedServer::script();
    let server = script.start_at((wire.ours, 2121).into());
    let sources = format!("source_addresses = [\"{}\", \"{}\"]", wire.address, wire.second);
    let gateway =
        Gateway::to_address(server.address).set("upstream", &sources).inside(&wire).start();
    assert_eq!(gateway.metric("ftpgate_upstream_port_limit"), 8.0);
    let clients: Vec<Ftp> = (0..16).map(|_| Ftp::connect(gateway.address)).collect();
    let from = |address: Ipv4Addr| {
        let visits = server.visits();
        visits.iter().filter(|visit| **visit == Visit::Control(address.into())).count()
    };
    assert_eq!((from(wire.address), from(wire.second)), (8, 8));
    assert!(gateway.metric("ftpgate_port_allocation_errors_total") >= 8.0);
    Ftp::knock(gateway.address).reply().expect(&[421]);
    gateway.logs("no source address has a port left");
    let endpoint = gateway.endpoints().1;
    assert!(endpoint[0].contains(" healthy 16"), "it is not the endpoint's fault: {endpoint:?}");
    drop(clients);
}

#[test]
fn one_source_address_without_ports_left_makes_no_endpoint_unhealthy() {
    // All clients come from one address: it leaves from the first source or from the second.
    for first in [true, false] {
        let wire = Namespace::new();
        wire.run(&["sysctl", "-q", "net.ipv4.ip_local_port_range=40000 40063"]);
        let server = CannedServer::script().start_at((wire.ours, 2121).into());
        let sources = if first { [wire.address, wire.second] } else { [wire.second, wire.address] };
        let gateway = Gateway::to_address(server.address)
            .set(
                "upstream",
                &format!("source_addresses = [\"{}\", \"{}\"]", sources[0], sources[1]),
            )
            .set("probe", "interval = \"100ms\"")
            .inside(&wire)
            .start();
        let _clients: Vec<Ftp> = (0..80).map(|_| Ftp::connect(gateway.address)).collect();
        assert!(gateway.metric("ftpgate_port_allocation_errors_total") >= 1.0);
        let before = server.times("QUIT");
        eventually("ten probes more", || {
            assert!(!gateway.log().contains("probe failed"), "{}", gateway.log());
            (server.times("QUIT") >= before + 10).then_some(())
        });
        assert_eq!(gateway.get("/readyz").0, 200);
    }
}

#[test]
fn a_source_address_that_is_not_ours_is_said_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ftpgate.toml");
    let host = address::unused();
    let text = format!(
        "[[listener]]\naddress = \"{host}:2121\"\n[http]\nenabled = false\n\
        [upstream]\nsource_addresses = [\"192.0.2.1\"]\n[[upstream.endpoint]]\naddress = \"{host}:2122\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ftpgate"))
        .args(["serve", "--config"])
        .arg(file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("192.0.2.1") && told.contains("network interface"), "{told}");
}
