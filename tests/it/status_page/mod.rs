//! The status page as it is answered: its files, its headers, its stream. What an operator sees of it
//! in a browser is in `seen`.

mod seen;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bytes;
use crate::harness::eventually;
use crate::harness::ftp::{Ftp, reset};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};

/// As many as may look at once.
const VIEWERS: usize = 16;
/// A name that would run, if anything took it for more than text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{1b}[2J\u{2028}.txt";

/// The stream of events.
struct Stream {
    /// Status line and headers.
    head: String,
    body: BufReader<TcpStream>,
}

impl Stream {
    fn open(gateway: &Gateway) -> Self {
        let mut body = BufReader::new(gateway.ask("GET /events HTTP/1.0\r\n\r\n"));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(body.read_line(&mut head).unwrap(), 0, "{head}");
        }
        Self { head, body }
    }

    /// The next event: its name and its data; nothing at the end.
    fn next(&mut self) -> Option<(String, Value)> {
        let (mut name, mut data) = (String::new(), Value::Null);
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", value)) => name = value.into(),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                Some(("retry", value)) => assert_eq!(value, "2000"),
                None if line == "\n" => return Some((name, data)),
                _ => panic!("{line:?}"),
            }
        }
    }

    /// What is told now once that is as expected.
    fn now(&mut self, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let (name, data) = self.next().expect("a stream that goes on");
            (name == "now" && expected(&data)).then_some(data)
        })
    }
}

/// The status of an answer, its headers in lower case, and its body.
fn answer(gateway: &Gateway, request: &str) -> (u16, String, String) {
    let mut text = String::new();
    gateway.ask(&format!("{request} HTTP/1.0\r\n\r\n")).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.into())
}

#[test]
fn the_page_is_embedded_whole_and_lets_nothing_else_in() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).start();
    let mut files = vec!["/".to_owned()];
    let mut seen = 0;
    while let Some(path) = files.get(seen).cloned() {
        seen += 1;
        let (status, head, body) = answer(&gateway, &format!("GET {path}"));
        assert_eq!(status, 200, "{path}");
        let kind = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert!(head.contains(&format!("\r\ncontent-type: {kind}")), "{path}: {head}");
        expect_guarded(&head);
        // What a browser could load, run or be led to, it finds here and in no markup.
        for outside in ["https:", "//cdn", "<style", " style=", " onclick=", "innerHTML", "eval("] {
            assert!(!body.contains(outside), "{path}: {outside}");
        }
        assert_eq!(
            body.matches("<script").count(),
            body.matches("<script type=\"module\" src=").count()
        );
        for (before, after) in [("src=\"", "\""), ("href=\"", "\""), ("from \"./", "\"")] {
            for named in body.split(before).skip(1) {
                let name = named.split(after).next().unwrap();
                let path = format!("/{name}");
                if !name.starts_with('#') && !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        // What stands there without JavaScript.
        files.retain(|path| !["/readyz", "/metrics"].contains(&&**path));
    }
    assert_eq!(files.len(), 7, "{files:?}");
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(answer(&gateway, &format!("{method} /")).0, 405);
        assert_eq!(answer(&gateway, &format!("{method} /events")).0, 405);
    }
}

fn expect_guarded(head: &str) {
    let head = head.to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
        "x-content-type-options: nosniff\r\n",
        "referrer-policy: no-referrer\r\n",
        "cross-origin-resource-policy: same-origin\r\n",
        "cache-control: no-store\r\n",
    ] {
        assert!(format!("{head}\r\n").contains(header), "{header} is missing in {head}");
    }
}

#[test]
fn a_page_that_is_switched_off_is_not_there() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).set("http", "page = false").start();
    for path in ["/", "/page.js", "/events"] {
        assert_eq!(answer(&gateway, &format!("GET {path}")).0, 404, "{path}");
    }
    assert_eq!(answer(&gateway, "GET /livez").0, 200);
}

#[test]
fn the_stream_tells_all_but_the_password() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).start();
    let mut stream = Stream::open(&gateway);
    assert!(stream.head.to_lowercase().contains("content-type: text/event-stream\r\n"));
    expect_guarded(stream.head.trim_end());
    // The first of each comes at once.
    assert_eq!(stream.next().unwrap().0, "now");
    let (name, history) = stream.next().unwrap();
    let columns: Vec<_> = history.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["down", "end", "failed_logins", "refused", "sessions", "step", "transfers", "up"];
    assert_eq!((&*name, &*columns), ("history", &expected[..]));
    let idle = stream.now("an active node", |now| now["role"] == "active");
    for (field, value) in
        [("sessions", 0.into()), ("rows", Value::Array(Vec::new())), ("ready", true.into())]
    {
        assert_eq!(idle[field], value, "{field} of {idle}");
    }
    assert_eq!(idle["endpoints"][0]["address"], server.address.to_string());
    assert_eq!(idle["version"], env!("CARGO_PKG_VERSION"));
    assert!(idle["events"][0]["text"].as_str().unwrap().starts_with("active: "), "{idle}");
    let mut client = Ftp::connect(gateway.address);
    client.command("USER anonymous").expect(&[331]);
    client.command("PASS never-to-be-told").expect(&[230]);
    let _other = Ftp::connect(gateway.address);
    client.command("ALLO 300000").expect(&[202]);
    let mut upload = client.begin(&format!("STOR {HOSTILE}"));
    upload.write_all(&bytes(1, 100_000)).unwrap();
    let busy = stream.now("the upload", |now| now["rows"][0]["transfer"]["bytes"] == 100_000);
    let (row, transfer) = (&busy["rows"][0], &busy["rows"][0]["transfer"]);
    assert_eq!((&busy["sessions"], &busy["transfers"]), (&2.into(), &1.into()));
    assert_eq!((&row["user"], &row["state"]), (&"anonymous".into(), &"transfer".into()));
    assert_eq!((&transfer["path"], &transfer["size"]), (&HOSTILE.into(), &300_000.into()));
    assert_eq!(busy["moved"]["up"], 100_000);
    assert_eq!(busy["rows"].as_array().unwrap().len(), 2);

    reset(upload);
    client.reply().expect(&[426]);
    let after = stream.now("the failed transfer", |now| now["events"][0]["about"] == "transfer");
    let event = &after["events"][0];
    assert_eq!((&event["tone"], &event["count"]), (&"bad".into(), &1.into()));
    let text = event["text"].as_str().unwrap();
    let told =
        "client-failed: STOR <img src=x onerror=alert(1)>\\u001b[2J\\u2028.txt by anonymous from ";
    assert!(text.starts_with(told) && text.ends_with(", after 100000 bytes"), "{text}");
    assert_eq!(after["moved"]["up"], 100_000, "what has ended counts once");
    for told in [idle, history, busy, after] {
        assert!(!told.to_string().contains("never-to-be-told"));
    }
}

#[test]
fn what_clients_meet_is_summed_up_and_what_is_ordered_is_told() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).set("limits", "sessions = 1").start();
    let mut stream = Stream::open(&gateway);
    // The last change that comes by itself.
    stream.now("an active node", |now| now["role"] == "active");
    let _only = Ftp::login(gateway.address, &server);
    for _ in 0..3 {
        Ftp::knock(gateway.address).reply().expect(&[421]);
    }
    let told = stream.now("the refused clients", |now| now["events"][0]["count"] == 3);
    let event = &told["events"][0];
    assert_eq!((&event["about"], &event["tone"]), (&"client".into(), &"bad".into()));
    assert_eq!(event["text"], "client refused: limit");
    assert_eq!(gateway.order(&["reload"]).0, Some(0));
    let told = stream.now("the reload", |now| now["events"][0]["about"] == "configuration");
    let event = &told["events"][0];
    assert_eq!(
        (&event["text"], &event["tone"]),
        (&"the configuration is taken up".into(), &"good".into())
    );
    let events = told["events"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["about"] == "client").count(), 1);
}

#[test]
fn only_so_many_look_at_once_and_each_of_them_is_told() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).start();
    let mut viewers: Vec<_> = (0..VIEWERS).map(|_| Stream::open(&gateway)).collect();
    for viewer in &mut viewers {
        viewer.now("anything", |now| now["sessions"] == 0);
    }
    let (status, head, body) = answer(&gateway, "GET /events");
    assert_eq!(status, 503);
    expect_guarded(&head);
    assert_eq!(body, "16 viewers look at this node already: close one of them\n");
    viewers.pop();
    let mut late = eventually("the place of one that has left", || {
        let stream = Stream::open(&gateway);
        stream.head.starts_with("HTTP/1.0 200 ").then_some(stream)
    });
    late.now("anything", |now| now["sessions"] == 0);
}

#[test]
fn no_other_site_can_read_the_page_through_a_browser() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).set("node", "name = \"gateway-a\"").start();
    for (host, expected) in [
        ("127.0.0.1", 200),
        ("10.2.1.10:9121", 200),
        ("[::1]:9121", 200),
        ("localhost:9121", 200),
        ("Gateway-A", 200),
        ("gateway-a.evil.example", 403),
        ("evil.example:9121", 403),
        ("localhost@evil.example", 403),
    ] {
        for path in ["/", "/events"] {
            let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
            let mut line = String::new();
            BufReader::new(gateway.ask(&request)).read_line(&mut line).unwrap();
            assert!(line.contains(&format!(" {expected} ")), "{host}{path}: {line}");
        }
        let health = answer(&gateway, "GET /livez").0;
        assert_eq!(health, 200, "whoever asks");
    }
}

#[test]
fn a_node_that_ends_does_not_wait_for_who_looks() {
    let server = Server::start(Kind::Vsftpd);
    let mut gateway = Gateway::to(&server).start();
    let mut stream = Stream::open(&gateway);
    stream.now("an active node", |now| now["role"] == "active");
    let told = Instant::now();
    gateway.sigterm();
    // It tells to the end: the last that is heard is that it drains, or goes on to be active.
    while stream.next().is_some() {}
    assert_eq!(gateway.wait().code(), Some(0));
    // What still is to be answered is waited for longer.
    assert!(told.elapsed() < Duration::from_millis(1900), "{:?}", told.elapsed());
}
