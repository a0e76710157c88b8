//! What an operator sees of a node from the command line, and the sessions that he ends.

mod probe;
mod sessions;

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

fn receive(control: &TcpStream, ends: &Sender<io::Result<usize>>) -> io::Result<()> {
    converse(control, |mut data| {
        let mut control = control;
        control.write_all(b"150 go\r\n")?;
        let end = data.read_to_end(&mut Vec::new());
        let reply = if end.is_ok() { "226 stored" } else { "426 cut" };
        let _ = ends.send(end);
        Ok(reply)
    })
}

/// Says what a server says; `transfer` has the data connection of a RETR or STOR and gives the reply.
fn converse(
    mut control: &TcpStream,
    mut transfer: impl FnMut(TcpStream) -> io::Result<&'static str>,
) -> io::Result<()> {
    let data = TcpListener::bind((control.local_addr()?.ip(), 0))?;
    let port = data.local_addr()?.port();
    control.write_all(b"220 ready\r\n")?;
    for line in BufReader::new(control).lines() {
        let reply = match line?.get(..4) {
            Some("USER") => "331 password".into(),
            Some("PASS") => "230 in".into(),
            Some("EPSV") => format!("229 ok (|||{port}|)"),
            Some("RETR" | "STOR") => transfer(data.accept()?.0)?.into(),
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

/// All that a node can be asked and told.
const ASKING: [&[&str]; 17] = [
    &["blocks"],
    &["block", "user", "ann"],
    &["unblock", "user", "ann"],
    &["drain"],
    &["drain", "--force"],
    &["resume"],
    &["failover"],
    &["reload"],
    &["upgrade"],
    &["status"],
    &["status", "--json"],
    &["sessions"],
    &["sessions", "--watch"],
    &["sessions", "kill", "1"],
    &["endpoints"],
    &["probe"],
    &["probe", "10.2.3.10", "--depth", "tcp"],
];

/// The subcommands that ask a node, as the command line tells of itself.
fn verbs() -> Vec<String> {
    let help = Ran::of(ftpgate().arg("--help")).expect(0, "Commands:").out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = commands.take_while(|line| line.starts_with("  "));
    let names = names.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    let asks = |name: &String| {
        let help = Ran::of(ftpgate().args(["help", name])).expect(0, "Usage").out;
        help.contains("69  no node answers")
    };
    names.filter(asks).collect()
}

#[test]
fn every_verb_is_tried_here() {
    let verbs = verbs();
    for verb in &verbs {
        assert!(ASKING.iter().any(|asking| asking[0] == verb), "{verb} is not tried");
    }
    for asking in ASKING {
        assert!(
            verbs.iter().any(|verb| verb == asking[0]),
            "{asking:?} does not tell its exit codes"
        );
    }
}

#[test]
fn where_no_node_answers_every_command_says_so_by_69() {
    let server = CannedServer::script().start();
    let mut gateway = Gateway::to_address(server.address).start();
    let socket = socket(&gateway);
    std::fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    for arguments in ASKING {
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
    for arguments in ASKING {
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
    for arguments in ASKING {
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
    for arguments in ASKING {
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
