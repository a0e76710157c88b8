//! What an operator sees of a node from the command line, and the sessions that he ends.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::canned::CannedServer;
use crate::harness::ftp::{End, Ftp, fin, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::servers::PASSWORD;
use crate::harness::{PATIENCE, address, bytes, eventually};

/// What a command has done.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Panics unless it ended so, and said so.
    #[track_caller]
    fn expect(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let said = format!("{}{}", self.out, self.err);
        assert!(said.contains(words), "{words:?} is not in {self:?}");
        // Nobody is at the terminal: no colours.
        assert!(!said.contains('\u{1b}'), "{self:?}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn ftpgate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ftpgate"))
}

fn run(gateway: &Gateway, arguments: &[&str]) -> Ran {
    Ran::of(ftpgate().args(arguments).arg("--config").arg(gateway.configuration()))
}

fn socket(gateway: &Gateway) -> PathBuf {
    gateway.configuration().with_file_name("admin.sock")
}

/// The sessions as scripts get them.
fn sessions(gateway: &Gateway) -> Vec<Value> {
    let answer = run(gateway, &["sessions", "--json"]).expect(0, "").json();
    answer["sessions"].as_array().unwrap().clone()
}

/// Asks the socket itself: the status, and the answer.
fn ask(socket: &Path, request: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: ftpgate\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// A server that tells how each upload ended: by how many bytes and FIN, or by what error.
fn receiving_server() -> (SocketAddr, Receiver<io::Result<usize>>) {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let address = listener.local_addr().unwrap();
    let (ends, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ends = ends.clone();
            thread::spawn(move || receive(&stream, &ends));
        }
    });
    (address, told)
}

fn receive(mut control: &TcpStream, ends: &Sender<io::Result<usize>>) -> io::Result<()> {
    let data = TcpListener::bind((control.local_addr()?.ip(), 0))?;
    let port = data.local_addr()?.port();
    control.write_all(b"220 ready\r\n")?;
    for line in BufReader::new(control).lines() {
        let reply = match line?.get(..4) {
            Some("USER") => "331 password".into(),
            Some("PASS") => "230 in".into(),
            Some("EPSV") => format!("229 ok (|||{port}|)"),
            Some("STOR") => {
                control.write_all(b"150 go\r\n")?;
                let end = data.accept()?.0.read_to_end(&mut Vec::new());
                let reply = if end.is_ok() { "226 stored" } else { "426 cut" };
                let _ = ends.send(end);
                reply.into()
            }
            _ => "200 ok".into(),
        };
        control.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

fn log_in(gateway: &Gateway, user: &str) -> Ftp {
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as(user);
    client
}

const READING: [&[&str]; 7] = [
    &["status"],
    &["status", "--json"],
    &["sessions"],
    &["sessions", "--watch"],
    &["sessions", "kill", "1"],
    &["endpoints"],
    &["probe"],
];

#[test]
fn where_no_node_answers_every_command_says_so_by_69() {
    let server = CannedServer::script().start();
    let mut gateway = Gateway::to_address(server.address).start();
    let socket = socket(&gateway);
    std::fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    for arguments in READING {
        // Root may open everything, unless that is taken from it.
        let mut command = Command::new("setpriv");
        let powers = "-dac_override,-dac_read_search";
        command.args(["--bounding-set", powers, "--inh-caps", powers, "--"]);
        command.arg(env!("CARGO_BIN_EXE_ftpgate")).args(arguments);
        command.arg("--config").arg(gateway.configuration());
        Ran::of(&mut command).expect(69, "you may not open");
    }
    std::fs::set_permissions(&socket, Permissions::from_mode(0o660)).unwrap();
    run(&gateway, &["status"]).expect(0, "");
    gateway.sigkill();
    for arguments in READING {
        run(&gateway, arguments).expect(69, "is `ftpgate serve` running?");
    }
    let nowhere = Ran::of(ftpgate().args(["status", "--socket", "/nowhere/admin.sock"]));
    nowhere.expect(69, "no node answers at /nowhere/admin.sock");
}

#[test]
fn a_wrong_configuration_or_command_line_is_told_from_a_node_that_is_not_there() {
    let directory = TempDir::new().unwrap();
    let off = directory.path().join("off.toml");
    let endpoint = "[[upstream.endpoint]]\naddress = \"192.0.2.1:21\"\n";
    std::fs::write(&off, format!("[admin]\nenabled = false\n{endpoint}")).unwrap();
    let broken = directory.path().join("broken.toml");
    std::fs::write(&broken, format!("[admin]\nsocket = 7\n{endpoint}")).unwrap();
    for arguments in READING {
        for (file, words) in
            [(&off, "[admin] is off"), (&broken, "broken.toml"), (&"/no.toml".into(), "/no.toml")]
        {
            Ran::of(ftpgate().args(arguments).arg("--config").arg(file)).expect(78, words);
        }
    }
    for arguments in [
        &["sessions", "kill"][..],
        &["sessions", "kill", "first"],
        &["sessions", "--client", "gateway"],
        &["sessions", "--user", "ann", "kill", "1"],
        &["probe", "--depth", "deep"],
        &["completions", "tcsh"],
    ] {
        Ran::of(ftpgate().args(arguments)).expect(2, "error:");
    }
    for command in ["status", "sessions", "endpoints", "probe", "drain", "resume", "failover"] {
        Ran::of(ftpgate().args([command, "--help"])).expect(0, "69  no node answers");
    }
}

#[test]
fn who_answers_in_other_words_is_no_node() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    for arguments in READING {
        let ran = Ran::of(ftpgate().args(arguments).arg("--socket").arg(&socket));
        ran.expect(69, "is no ftpgate of this version");
    }
}

#[test]
fn what_is_asked_for_in_vain_is_answered_by_an_error() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    for (request, status, words) in [
        ("GET /nothing", 404, "knows no /nothing"),
        ("POST /sessions", 405, "/sessions does not take this method"),
        ("GET /probe", 405, "/probe does not take this method"),
        ("DELETE /sessions/99", 404, "there is no session 99"),
        ("DELETE /sessions/first", 400, "first is no number"),
        ("DELETE /sessions/-1", 400, "-1 is no number"),
        ("POST /probe/192.0.2.9?depth=tcp", 404, "there is no endpoint 192.0.2.9"),
        ("POST /probe?depth=off", 400, "expected depth=tcp"),
        ("POST /probe?deep", 400, "expected depth=tcp"),
        ("POST /probe", 409, "probe.depth is \"off\""),
        ("POST /failover", 409, "there is no peer"),
    ] {
        let (answered, body) = ask(&socket(&gateway), request);
        let error = body["error"].as_str().unwrap_or_default();
        assert!(answered == status && error.contains(words), "{request}: {answered} {body}");
    }
    run(&gateway, &["sessions", "kill", "99"]).expect(1, "error: there is no session 99");
    run(&gateway, &["probe"]).expect(1, "error: probe.depth is \"off\"");
    run(&gateway, &["probe", "192.0.2.9:21", "--depth", "tcp"])
        .expect(1, "error: there is no endpoint 192.0.2.9:21");
}

#[test]
fn an_upload_is_seen_to_grow() {
    let (server, _told) = receiving_server();
    let gateway = Gateway::to_address(server).start();
    run(&gateway, &["sessions"]).expect(0, "no sessions\n");
    let mut client = log_in(&gateway, "alice");
    let from = client.stream().local_addr().unwrap().to_string();
    let _stranger = Ftp::connect(gateway.address);
    assert_eq!(client.upload("STOR first.csv", &bytes(1, 1000)).code, 226);
    let mut upload = client.begin("STOR in/second.csv");
    for sent in [100_000, 300_000] {
        upload.write_all(&bytes(2, 100_000 * if sent == 100_000 { 1 } else { 2 })).unwrap();
        let session = eventually("the bytes to be seen", || {
            sessions(&gateway).into_iter().find(|it| it["transfer"]["bytes"] == sent)
        });
        assert_eq!(session["bytes"], 1000 + sent, "{session}");
    }
    let list = sessions(&gateway);
    assert_eq!(list.len(), 2);
    let (session, stranger) = (&list[0], &list[1]);
    for (field, value) in [
        ("id", Value::from(1)),
        ("client", from.clone().into()),
        ("listener", gateway.address.to_string().into()),
        ("user", "alice".into()),
        ("endpoint", server.to_string().into()),
        ("tls", Value::Null),
        ("state", "transfer".into()),
        ("files", 1.into()),
    ] {
        assert_eq!(session[field], value, "{field} of {session}");
    }
    for time in [&session["since"], &session["last_command"], &session["transfer"]["since"]] {
        humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    }
    let transfer = &session["transfer"];
    for (field, value) in [("verb", "STOR"), ("path", "in/second.csv"), ("direction", "upload")] {
        assert_eq!(transfer[field], value, "{transfer}");
    }
    assert_eq!((&transfer["ascii"], &transfer["tls"]), (&false.into(), &false.into()));
    assert_eq!(session.as_object().unwrap().len(), 12, "{session}");
    assert_eq!(transfer.as_object().unwrap().len(), 7, "{transfer}");
    assert_eq!((&stranger["state"], &stranger["user"]), (&"login".into(), &Value::Null));

    let shown = run(&gateway, &["sessions"]).expect(0, "2 sessions, 1 transfer\n").out;
    assert!(shown.contains("STOR in/second.csv, 293.0 KiB in "), "{shown}");
    let client_network = "127.0.0.0/8";
    for (filter, count) in [
        (["--user", "alice"], 1),
        (["--user", "ali"], 0),
        (["--client", &from], 1),
        (["--client", client_network], 2),
        (["--client", "192.0.2.1"], 0),
        (["--endpoint", &server.to_string()], 2),
        (["--endpoint", &server.ip().to_string()], 2),
    ] {
        let ran = run(&gateway, &[&["sessions", "--json"][..], &filter].concat());
        assert_eq!(ran.json()["sessions"].as_array().unwrap().len(), count, "{filter:?}: {ran:?}");
    }
    let status = run(&gateway, &["status", "--json"]).json();
    assert_eq!((&status["sessions"], &status["transfers"]), (&2.into(), &1.into()), "{status}");

    fin(&upload);
    client.final_reply().expect(&[226]);
    let idle = eventually("it to be idle", || {
        sessions(&gateway).into_iter().find(|session| session["state"] == "idle")
    });
    assert_eq!((&idle["files"], &idle["bytes"]), (&2.into(), &301_000.into()), "{idle}");
    assert_eq!(idle["transfer"], Value::Null);
    client.command("QUIT").expect(&[200]);
}

#[test]
fn a_session_that_is_killed_in_an_upload_leaves_no_complete_file() {
    let (server, told) = receiving_server();
    let gateway = Gateway::to_address(server).start();
    let mut victim = log_in(&gateway, "alice");
    let mut other = log_in(&gateway, "bob");
    let mut upload = victim.begin("STOR cut.csv");
    upload.write_all(&bytes(1, 50_000)).unwrap();
    let mut kept = other.begin("STOR kept.csv");
    kept.write_all(&bytes(2, 50_000)).unwrap();
    eventually("the bytes to be on their way", || {
        let moved = |session: &Value| session["transfer"]["bytes"] == 50_000;
        (sessions(&gateway).iter().filter(|session| moved(session)).count() == 2).then_some(())
    });
    run(&gateway, &["sessions", "kill", "1", "77"])
        .expect(1, "session 1 is ended\nerror: there is no session 77\n");
    let ids: Vec<_> = sessions(&gateway).iter().map(|session| session["id"].clone()).collect();
    assert_eq!(ids, [2], "who looks next does not find it");

    let error = told.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "and no FIN");
    victim.reply().expect(&[426]);
    let last = victim.reply().expect(&[421]);
    assert!(last.text.contains("ended by the operator"), "{last:?}");
    assert!(victim.is_closed());
    let line = gateway.audit_line("cut.csv");
    assert_eq!(
        (&line["outcome"], &line["reply"], &line["session"]),
        (&"gateway-failed".into(), &426.into(), &1.into())
    );
    eventually("the end to be counted", || {
        (gateway.metric("ftpgate_session_ends_total{reason=\"killed\"}") == 1.0).then_some(())
    });
    gateway.logs("reason=\"killed\"");

    kept.write_all(&bytes(3, 50_000)).unwrap();
    fin(&kept);
    other.final_reply().expect(&[226]);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap(), 100_000);
    assert_eq!(gateway.audit_line("kept.csv")["outcome"], "complete");
}

#[test]
fn a_session_that_is_killed_in_a_download_ends_it_by_reset() {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let endpoint = listener.local_addr().unwrap();
    thread::spawn(move || send_some(&listener.accept().unwrap().0));
    let gateway = Gateway::to_address(endpoint).start();
    let mut client = log_in(&gateway, "alice");
    let mut download = client.begin("RETR large.csv");
    download.read_exact(&mut [0; 1000]).unwrap();
    run(&gateway, &["sessions", "kill", "1"]).expect(0, "session 1 is ended");
    assert_eq!(read_to_end(download), (Vec::new(), End::Reset));
    client.reply().expect(&[426]);
    client.reply().expect(&[421]);
    assert_eq!(gateway.audit_line("large.csv")["bytes"], 1000);
}

/// Sends 1000 bytes of a download, and never the rest.
fn send_some(mut control: &TcpStream) -> io::Result<()> {
    let data = TcpListener::bind((control.local_addr()?.ip(), 0))?;
    let (port, mut open) = (data.local_addr()?.port(), Vec::new());
    control.write_all(b"220 ready\r\n")?;
    for line in BufReader::new(control).lines() {
        let reply = match line?.get(..4) {
            Some("USER") => "331 password".into(),
            Some("PASS") => "230 in".into(),
            Some("EPSV") => format!("229 ok (|||{port}|)"),
            Some("RETR") => {
                open.push(data.accept()?.0);
                open.last_mut().unwrap().write_all(&[7; 1000])?;
                "150 go".into()
            }
            _ => "200 ok".into(),
        };
        control.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

#[test]
fn sessions_that_are_killed_when_idle_or_before_their_login_are_told() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    let (mut idle, mut stranger) = (log_in(&gateway, "alice"), Ftp::connect(gateway.address));
    let mut reserving = log_in(&gateway, "bob");
    reserving.pasv();
    let killed = run(&gateway, &["sessions", "kill", "1", "2", "3", "--json"]).expect(0, "").json();
    assert_eq!(killed, serde_json::json!({ "ended": [1, 2, 3], "failed": [] }));
    for client in [&mut idle, &mut stranger, &mut reserving] {
        assert_eq!(client.reply().text, "421 This session was ended by the operator.\r\n");
        assert!(client.is_closed());
    }
    assert!(sessions(&gateway).is_empty());
    eventually("the port to be free again", || {
        (gateway.metric("ftpgate_passive_ports_reserved") == 0.0).then_some(())
    });
    run(&gateway, &["sessions", "kill", "1"]).expect(1, "there is no session 1");
    log_in(&gateway, "carol").command("NOOP").expect(&[200]);
}

#[test]
fn a_watch_goes_on_until_it_is_interrupted() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    let _client = log_in(&gateway, "alice");
    for json in [false, true] {
        let mut command = ftpgate();
        command.args(["sessions", "--watch", "--interval", "20ms", "--config"]);
        command.arg(gateway.configuration()).args(json.then_some("--json"));
        let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let line = lines.find(|line| line.as_ref().unwrap().contains("alice"));
            let line = line.unwrap().unwrap();
            assert_eq!(json, serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        }
        let process = Pid::from_raw(watch.id().try_into().unwrap()).unwrap();
        kill_process(process, Signal::INT).unwrap();
        // So that it never waits for somebody to read.
        lines.for_each(drop);
        assert_eq!(watch.wait().unwrap().code(), Some(0));
    }
    // Or until nobody reads it any more.
    let mut command = ftpgate();
    command.args(["sessions", "--watch", "--interval", "20ms", "--config"]);
    let mut watch = command.arg(gateway.configuration()).stdout(Stdio::piped()).spawn().unwrap();
    drop(watch.stdout.take());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[test]
fn a_probe_goes_as_deep_as_it_is_asked_to_and_counts_only_if_it_is_the_ordinary_one() {
    let server = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let dead = SocketAddr::from((address::unused(), 2121));
    let gateway = Gateway::probing(server.address, "banner")
        .probe_password(PASSWORD)
        .or_to_address(dead)
        .start();
    gateway.until_healthy(server.address);
    let good = server.address.to_string();
    for (depth, code, stages) in [
        ("tcp", 0, &["connect"][..]),
        ("banner", 0, &["connect", "banner"]),
        ("login", 1, &["connect", "banner", "login"]),
    ] {
        let ran = run(&gateway, &["probe", &good, "--depth", depth, "--json"]).expect(code, "");
        let answer = ran.json();
        assert_eq!(answer["ok"], code == 0, "{answer}");
        let results = answer["results"].as_array().unwrap();
        let result = &results[0];
        assert_eq!((results.len(), &result["depth"]), (1, &depth.into()), "{answer}");
        assert_eq!(
            (&result["endpoint"], &result["counted"]),
            (&good.clone().into(), &false.into())
        );
        assert_eq!(result.as_object().unwrap().len(), 7, "{answer}");
        let gone = result["stages"].as_array().unwrap();
        assert!(gone.iter().map(|stage| &stage["stage"]).eq(stages), "{answer}");
        let last = gone.last().unwrap();
        assert_eq!((&last["ok"], last["reason"].is_null()), (&(code == 0).into(), code == 0));
        assert_eq!(last["seconds"].is_null(), code != 0, "{answer}");
    }
    assert_eq!(gateway.endpoints().1[0], format!("{good} healthy 0"), "nothing was counted");
    assert_eq!(gateway.probes(server.address, "login"), 0);
    run(&gateway, &["probe", &good, "--depth", "login"])
        .expect(1, "login: 530: it refuses the user or the password");
    let ip = server.address.ip().to_string();
    run(&gateway, &["probe", &ip]).expect(0, "banner");
    let all = run(&gateway, &["probe"]).expect(1, "connect: Connection refused").out;
    assert_eq!(all.lines().count(), 3, "{all}");
    let all = run(&gateway, &["probe", "--json"]).expect(1, "").json();
    assert!(all["results"].as_array().unwrap().iter().all(|result| result["counted"] == true));
    assert!(!gateway.log().contains(PASSWORD), "{}", gateway.log());

    let shown = run(&gateway, &["endpoints"]).expect(0, "connect: Connection refused").out;
    assert!(shown.contains("healthy") && shown.contains("banner "), "{shown}");
    let answer = run(&gateway, &["endpoints", "--json"]).expect(0, "").json();
    for endpoint in answer["endpoints"].as_array().unwrap() {
        for field in ["address", "name", "zone", "state", "reason", "sessions", "stages", "probed"]
        {
            assert!(endpoint.get(field).is_some(), "{field} is not in {endpoint}");
        }
        humantime::parse_rfc3339(endpoint["probed"].as_str().unwrap()).unwrap();
    }
    // The role follows a little later.
    let active = || (gateway.get("/activez").0 == 200).then_some(());
    eventually("the node to be active", active);
    let status = run(&gateway, &["status"]).expect(0, "there is no other node").out;
    assert!(status.contains("ready     yes") && status.contains(&dead.to_string()), "{status}");
}

#[test]
fn a_probe_by_hand_works_where_there_are_no_others() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    run(&gateway, &["probe", "--depth", "banner"]).expect(0, "ok");
    run(&gateway, &["probe", "--depth", "login"]).expect(1, "there is no [probe.password]");
    let status = run(&gateway, &["endpoints", "--json"]).json();
    assert_eq!(status["endpoints"][0]["probed"], Value::Null, "it was nobody's but ours");
}

#[test]
fn names_reach_no_terminal_raw() {
    let server = CannedServer::script().says("RETR", b"").start();
    let gateway = Gateway::to_address(server.address).start();
    let hostile = "a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}2J\u{2028}\u{202e}b\u{7f}";
    let mut client = Ftp::connect(gateway.address);
    let mut say = |line: String| {
        client.send(&line);
        client.reply()
    };
    say(format!("USER {hostile}")).expect(&[331]);
    say(format!("PASS {PASSWORD}")).expect(&[230]);
    let at = client.pasv();
    let _data = client.open(at);
    client.send(&format!("RETR {hostile}"));
    let shown = eventually("the transfer", || {
        let shown = run(&gateway, &["sessions"]).out;
        shown.contains("RETR").then_some(shown)
    });
    let escaped = "a\\u001b[2J\\u001b]0;title\\u0007\\u009b2J\\u2028\\u202eb\\u007f";
    assert_eq!(shown.matches(escaped).count(), 2, "{}", shown.escape_debug());
    let json = run(&gateway, &["sessions", "--json"]);
    for text in [&shown, &json.out] {
        let raw = |char: char| char != '\n' && (char.is_control() || char == '\u{2028}');
        assert!(!text.contains(raw), "{}", text.escape_debug());
    }
    let session = &json.json()["sessions"][0];
    assert_eq!(
        (&session["user"], &session["transfer"]["path"]),
        (&hostile.into(), &hostile.into())
    );
    let ran = run(&gateway, &["sessions", "--json", "--user", hostile]).json();
    assert_eq!(ran["sessions"].as_array().unwrap().len(), 1);
    let ran = run(&gateway, &["probe", hostile, "--depth", "tcp"]).expect(1, escaped);
    assert!(!ran.err.trim_end().contains(char::is_control), "{}", ran.err.escape_debug());
}

/// A server that says 220 and nothing else, in one thread.
fn greeting_server() -> SocketAddr {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let greet = |mut stream: TcpStream| {
            let _ = stream.write_all(b"220 ready\r\n");
            stream
        };
        let _kept: Vec<TcpStream> = listener.incoming().flatten().map(greet).collect();
    });
    address
}

#[test]
fn a_thousand_sessions_are_listed_at_once_while_they_come_and_go() {
    const COUNT: usize = 1000;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let gateway = Gateway::to_address(greeting_server())
        .set("limits", "sessions_per_client = 5000")
        .set("log", "format = \"json\"")
        .start();
    let stay: Vec<Ftp> = (0..COUNT).map(|_| Ftp::connect(gateway.address)).collect();
    let (stop, stopped) = channel::<()>();
    thread::scope(|scope| {
        let gateway = &gateway;
        scope.spawn(move || {
            while stopped.try_recv().is_err() {
                drop(Ftp::connect(gateway.address));
            }
        });
        for _ in 0..20 {
            let started = Instant::now();
            let list = sessions(gateway);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(5), "{took:?}");
            let ids: Vec<u64> = list.iter().map(|it| it["id"].as_u64().unwrap()).collect();
            assert!(ids.is_sorted_by(|one, next| one < next), "each once, in order: {ids:?}");
            assert!((1..=COUNT as u64).all(|id| ids.binary_search(&id).is_ok()), "{ids:?}");
        }
        stop.send(()).unwrap();
    });
    drop(stay);
    eventually("all to be gone", || sessions(&gateway).is_empty().then_some(()));
}

#[test]
fn shells_and_man_are_given_what_they_need() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Ran::of(ftpgate().args(["completions", shell])).expect(0, "sessions").out;
        assert!(script.contains("round-trip"), "{script}");
        if shell == "bash" {
            let mut check = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            check.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(check.wait().unwrap().success());
        }
    }
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("man");
    Ran::of(ftpgate().arg("man").arg("--out").arg(&out)).expect(0, "");
    for page in ["ftpgate", "ftpgate-sessions", "ftpgate-sessions-kill", "ftpgate-serve"] {
        let text = std::fs::read_to_string(out.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME"), "{text}");
    }
    Ran::of(ftpgate().arg("man")).expect(0, ".TH ftpgate 1");
    Ran::of(ftpgate().args(["man", "--out", "/proc/nowhere"])).expect(1, "error:");
}
