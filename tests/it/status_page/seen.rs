//! The page in Debian's Chromium: what an operator sees while a node works. Screenshots are left in
//! `target/status-page`.

use std::f64::consts::TAU;
use std::net::IpAddr;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::harness::browser::Browser;
use crate::harness::ftp::finish;

/// What is uploaded, in halves.
const HALF: usize = 2_000_000;
/// A file's name that a browser must not take for more.
const NAME: &str = "<img src=x onerror=alert(1)> orders & more.csv";

/// Two endpoints over one directory.
struct Pair {
    servers: Vec<Server>,
    root: TempDir,
}

impl Pair {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let start = |_| Server::options(Kind::Vsftpd).root(root.path()).start();
        Self { servers: (0..2).map(start).collect(), root }
    }

    fn gateway(&self) -> Gateway {
        Gateway::to(&self.servers[0])
            .or_to(&self.servers[1])
            .set("probe", "interval = \"500ms\"")
            .set("probe", "timeout = \"5s\"")
            .start()
    }

    /// Kills the one that has no session.
    fn kill_idle(&mut self, gateway: &Gateway) -> IpAddr {
        let (_, endpoints) = gateway.endpoints();
        let idle = endpoints.iter().position(|endpoint| endpoint.ends_with(" 0")).unwrap();
        let mut server = self.servers.remove(idle);
        server.sigkill();
        server.address.ip()
    }

    fn bring_back(&mut self, host: IpAddr) {
        let IpAddr::V4(host) = host else { panic!("{host}") };
        let server = Server::options(Kind::Vsftpd).at(host).root(self.root.path()).start();
        self.servers.push(server);
    }
}

#[test]
fn an_operator_sees_an_upload_an_endpoint_s_death_and_a_lost_connection() {
    let mut pair = Pair::start();
    let gateway = pair.gateway();
    let mut browser = Browser::open(&gateway.url());
    browser.see("#role", "active");
    browser.see("#link-text", "live");
    for server in &pair.servers {
        browser.see("#endpoints > [data-state=healthy]", &server.address.to_string());
    }
    browser.see("#endpoints .stages", "banner");
    browser.see("#no-transfers", "No transfer runs now.");
    browser.see("#no-sessions", "Nobody is connected now.");

    // An upload appears, goes on, and ends, when this test lets it.
    let mut client = Ftp::login(gateway.address, &pair.servers[0]);
    client.command(&format!("ALLO {}", 2 * HALF)).expect(&[202]);
    let mut upload = client.begin(&format!("STOR {NAME}"));
    browser.see("#transfers .path", NAME);
    browser.see("#sessions-now", "1");
    browser.see("#transfers-now", "1");
    upload.write_all(&bytes(1, HALF)).unwrap();
    browser.see("#transfers .amount", "1.9 MiB of 3.8 MiB, 50 %");
    browser.wait("document.querySelector('#transfers progress').value === 2000000");
    // It stays at half, and an endpoint dies and is announced.
    let lost = pair.kill_idle(&gateway);
    let endpoint = format!("{lost}:2121");
    browser.see("#endpoints > [data-state=unhealthy]", &endpoint);
    browser.see("#endpoints > [data-state=unhealthy] .failed", "connect");
    browser.see("#announcer", &format!("Endpoint {endpoint} is unhealthy now: connect: "));
    browser.see("#events .bad .text", &format!("{endpoint} is unhealthy: connect: "));
    // A point of the last hour has the bytes that are there already.
    browser.see("#traffic-summary", "From clients 1.9 MiB");
    browser.show("live");
    upload.write_all(&bytes(2, HALF)).unwrap();
    finish(upload);
    client.reply().expect(&[226]);
    browser.miss("#transfers .path", NAME);
    browser.see("#no-transfers", "No transfer runs now.");
    browser.see("#sessions td[data-label=Files]", "1");
    browser.see("#sessions td[data-label=Bytes]", "3.8 MiB");
    browser.wait("document.querySelectorAll('main img').length === 0");

    pair.bring_back(lost);
    browser.miss("#endpoints > [data-state=unhealthy]", "");
    browser.see("#endpoints > [data-state=healthy]", &endpoint);
    browser.see("#announcer", &format!("Endpoint {endpoint} is healthy now."));
    browser.see("#events .good .text", &format!("{endpoint} is healthy"));

    let cut = client.begin("STOR cut.csv");
    reset(cut);
    browser.see("#events .bad .text", "client-failed: STOR cut.csv by anonymous from ");
    browser.see("#trouble-summary", "1 transfer failed");

    // With the keyboard alone.
    let (first, seen) = browser.press("Tab");
    assert_eq!((&*first, seen), ("Skip to what it shows", true));
    let mut reached = Vec::new();
    while reached.last().is_none_or(|name| name != "List of events") {
        let (name, seen) = browser.press("Tab");
        assert!(seen, "{name} has the focus, and that cannot be seen");
        if name == "Throughput as a table" && !reached.contains(&name) {
            browser.press("Enter");
            browser.see("#traffic-table th", "From clients");
        }
        reached.push(name);
        assert!(reached.len() < 12, "{reached:?}");
    }
    for name in ["Errors as a table", "Table of transfers", "Table of sessions"] {
        assert!(reached.iter().any(|reached| reached == name), "{name}: {reached:?}");
    }

    // A node that is not heard any more, until it is.
    gateway.process.signal(Signal::STOP);
    browser.see("#lost", "What is shown here is old; trying again.");
    browser.see("#link-text", "connection lost");
    gateway.process.signal(Signal::CONT);
    browser.see("#announcer", "The connection is back.");
    browser.miss("#lost:visible", "");
    browser.expect_no_complaints();
}

#[test]
fn a_busy_pair_in_trouble_is_shown_whole() {
    let pair = Pair::start();
    let gateway = pair.gateway();
    let mut stream = Stream::open(&gateway);
    let mut client = Ftp::login(gateway.address, &pair.servers[0]);
    let _upload = client.begin("STOR orders-2026-11.csv");
    let mut now = stream.now("an upload", |now| {
        let probed = |endpoint: &Value| endpoint["probed"].is_string();
        now["transfers"] == 1 && now["endpoints"].as_array().unwrap().iter().all(probed)
    });
    let mut browser = Browser::open(&gateway.url());
    browser.see("#transfers .path", "orders-2026-11.csv");

    // As it is on the wire, many times and with all that can be wrong.
    let row = now["rows"][0].clone();
    let rows = (0..40).map(|number| {
        let mut row = row.clone();
        row["id"] = (number + 1).into();
        row["tls"] = if number % 3 == 0 { "1.3".into() } else { Value::Null };
        match number {
            0 => row["transfer"]["size"] = 0.into(),
            1..4 => {
                row["transfer"]["bytes"] = ((number * 33) << 20).into();
                row["transfer"]["size"] = (100 << 20).into();
            }
            5 => row["user"] = "u".repeat(256).into(),
            4 => row["transfer"]["path"] = format!("{NAME}/{}", "deep/".repeat(60)).into(),
            _ => (row["transfer"], row["state"]) = (Value::Null, "idle".into()),
        }
        row
    });
    now["rows"] = rows.collect();
    now["sessions"] = 4321.into();
    let reason = "login: 530 Authentication failed.";
    let endpoint = &mut now["endpoints"][1];
    (endpoint["state"], endpoint["reason"]) = ("unhealthy".into(), reason.into());
    endpoint["zone"] = "ap-northeast-1c".into();
    now["peer"] = json!({ "address": "10.2.2.10:9121", "node": "gateway-c", "role": "standby", "ready": false,
        "trouble": "Connection refused (os error 111)" });
    now["lease"] = json!({ "held": true, "holder": "gateway-a", "state": "held", "trouble": "S3 does not answer in time" });
    now["generation"] = 12.into();
    now["steered"] = true.into();
    now["steering"] = json!({ "target": "10.2.1.10", "trouble": null });
    now["name"] = json!({ "name": "gw.ftp.example.internal", "addresses": ["10.2.1.10"], "here": true, "trouble": null });
    now["events"] = (0..12)
        .map(|number| {
            let tone = ["bad", "good", "plain"][number % 3];
            json!({ "number": number, "time": now["now"], "about": "endpoint", "tone": tone,
                "text": format!("{} is {tone}: {reason}", pair.servers[0].address), "count": number * number + 1 })
        })
        .collect();
    let wave = |turns: f64, most: f64| -> Vec<u64> {
        let at = |point: u32| ((f64::from(point) / 360.0 * turns * TAU).sin() + 1.0) * most;
        (0..360).map(|point| at(point) as u64).collect()
    };
    let some = |every: u64, many: u64| -> Vec<u64> {
        (0..360).map(|point| if point % every == 0 { many } else { 0 }).collect()
    };
    let history = json!({
        "step": 10, "end": (0..360).map(|point| 1_795_600_000 + point * 10).collect::<Vec<u64>>(),
        "up": wave(2.0, 9e6), "down": wave(3.0, 14e6), "sessions": wave(1.0, 2000.0),
        "transfers": { "aborted": some(90, 1), "client-failed": some(50, 2), "complete": some(1, 30),
            "gateway-failed": some(360, 1), "refused": some(7, 1), "upstream-failed": some(120, 4) },
        "failed_logins": some(40, 1), "refused": some(70, 9),
    });
    browser.pretend(&now, &history);
    browser.see("#more", "4,281 more sessions are not shown; ftpgate sessions lists all.");
    browser.see("#facts", "gateway-c (10.2.2.10:9121) does not answer: Connection refused");
    browser.see("#facts", "held here, generation 12 – S3 does not answer in time");
    browser.see("#facts", "10.2.1.10 (this node)");
    browser.see("#endpoints .failed", "login failed");
    browser.see(
        "#trouble-summary",
        "33 transfers failed, 54 clients were refused, 9 logins were refused; 10,800 ",
    );
    browser.see("#traffic-summary", "From clients 30.2 GiB");
    browser.see("#events .good", "(17 times)");
    browser.show("busy");
}
