//! A hundred hand-overs and twenty reloads under load: nobody is refused, and no transfer fails.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::process::Process;
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

const HAND_OVERS: usize = 100;
const RELOADS: usize = 20;
/// Sessions at the same time.
const SESSIONS: usize = 50;
/// Of these, those that stay from the beginning to the end. The others come anew for each transfer.
const STAY: usize = 25;
/// All sessions together.
const TRANSFERS_PER_SECOND: u32 = 20;
/// From one hand-over to the next: half a second.
const BETWEEN: usize = 10;
const SIZE: usize = 100_000;

/// What has come of the load.
#[derive(Default)]
struct Outcome {
    up: AtomicUsize,
    down: AtomicUsize,
    connects: AtomicUsize,
    /// What went wrong: refused connections and failed transfers.
    failures: Mutex<Vec<String>>,
    /// From connect(2) to the banner.
    waits: Mutex<Vec<Duration>>,
}

impl Outcome {
    fn transfers(&self) -> usize {
        self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed)
    }
}

/// One client: an upload or a download, compared by hash, each time that its turn comes.
struct Visitor<'a> {
    number: usize,
    gateway: std::net::SocketAddr,
    server: &'a Server,
    content: &'a [u8],
    outcome: &'a Outcome,
}

impl Visitor<'_> {
    fn connect(&self) -> Ftp {
        let began = Instant::now();
        let mut session = Ftp::connect(self.gateway);
        self.outcome.waits.lock().unwrap().push(began.elapsed());
        self.outcome.connects.fetch_add(1, Ordering::Relaxed);
        session.log_in(self.server);
        session
    }

    fn transfer(&self, session: &mut Ftp, turn: usize) {
        if turn.is_multiple_of(2) {
            let name = format!("up-{}-{turn}", self.number);
            session.upload(&format!("STOR {name}"), self.content).expect(&[226]);
            assert!(hash(&self.server.read(&name)) == hash(self.content), "{name} differs");
            fs::remove_file(self.server.path(&name)).unwrap();
            self.outcome.up.fetch_add(1, Ordering::Relaxed);
        } else {
            let address = if turn % 4 == 1 { session.pasv() } else { session.epsv() };
            let mut data = session.open(address);
            session.command("RETR original").expect(&[150]);
            let mut content = Vec::new();
            data.read_to_end(&mut content).unwrap();
            drop(data);
            session.reply().expect(&[226]);
            assert!(hash(&content) == hash(self.content), "a download differs");
            self.outcome.down.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn visit(&self, stop: &AtomicBool) {
        let mut session = self.connect();
        let pause = Duration::from_secs(1) * SESSIONS as u32 / TRANSFERS_PER_SECOND;
        let mut next = Instant::now() + pause * self.number as u32 / SESSIONS as u32;
        for turn in self.number.. {
            // A load of so many a second; nothing is waited for by time.
            while Instant::now() < next {
                if stop.load(Ordering::Relaxed) {
                    session.command("QUIT").expect(&[221]);
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
            next += pause;
            if self.number >= STAY {
                session.command("QUIT").expect(&[221]);
                session = self.connect();
            }
            self.transfer(&mut session, turn);
        }
    }
}

fn hash(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

#[test]
fn a_hundred_hand_overs_and_twenty_reloads_under_load_fail_nobody() {
    let server = Server::start(Kind::ApacheFtpServer);
    let content = bytes(71, SIZE);
    server.write("original", &content);
    let mut gateway = Gateway::to(&server)
        .set("timeouts", "idle = \"10m\"")
        .set("probe", "depth = \"banner\"")
        .set("probe", "interval = \"1s\"")
        .start();
    let (stop, outcome) = (AtomicBool::new(false), Arc::new(Outcome::default()));
    let address = gateway.address;
    let began = Instant::now();
    let (mut processes, mut most) = (Vec::<Process>::new(), 0);
    let mut took = Vec::new();
    thread::scope(|scope| {
        for number in 0..SESSIONS {
            let (server, content, stop) = (&server, content.as_slice(), &stop);
            let outcome = &*outcome;
            scope.spawn(move || {
                let visitor = Visitor { number, gateway: address, server, content, outcome };
                let visit = || visitor.visit(stop);
                if let Err(why) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(visit)) {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                    outcome.failures.lock().unwrap().push(format!("client {number}: {why}"));
                }
            });
        }
        // The scope waits for the visitors, also when something here goes wrong.
        let orders = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 0..HAND_OVERS {
                let (before, asked) = (outcome.transfers(), Instant::now());
                processes.push(gateway.hand_over());
                took.push(asked.elapsed());
                if turn % (HAND_OVERS / RELOADS) == 0 {
                    reload(&gateway, turn);
                }
                processes.retain_mut(Process::is_running);
                most = most.max(processes.len());
                eventually("more transfers, or a failed one", || {
                    let failed = !outcome.failures.lock().unwrap().is_empty();
                    (failed || outcome.transfers() >= before + BETWEEN).then_some(())
                });
            }
        }));
        stop.store(true, Ordering::Relaxed);
        orders.unwrap();
    });
    let elapsed = began.elapsed();
    for process in &mut processes {
        assert_eq!(process.wait().code(), Some(0), "{}", process.output());
    }
    let failures = outcome.failures.lock().unwrap();
    let waits = outcome.waits.lock().unwrap();
    took.sort();
    let text = format!(
        "{HAND_OVERS} hand-overs and {RELOADS} reloads in {:.0} s: {SESSIONS} sessions at once, {} transfers \
         ({} up, {} down, {:.1} a second), {} connections, {} failures\n\
         longest wait from connect to banner {:?}; hand-over, from starting the new process to its serving: \
         p50 {:?}, longest {:?}; most processes at once {}\n",
        elapsed.as_secs_f64(),
        outcome.transfers(),
        outcome.up.load(Ordering::Relaxed),
        outcome.down.load(Ordering::Relaxed),
        outcome.transfers() as f64 / elapsed.as_secs_f64(),
        outcome.connects.load(Ordering::Relaxed),
        failures.len(),
        waits.iter().max().unwrap(),
        took[took.len() / 2],
        took[took.len() - 1],
        most + 1,
    );
    println!("{text}");
    // tests/run shows it at the end.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/handover.txt");
    fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
    // Fewer would prove little.
    assert!(outcome.transfers() >= BETWEEN * HAND_OVERS, "{text}");
}

/// Changes something that a running node takes up.
fn reload(gateway: &Gateway, turn: usize) {
    let path = gateway.configuration();
    let text = fs::read_to_string(&path).unwrap();
    let (from, to) = if turn.is_multiple_of(10) { ("10m", "11m") } else { ("11m", "10m") };
    fs::write(path, text.replace(&format!("idle = \"{from}\""), &format!("idle = \"{to}\"")))
        .unwrap();
    assert_eq!(gateway.order(&["reload"]), (Some(0), "the configuration is taken up\n".into()));
}
