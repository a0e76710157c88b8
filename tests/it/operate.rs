//! What the people who run a gateway see of it: the audit log, the log, metrics and readiness.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::canned::CannedServer;
use crate::harness::ftp::{Ftp, reset};
use crate::harness::gateway::Gateway;
use crate::harness::scripted::{Cut, ScriptedServer};
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, bytes, eventually};

/// More than the sockets on the way hold, so that a download still runs when it is disturbed.
const LARGE: usize = 24 << 20;

/// A transfer as the audit log is to tell it.
#[derive(Debug)]
struct Transfer {
    verb: &'static str,
    path: &'static str,
    bytes: RangeInclusive<u64>,
    outcome: &'static str,
    reply: u16,
}

/// Every verb, and outcomes that clients and servers bring about, in one session.
fn transfer_everything(client: &mut Ftp, server: &Server) -> Vec<Transfer> {
    server.write("large", &bytes(31, LARGE));
    let mut done = Vec::new();
    let mut note = |command: &'static str, bytes: RangeInclusive<u64>, outcome, reply| {
        let (verb, path) = command.split_once(' ').unwrap_or((command, ""));
        done.push(Transfer { verb, path, bytes, outcome, reply });
    };
    let exactly = |content: &[u8]| content.len() as u64..=content.len() as u64;
    for (command, content) in
        [("STOR in voice.csv", &[7; 1000][..]), ("APPE in voice.csv", b"more"), ("STOR empty", b"")]
    {
        note(command, exactly(content), "complete", client.upload(command, content).code);
    }
    for command in ["RETR in voice.csv", "LIST", "NLST", "MLSD"] {
        let (content, reply) = client.download(command);
        assert!(!content.is_empty(), "{command}: {reply:?}");
        note(command, exactly(&content), "complete", reply.code);
    }
    // The server refuses, and then the gateway itself.
    note("RETR missing", 0..=0, "refused", client.download("RETR missing").1.expect(&[550]).code);
    client.pasv();
    client.command("REIN").expect(&[220]);
    client.log_in(server);
    note("LIST nowhere", 0..=0, "refused", client.command("LIST nowhere").expect(&[425]).code);

    let mut data = client.begin("RETR large");
    data.read_exact(&mut [0; 1000]).unwrap();
    client.send("ABOR");
    note("RETR large", 1000..=LARGE as u64 - 1, "aborted", client.reply().code);
    client.reply().expect(&[226]);

    let mut data = client.begin("STOR cut");
    data.write_all(&[1; 1000]).unwrap();
    reset(data);
    note("STOR cut", 0..=1000, "client-failed", client.reply().code);
    done
}

#[test]
fn each_transfer_leaves_one_json_line_that_metrics_agree_with() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let mut client = Ftp::login(gateway.address, &server);
    let from = client.stream().local_addr().unwrap().to_string();
    let began = SystemTime::now();
    let expected = transfer_everything(&mut client, &server);
    let lines = gateway.audit_lines(expected.len());
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(&expected) {
        let of = |key: &str| line[key].as_str().unwrap_or_default();
        let told =
            [of("verb"), of("path"), of("outcome"), of("user"), of("client"), of("endpoint")];
        let endpoint = server.address.to_string();
        assert_eq!(
            told,
            [expected.verb, expected.path, expected.outcome, "alice", &from, &endpoint],
            "{line}"
        );
        assert!(expected.bytes.contains(&line["bytes"].as_u64().unwrap()), "{line}: {expected:?}");
        assert_eq!(line["reply"], expected.reply, "{line}");
        assert_eq!(line["session"], 1, "{line}");
        assert!(line["duration_ms"].as_u64().unwrap() < 60_000, "{line}");
        let time = humantime::parse_rfc3339(of("time")).unwrap();
        assert!(time + Duration::from_secs(1) > began && time < SystemTime::now(), "{line}");
        assert_eq!(line.as_object().unwrap().len(), 11, "{line}");
    }

    let sum = |verbs: &[&str], what: &dyn Fn(&Value) -> u64| {
        let lines = lines.iter().filter(|line| verbs.contains(&line["verb"].as_str().unwrap()));
        lines.map(what).sum::<u64>() as f64
    };
    for (direction, verbs) in [
        ("upload", &["STOR", "APPE"][..]),
        ("download", &["RETR"]),
        ("listing", &["LIST", "NLST", "MLSD"]),
    ] {
        let series = format!("ftpgate_transfer_bytes_total{{direction=\"{direction}\"}}");
        let moved = sum(verbs, &|line| line["bytes"].as_u64().unwrap());
        assert_eq!(gateway.metric(&series), moved, "{series}");
        for outcome in ["complete", "refused", "aborted", "client-failed"] {
            let is_so = |line: &Value| u64::from(line["outcome"] == outcome);
            let series = format!(
                "ftpgate_transfers_total{{direction=\"{direction}\",outcome=\"{outcome}\"}}"
            );
            assert_eq!(gateway.metric(&series), sum(verbs, &is_so), "{series}");
        }
    }
    client.command("QUIT").expect(&[221]);
    drop(client);
    eventually("the session's end", || (gateway.metric("ftpgate_sessions") == 0.0).then_some(()));
    for (series, value) in [
        ("ftpgate_transfers", 0.0),
        ("ftpgate_passive_ports_reserved", 0.0),
        ("ftpgate_sessions_total", 1.0),
        ("ftpgate_session_ends_total{reason=\"quit\"}", 1.0),
        ("ftpgate_logins_total{result=\"accepted\"}", 2.0),
        ("ftpgate_logins_total{result=\"refused\"}", 0.0),
        ("ftpgate_data_resets_total{side=\"client\"}", 1.0),
        ("ftpgate_upstream_connect_seconds_count", 1.0),
        ("ftpgate_audit_dropped_total", 0.0),
    ] {
        assert_eq!(gateway.metric(series), value, "{series}");
    }
}

#[test]
fn each_transfer_leaves_one_line_in_an_xferlog() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("audit", "format = \"xferlog\"").start();
    let mut client = Ftp::login(gateway.address, &server);
    let expected = transfer_everything(&mut client, &server);
    let text = eventually("the xferlog", || {
        Some(gateway.audit_text()).filter(|text| text.matches('\n').count() >= expected.len())
    });
    assert_eq!(text.lines().count(), expected.len());
    for (line, expected) in text.lines().zip(&expected) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bytes = fields[7].parse().unwrap();
        assert!(expected.bytes.contains(&bytes), "{line}: {expected:?}");
        let path = match expected.path {
            "" => "-".to_owned(),
            path => path.replace(' ', "_"),
        };
        let direction = if matches!(expected.verb, "STOR" | "APPE") { 'i' } else { 'o' };
        let status = if expected.outcome == "complete" { 'c' } else { 'i' };
        assert_eq!(
            fields[5..].join(" "),
            format!("1 127.0.0.1 {bytes} {path} b _ {direction} r alice ftp 0 * {status}")
        );
    }
}

#[test]
fn what_the_server_breaks_is_told_as_its_failure() {
    let server = ScriptedServer::start(Cut::ResetData);
    let gateway = Gateway::to_address(server.address()).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    let _data = client.begin("RETR cut-after-1000");
    client.reply().expect(&[426]);
    let line = gateway.audit_line("cut-after-1000");
    assert_eq!((&line["outcome"], &line["reply"]), (&"upstream-failed".into(), &426.into()));
    assert!(line["bytes"].as_u64().unwrap() <= 1000, "{line}");
}

/// What a terminal or a reader of logs takes for more than text.
pub(crate) const SPECIAL: fn(char) -> bool =
    |char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
/// Names that would be lines, colours or fields of their own.
const HOSTILE: [&[u8]; 7] = [
    b"a\x1b[2J\x1b]0;title\x07b",
    "a\u{2028}2026-11-23T00:00:00Z forged\u{2029}\u{85}".as_bytes(),
    b"a\",\"outcome\":\"complete\",\"x\":\"",
    b"a\\\" \\n{\"forged\":true}",
    b"a\tb\x0bc\x0cd\x08",
    b"raw \xff\xfe\x80 Latin-1 \xe9",
    "x 1 2 c\x7f\u{9b}2J".as_bytes(),
];

#[test]
fn names_cannot_forge_lines() {
    let server = CannedServer::script().start();
    for (log, audit) in [("text", "json"), ("json", "xferlog")] {
        let gateway = Gateway::to_address(server.address)
            .set("log", &format!("format = \"{log}\""))
            .set("audit", &format!("format = \"{audit}\""))
            .start();
        for name in HOSTILE {
            let mut client = Ftp::connect(gateway.address);
            let mut say = |verb: &str| {
                let line = [verb.as_bytes(), b" ", name, b"\r\n"].concat();
                client.stream().write_all(&line).unwrap();
                client.reply()
            };
            say("USER").expect(&[331]);
            say("PASS").expect(&[230]);
            say("CWD").expect(&[200]);
            say("RETR").expect(&[425]);
            say("NONSENSE").expect(&[200]);
        }
        let text = eventually("the audit log", || {
            let text = gateway.audit_text();
            (text.matches('\n').count() >= HOSTILE.len()).then_some(text)
        });
        assert_eq!(text.lines().count(), HOSTILE.len());
        for line in text.lines() {
            assert!(!line.contains(SPECIAL), "{}", line.escape_debug());
            if audit == "json" {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!(
                    (&line["outcome"], line.as_object().unwrap().len()),
                    (&"refused".into(), 11)
                );
                assert_eq!(line["path"], line["user"]);
            } else {
                assert_eq!(line.split_whitespace().count(), 18, "{line}");
            }
        }
        for line in gateway.log().lines() {
            let escaped = line.escape_debug();
            assert!(!line.contains(SPECIAL), "{escaped}");
            if log == "json" {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["forged"].is_null(), "{escaped}");
            } else {
                assert!(line.starts_with("20"), "{escaped}");
            }
        }
    }
}

#[test]
fn a_password_is_in_no_log_at_any_level_however_it_is_sent() {
    let server = CannedServer::script().says("ACCT", b"230 in\r\n").start();
    let gateway = Gateway::to_address(server.address).start();
    let secret = "hunter2";
    let long = format!("PASS {}{secret}", "x".repeat(5000));
    let mut client = Ftp::connect(gateway.address);
    for (line, code) in [
        (&b"USER ann\r\npass hunter2"[..], 230),
        (b"\xff\xf4\xff\xf2PaSs hunter2", 230),
        (b"  PASS hunter2", 230),
        (b"PASS \thunter2", 230),
        (b"PASS hun\0ter2hunter2", 501),
        (b"PASS x\rhunter2", 501),
        (b"ACCT hunter2", 230),
        (long.as_bytes(), 500),
    ] {
        client.stream().write_all(&[line, b"\r\n"].concat()).unwrap();
        let mut reply = client.reply();
        if reply.code == 331 {
            reply = client.reply();
        }
        assert_eq!(reply.code, code, "{}", line.escape_ascii());
    }
    client.download("RETR file").1.expect(&[226]);
    client.command("QUIT").expect(&[221]);
    assert!(server.heard().iter().any(|line| line.contains(secret)), "the server must get it");
    gateway.audit_line("file");
    for text in [gateway.log(), gateway.audit_text(), gateway.get("/metrics").1] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(gateway.log().contains("Pass ***"), "that there was one is told");
}

#[test]
fn readiness_follows_the_servers() {
    let endpoint = SocketAddr::from((address::unused(), 2121));
    let gateway = Gateway::to_address(endpoint).set("upstream", "retry_after = \"10m\"").start();
    let ready = || {
        let (status, text) = gateway.get("/readyz");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["ready"], status == 200, "{text}");
        let checks = answer["checks"].as_array().unwrap().clone();
        let check = checks.into_iter().find(|check| check["name"] == "endpoints").unwrap();
        (status, check["detail"].as_str().unwrap().to_owned())
    };
    assert_eq!(ready().0, 200, "nobody has been refused yet");
    Ftp::knock(gateway.address).reply().expect(&[421]);
    assert_eq!(ready(), (503, "0 of 1 healthy".into()));
    assert_eq!(gateway.get("/livez").0, 200, "a restart would not help");
    let _server = CannedServer::script().start_at(endpoint);
    Ftp::connect(gateway.address).command(&format!("PASS {PASSWORD}"));
    assert_eq!(ready(), (200, "1 of 1 healthy".into()));
    for (result, count) in [("connect-error", 3.0), ("ok", 1.0)] {
        let series = format!(
            "ftpgate_upstream_connects_total{{endpoint=\"{endpoint}\",result=\"{result}\"}}"
        );
        assert_eq!(gateway.metric(&series), count, "{series}");
    }
    assert_eq!(gateway.get("/nothing").0, 404);
}
