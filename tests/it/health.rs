//! Probes by schedule: what they make of an endpoint, where it is told, and what they leave alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::canned::{CannedServer, Script};
use crate::harness::ftp::Ftp;
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::{address, eventually};

/// A gateway that probes often.
fn probing(endpoint: SocketAddr, depth: &str) -> GatewayOptions<'static> {
    Gateway::to_address(endpoint)
        .set("probe", &format!("depth = \"{depth}\""))
        .set("probe", "interval = \"100ms\"")
        .set("probe", "timeout = \"300ms\"")
}

/// The one endpoint of `/readyz`.
fn endpoint(gateway: &Gateway) -> Value {
    let (_, body) = gateway.get("/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    body["endpoints"][0].clone()
}

fn becomes(gateway: &Gateway, state: &str) -> Value {
    eventually(state, || {
        let endpoint = endpoint(gateway);
        (endpoint["state"] == state).then_some(endpoint)
    })
}

/// What a server does with a connection.
type Serve = fn(TcpStream);

/// Listens, and does that with each connection.
fn listen(serve: Serve) -> SocketAddr {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || serve(stream))))
    });
    address
}

#[test]
fn an_endpoint_goes_and_comes_and_it_is_told_everywhere() {
    let at = SocketAddr::new(address::unused().into(), 2121);
    let gateway = probing(at, "banner").set("probe", "fall = 3").set("probe", "rise = 2").start();
    let healthy = format!("ftpgate_endpoint_healthy{{endpoint=\"{at}\"}}");
    let probes = |result: &str| {
        let (_, metrics) = gateway.get("/metrics");
        let series = format!("ftpgate_probes_total{{endpoint=\"{at}\",result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };

    let down = becomes(&gateway, "unhealthy");
    let reason = down["reason"].as_str().unwrap();
    assert!(reason.starts_with("connect: ") && reason.contains("refused"), "{reason}");
    assert_eq!((gateway.get("/readyz").0, gateway.metric(&healthy)), (503, 0.0));
    gateway.logs("endpoint is unhealthy");

    // It comes: two good probes in a row.
    let _server = CannedServer::script().start_at(at);
    let up = becomes(&gateway, "healthy");
    assert!(probes("ok") >= 2.0, "after {} good probes", probes("ok"));
    assert!(up["reason"].is_null() && up["stages"]["banner"].as_f64().unwrap() > 0.0, "{up}");
    assert_eq!((gateway.get("/readyz").0, gateway.metric(&healthy)), (200, 1.0));
    gateway.logs("endpoint is healthy");
    let stage = format!("ftpgate_probe_stage_seconds{{endpoint=\"{at}\",stage=\"connect\"}}");
    assert!(gateway.metric(&stage) > 0.0);
}

#[test]
fn an_endpoint_that_dies_is_told_within_fall_intervals_though_no_client_comes() {
    let server = CannedServer::script().start();
    let gateway = probing(server.address, "banner").set("probe", "fall = 3").start();
    becomes(&gateway, "healthy");
    server.stop();
    let died = Instant::now();
    let down = becomes(&gateway, "unhealthy");
    let took = died.elapsed();
    // The next probe may be a whole interval away, and each interval a fifth longer.
    assert!(took < Duration::from_millis(3 * 120) + Duration::from_secs(1), "{took:?}");
    assert!(down["reason"].as_str().unwrap().starts_with("connect: "), "{down}");
    let failed =
        format!("ftpgate_probes_total{{endpoint=\"{}\",result=\"connect\"}}", server.address);
    assert!(gateway.metric(&failed) >= 3.0, "one failed probe is not enough");
    println!("told {took:?} after its death");
}

#[test]
fn one_failed_probe_is_not_enough_and_a_row_of_them_is() {
    // Every second session is refused: never three in a row.
    let server = CannedServer::script().banners(&[b"220 yes\r\n", b"421 no\r\n"]).start();
    let gateway = probing(server.address, "banner").set("probe", "fall = 3").start();
    becomes(&gateway, "healthy");
    let failed =
        format!("ftpgate_probes_total{{endpoint=\"{}\",result=\"banner\"}}", server.address);
    eventually("ten failed probes", || {
        let (_, metrics) = gateway.get("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&failed)?.strip_prefix(' '));
        (line?.parse::<f64>().unwrap() >= 10.0).then_some(())
    });
    assert_eq!(endpoint(&gateway)["state"], "healthy");
    assert!(!gateway.log().contains("endpoint is unhealthy"));
    gateway.logs("probe failed");
    gateway.logs("421: it takes no more sessions now");
}

#[test]
fn a_probe_opens_nothing_but_the_control_port_and_leaves_politely() {
    for depth in ["tcp", "banner"] {
        let server = CannedServer::script().start();
        let gateway = probing(server.address, depth).start();
        becomes(&gateway, "healthy");
        eventually("ten probes", || (server.visits().len() >= 10).then_some(()));
        assert!(!server.was_dialled(), "{depth}");
        drop(gateway);
        let heard = server.heard();
        assert!(heard.iter().all(|line| line == "QUIT"), "{heard:?}");
        assert_eq!(heard.is_empty(), depth == "tcp");
    }
}

#[test]
fn probes_do_not_march_in_step() {
    let server = CannedServer::script().start();
    let _gateway = probing(server.address, "tcp").start();
    let mut gaps = Vec::new();
    let mut last = Instant::now();
    for count in 2..22 {
        eventually("another probe", || (server.visits().len() >= count).then_some(()));
        gaps.push(last.elapsed());
        last = Instant::now();
    }
    gaps.sort();
    let spread = gaps[gaps.len() - 3].saturating_sub(gaps[2]);
    assert!(spread >= Duration::from_millis(10), "jitter of a fifth either way: {gaps:?}");
}

#[test]
fn a_client_that_fails_hastens_the_next_probe() {
    let at = SocketAddr::new(address::unused().into(), 2121);
    let other = CannedServer::script().start();
    let server = CannedServer::script().start_at(at);
    let gateway = Gateway::to_address(at)
        .or_to_address(other.address)
        .set("probe", "interval = \"1h\"")
        .set("probe", "fall = 1")
        .start();
    becomes(&gateway, "healthy");
    server.stop();
    Ftp::connect(gateway.address);
    let down = becomes(&gateway, "unhealthy");
    assert_eq!(down["reason"], "connect-error", "what the client met");
    eventually("the probe's own word", || {
        let reason = endpoint(&gateway)["reason"].as_str()?.to_owned();
        reason.starts_with("connect: ").then_some(())
    });
}

#[test]
fn what_never_answers_answers_nonsense_or_too_much_is_told_apart_in_bounded_time_and_memory() {
    let cases: [(Serve, &str); 5] = [
        (|mut stream| drop(stream.read(&mut [0])), "banner: nothing within 300ms"),
        (
            |mut stream| drop(stream.write_all(b"SSH-2.0-hello\r\n")),
            "banner: it does not speak FTP",
        ),
        (
            |mut stream| while stream.write_all(&[b'x'; 65_536]).is_ok() {},
            "banner: it does not speak FTP",
        ),
        (
            |mut stream| while stream.write_all(b"220-more of it\r\n").is_ok() {},
            "banner: it does not speak FTP",
        ),
        (|stream| drop(stream), "banner: "),
    ];
    for (serve, reason) in cases {
        let gateway = probing(listen(serve), "banner").start();
        let down = becomes(&gateway, "unhealthy");
        assert!(down["reason"].as_str().unwrap().starts_with(reason), "{reason}: {down}");
        let before = gateway.resident_kib();
        let probes = gateway.log().matches("probe failed").count();
        eventually("ten more", || {
            (gateway.log().matches("probe failed").count() >= probes + 10).then_some(())
        });
        let more = gateway.resident_kib() - before;
        assert!(more < 4096, "{reason}: {more} KiB more");
    }
}

#[test]
fn a_client_that_meets_only_mute_endpoints_is_told_in_time() {
    let mute: Script = CannedServer::script().banner(b"");
    let servers = [(); 5].map(|()| mute.clone().start());
    let mut gateway = Gateway::to_address(servers[0].address);
    for server in &servers[1..] {
        gateway = gateway.or_to_address(server.address);
    }
    let gateway = gateway
        .set("upstream", "connect_timeout = \"400ms\"")
        .set("upstream", "banner_timeout = \"400ms\"")
        .set("upstream", "connect_deadline = \"1s\"")
        .start();
    let started = Instant::now();
    Ftp::knock(gateway.address).reply().expect(&[421]);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn without_probes_a_failed_endpoint_is_healthy_again_when_its_time_is_over() {
    let nobody = SocketAddr::new(address::unused().into(), 2121);
    let gateway = Gateway::to_address(nobody).set("upstream", "retry_after = \"1s\"").start();
    let series = format!("ftpgate_endpoint_healthy{{endpoint=\"{nobody}\"}}");
    assert_eq!(gateway.metric(&series), 1.0);
    Ftp::knock(gateway.address).reply().expect(&[421]);
    assert_eq!((gateway.metric(&series), gateway.get("/readyz").0), (0.0, 503));
    eventually("its time to be over", || (gateway.metric(&series) == 1.0).then_some(()));
    assert_eq!(gateway.get("/readyz").0, 200);
}
