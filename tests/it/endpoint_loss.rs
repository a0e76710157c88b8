//! Endpoints that die and endpoints that vanish, before many clients: none of them may notice.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::namespace::Namespace;
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

/// How long an attempt to connect may take here.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an upstream may keep silent here.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// Three endpoints over one directory.
struct Zones {
    safe: Server,
    killed: Server,
    vanished: Server,
    wire: Namespace,
    _root: TempDir,
}

impl Zones {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let wire = Namespace::new();
        let options = || Server::options(Kind::ApacheFtpServer).root(root.path());
        let (safe, killed) = (options().start(), options().start());
        let vanished = options().inside(&wire).start();
        Self { safe, killed, vanished, wire, _root: root }
    }

    fn gateway(&self) -> Gateway {
        Gateway::to(&self.vanished)
            .or_to(&self.killed)
            .or_to(&self.safe)
            .set("upstream", &format!("connect_timeout = \"{CONNECT_TIMEOUT:?}\""))
            .set("upstream", &format!("lost_after = \"{LOST_AFTER:?}\""))
            .set("upstream", "retry_after = \"1s\"")
            .set("probe", "interval = \"500ms\"")
            .set("probe", "timeout = \"500ms\"")
            .start()
    }

    /// One is killed outright, the other is no longer to be heard of.
    fn lose(&mut self) {
        self.wire.cut();
        self.killed.sigkill();
    }
}

#[test]
fn five_hundred_new_clients_do_not_notice_that_two_of_three_endpoints_are_lost() {
    let mut zones = Zones::start();
    let gateway = zones.gateway();
    eventually("all three to be healthy", || {
        let (_, endpoints) = gateway.endpoints();
        endpoints.iter().all(|endpoint| endpoint.contains(" healthy ")).then_some(())
    });
    // Eight clients at a time; the loss comes in the middle of them.
    let next = AtomicUsize::new(0);
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let clients = (0..8).map(|_| {
            scope.spawn(|| {
                let mut times = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < 600 {
                    let started = Instant::now();
                    let mut client = Ftp::connect(gateway.address);
                    times.push(started.elapsed());
                    client.log_in_as("alice");
                    client.command("PWD").expect(&[257]);
                    client.command("QUIT").expect(&[221]);
                }
                times
            })
        });
        let clients: Vec<_> = clients.collect();
        eventually("a hundred clients", || (next.load(Ordering::Relaxed) >= 100).then_some(()));
        zones.lose();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{} clients: banner after {median:?} (median), {longest:?} (longest)", times.len());
    assert!(longest < CONNECT_TIMEOUT * 2, "a client waited {longest:?} for its banner");
    let refused = gateway.metric("ftpgate_sessions_refused_total{reason=\"no-endpoint\"}");
    assert_eq!(refused, 0.0);
    let (status, endpoints) = gateway.endpoints();
    assert_eq!(status, 200);
    assert!(endpoints[0].contains("unhealthy") && endpoints[1].contains("unhealthy"));
    assert!(endpoints[2].contains(" healthy"), "{endpoints:?}");

    // And back.
    zones.wire.mend();
    eventually("the vanished one to be healthy again", || {
        gateway.endpoints().1[0].contains(" healthy ").then_some(())
    });
    let kept = Ftp::connect(gateway.address);
    let sessions = gateway.endpoints().1;
    assert!(sessions[0].ends_with(" 1"), "it gets clients again: {sessions:?}");
    drop(kept);
}

#[test]
fn idle_sessions_outlive_their_endpoints_with_directory_and_type() {
    let mut zones = Zones::start();
    zones.safe.create_dir("in");
    let gateway = zones.gateway();
    let mut clients: Vec<Ftp> = (0..300)
        .map(|_| {
            let mut client = Ftp::login(gateway.address, &zones.safe);
            client.command("CWD in").expect(&[250]);
            client.command("TYPE A").expect(&[200]);
            client
        })
        .collect();
    let counts: Vec<_> = gateway
        .endpoints()
        .1
        .iter()
        .map(|endpoint| endpoint.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(counts, ["100", "100", "100"]);
    zones.lose();
    // Some speak before the loss can be known.
    for client in &mut clients {
        client.send("PWD");
    }
    for client in &mut clients {
        let reply = client.reply().expect(&[257]);
        assert!(reply.text.contains("\"/in\""), "{}", reply.text);
    }
    // In type A this server turns LF into CRLF.
    zones.safe.write("in/text", b"one\ntwo\n");
    for client in &mut clients[..20] {
        let (text, reply) = client.download("RETR text");
        assert_eq!((text.as_slice(), reply.code), (b"one\r\ntwo\r\n".as_slice(), 226));
    }
    let resumed = "ftpgate_session_resumes_total{result=\"resumed\"}";
    assert_eq!(gateway.metric(resumed), 200.0);
    let failed = "ftpgate_session_resumes_total{result=\"failed\"}";
    assert_eq!(gateway.metric(failed), 0.0);
}

#[test]
fn transfers_to_an_endpoint_that_vanishes_end_in_426_in_time_and_never_look_complete() {
    let zones = Zones::start();
    let content = bytes(3, 64 << 20);
    zones.safe.write("down", &content);
    let gateway = zones.gateway();
    let login = || {
        let mut client = Ftp::login(gateway.address, &zones.safe);
        client.command("TYPE I").expect(&[200]);
        client
    };
    // The first of three goes to the first, and so does the fourth.
    let mut clients: Vec<Ftp> = (0..6).map(|_| login()).collect();
    let (mut up, mut down) = (clients.remove(0), clients.remove(2));
    let mut upload = up.begin("STOR up");
    upload.write_all(&content[..1 << 20]).unwrap();
    let mut download = down.begin("RETR down");
    download.read_exact(&mut vec![0; 1 << 20]).unwrap();
    zones.wire.cut();
    let started = Instant::now();
    up.final_reply().expect(&[426]);
    let mut rest = Vec::new();
    let end = download.read_to_end(&mut rest).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset, "no end of file");
    let left = &content[1 << 20..];
    assert!(left.starts_with(&rest) && rest.len() < left.len(), "a part of it and no other bytes");
    down.final_reply().expect(&[426]);
    let took = started.elapsed();
    assert!(took < LOST_AFTER * 2, "{took:?}");
    println!("426 after {took:?} of silence");
    for line in gateway.audit_lines(2) {
        assert_eq!((&line["outcome"], &line["reply"]), (&"upstream-failed".into(), &426.into()));
    }
    // The sessions go on elsewhere.
    up.upload("STOR up", &content[..1000]).expect(&[226]);
    assert_eq!(zones.safe.read("up"), &content[..1000]);
}
