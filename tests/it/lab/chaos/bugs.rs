//! The checker is worth something: it sees a gateway that says FIN for RST, and one that says 226 too
//! early. A relay that does so stands before a good one, and behind it.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::super::traffic::checker::{Checker, Outcome, POOL};
use super::super::traffic::pace::{Pace, Read};
use super::super::traffic::session::{Manner, Session, Transcript};
use crate::harness::ftp::{fin, reset};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, eventually};

/// The data ports of gateways and, in these tests, of servers.
const DATA: RangeInclusive<u16> = 8192..=8200;
/// So much of an upload arrives.
const PART: usize = 100_000;

/// What a relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    /// It passes everything on, and resets as resets.
    Good,
    /// A reset is passed on as FIN.
    FinForReset,
    /// Uploads are reset after [`PART`].
    Cutting,
    /// The same, and each is answered 226 as soon as it begins.
    CuttingAndEarly,
}

/// A relay to a host, to the control port and the data ports; where it is, and how many bytes of
/// data have come.
fn relay(to: SocketAddr, conduct: Conduct) -> (SocketAddr, Arc<AtomicUsize>) {
    let (own, data) = (address::unused(), Arc::<AtomicUsize>::default());
    for port in DATA.chain([to.port()]) {
        let listener = TcpListener::bind((own, port)).unwrap();
        let is_control = port == to.port();
        let count = if is_control { Arc::default() } else { Arc::clone(&data) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((to.ip(), port)) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                let cut = Arc::<AtomicBool>::default();
                let up = Way {
                    from: clone(&client),
                    to: clone(&server),
                    cut: Arc::clone(&cut),
                    count: Arc::clone(&count),
                };
                let down = Way { from: server, to: client, cut, count: Arc::clone(&count) };
                let cuts =
                    !is_control && matches!(conduct, Conduct::Cutting | Conduct::CuttingAndEarly);
                let is_early = is_control && conduct == Conduct::CuttingAndEarly;
                thread::spawn(move || up.pass(cuts, conduct));
                thread::spawn(move || {
                    if is_early { down.answer_early() } else { down.pass(false, conduct) }
                });
            }
        });
    }
    ((own, to.port()).into(), data)
}

/// One direction of a connection.
struct Way {
    from: TcpStream,
    to: TcpStream,
    /// The connection is cut, so that nothing else is passed on.
    cut: Arc<AtomicBool>,
    /// Bytes that have come.
    count: Arc<AtomicUsize>,
}

impl Way {
    /// Passes on what comes, and how it ends.
    fn pass(mut self, cuts: bool, conduct: Conduct) {
        let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
        loop {
            let read = self.from.read(&mut buffer);
            if self.cut.load(Ordering::Relaxed) {
                return;
            }
            match read {
                Ok(0) => return fin(&self.to),
                Ok(count) => {
                    passed += count;
                    self.count.fetch_add(count, Ordering::Relaxed);
                    if self.to.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                    if cuts && passed >= PART {
                        let mut from = self.from.try_clone().unwrap();
                        self.reset();
                        // The sender may finish as if nothing were.
                        while matches!(from.read(&mut buffer), Ok(1..)) {}
                        return;
                    }
                }
                Err(_) if conduct == Conduct::FinForReset => return fin(&self.to),
                Err(_) => return self.reset(),
            }
        }
    }

    /// RST to the receiver, once the other direction has let go of it, too.
    fn reset(self) {
        self.cut.store(true, Ordering::Relaxed);
        // It wakes the other direction, and sends nothing.
        let _ = self.to.shutdown(Shutdown::Read);
        reset(self.to);
    }

    /// Passes replies on, each 150 with a 226 behind it.
    fn answer_early(mut self) {
        let mut lines = BufReader::new(self.from);
        let mut line = String::new();
        while matches!(lines.read_line(&mut line), Ok(1..)) {
            if line.starts_with("150") {
                line += "226 Transfer complete.\r\n";
            }
            let _ = self.to.write_all(line.as_bytes());
            line.clear();
        }
    }
}

fn client(to: SocketAddr) -> Session {
    let manner = Manner { tls: None, active: false, extended: true };
    let opened =
        Session::open(Ipv4Addr::LOCALHOST.into(), to, manner, Transcript::new(Instant::now()));
    opened.unwrap_or_else(|(stop, transcript)| panic!("{stop:?}\n{transcript}"))
}

/// What the checker says to a download whose server is killed, with a relay before the gateway.
fn kill_in_mid_download(conduct: Conduct) -> Vec<String> {
    let mut server = Server::start(Kind::ApacheFtpServer);
    let mut checker = Checker::new(1, &server.root);
    // More than all socket buffers on the way hold.
    let large = checker.content(&mut fastrand::Rng::with_seed(1), POOL - 1, false);
    checker.prepare("large".into(), large);
    let large = checker.prepared.len() - 1;
    let gateway = Gateway::to(&server).start();
    let (relay, data) = relay(gateway.address, conduct);
    let mut client = client(relay);
    thread::scope(|scope| {
        let download = scope.spawn(|| client.download(&checker, large, 0, Read::Slowly));
        eventually("data", || (data.load(Ordering::Relaxed) > 0).then_some(()));
        server.sigkill();
        let _ = download.join().unwrap();
    });
    eprintln!("{conduct:?}\n{}{}", client.transcript, checker.report());
    assert_eq!(checker.total(Outcome::Complete), 0);
    checker.violations()
}

/// What it says to an upload that is reset, with a relay between the gateway and the server.
fn cut_in_mid_upload(conduct: Conduct) -> Vec<String> {
    let ports = format!("{}-{}", DATA.start(), DATA.end());
    // Unlike Apache FtpServer it takes no port for taken that another address has.
    let server = Server::options(Kind::ProFtpd).passive(&ports).start();
    let checker = Checker::new(1, &server.root);
    let (relay, _) = relay(server.address, conduct);
    let gateway = Gateway::to_address(relay).start();
    let mut client = client(gateway.address);
    let content = checker.content(&mut fastrand::Rng::with_seed(1), 3 * PART, false);
    let _ = client.upload(&checker, "up", &content, Pace::Full);
    eprintln!("{conduct:?}\n{}{}", client.transcript, checker.report());
    assert_eq!(checker.total(Outcome::Complete), 0);
    checker.violations()
}

#[test]
fn fin_for_a_reset_is_seen() {
    assert_eq!(kill_in_mid_download(Conduct::Good), [""; 0]);
    let violations = kill_in_mid_download(Conduct::FinForReset);
    let is_it = |what: &String| what.starts_with("a clean end of a download that is not whole");
    assert!(violations.len() == 1 && violations.iter().all(is_it), "{violations:#?}");
}

#[test]
fn an_early_226_is_seen() {
    assert_eq!(cut_in_mid_upload(Conduct::Cutting), [""; 0]);
    let violations = cut_in_mid_upload(Conduct::CuttingAndEarly);
    let is_it = |what: &String| what.starts_with("226 for up, which is not whole");
    assert!(violations.len() == 1 && violations.iter().all(is_it), "{violations:#?}");
}
