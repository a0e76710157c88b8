//! Clients of every kind, each of which chooses by the seed and its number what it does.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::client::Client;
use super::super::network::{Host, Place};
use super::checker::{CUT, Checker, Content, Outcome};
use super::pace::{Pace, Read};
use super::session::{Manner, Session, Stop, Transcript};
use super::transfer::Cut;
use crate::harness::certificates::Authority;
use crate::harness::ftps::Tls;

/// Clients at the same time.
const CLIENTS: usize = 96;
/// Addresses that they come from.
const ADDRESSES: usize = 16;
/// Transfers of all of them together.
const PER_SECOND: usize = 42;
/// One stops reading for this long, which is more than `timeouts.data_idle`.
const SULK: Duration = Duration::from_secs(8);

/// A load that runs; dropping it ends it, too.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The address of a client.
fn from(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 2, 100 + (number % ADDRESSES) as u8)
}

/// Whom clients go to, and what they trust.
pub(crate) struct World {
    pub(crate) client: Arc<Client>,
    pub(crate) authority: Authority,
}

impl World {
    /// By the name or straight to one of the gateways.
    fn address(&self, random: &mut fastrand::Rng) -> Option<Ipv4Addr> {
        match random.usize(..4) {
            chosen @ (0 | 1) => Some(Place::GATEWAYS[chosen].address()),
            _ => self.client.address().ok(),
        }
    }

    /// A memory of TLS for one session.
    fn tls(&self, to: Ipv4Addr) -> Tls {
        Tls::new(&self.authority, to.into())
    }
}

/// One of many clients.
struct Visitor<'a> {
    number: usize,
    sessions: usize,
    files: usize,
    random: fastrand::Rng,
    world: &'a World,
    checker: &'a Checker,
    began: Instant,
    /// An upload that broke, to be taken up where it was.
    broken: Option<(String, Content)>,
}

impl Load {
    pub(crate) fn start(seed: u64, host: &Host, world: World, checker: Arc<Checker>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        for number in 0..ADDRESSES {
            let address = format!("{}/24", from(number));
            host.run(&["ip", "address", "add", &address, "dev", "eth0"]);
        }
        let (host, end) = (host.clone(), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            host.enter();
            let began = Instant::now();
            thread::scope(|scope| {
                for number in 0..CLIENTS {
                    let (world, checker, end) = (&world, &*checker, &*end);
                    scope.spawn(move || {
                        Visitor::new(seed, number, world, checker, began).visit(end);
                    });
                }
            });
        });
        Self { ended, thread: Some(thread) }
    }

    /// Ends it when what is under way is over.
    pub(crate) fn stop(mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).unwrap().expect("a client's thread has panicked");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Its panic has been printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl<'a> Visitor<'a> {
    fn new(
        seed: u64,
        number: usize,
        world: &'a World,
        checker: &'a Checker,
        began: Instant,
    ) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9));
        Self { number, sessions: 0, files: 0, random, world, checker, began, broken: None }
    }

    /// One session after the other, with a pause before each transfer.
    fn visit(&mut self, end: &AtomicBool) {
        let pause = Duration::from_secs(1) * CLIENTS as u32 / PER_SECOND as u32;
        let mut next = self.began + pause * self.number as u32 / CLIENTS as u32;
        while !end.load(Ordering::Relaxed) {
            let transfers = self.random.usize(1..7);
            let Some(mut session) = self.session() else {
                self.wait(&mut next, pause, end);
                continue;
            };
            let mut stop = None;
            for _ in 0..transfers {
                self.wait(&mut next, pause, end);
                if end.load(Ordering::Relaxed) {
                    break;
                }
                stop = self.transfer(&mut session).err();
                if stop.is_some() {
                    break;
                }
            }
            if stop.is_none() && self.random.usize(..10) > 0 {
                if let Err(stop @ (Stop::Hung | Stop::Wrong(_))) = session.quit() {
                    self.checker.ended("QUIT", &stop, true, &session.transcript);
                }
            } else {
                session.leave();
            }
        }
    }

    /// Its turn comes once a `pause`, and is not made up for.
    fn wait(&self, next: &mut Instant, pause: Duration, end: &AtomicBool) {
        while Instant::now() < *next && !end.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50).min(*next - Instant::now()));
        }
        *next = (*next + pause).max(Instant::now());
    }

    /// A new session, if it comes about.
    fn session(&mut self) -> Option<Session> {
        self.sessions += 1;
        let mut transcript = Transcript::new(self.began);
        transcript.add(format!("client {}, session {}", self.number, self.sessions));
        let private = self.random.usize(..3) == 0;
        let (active, extended) = (self.random.usize(..4) == 0, self.random.bool());
        let Some(to) = self.world.address(&mut self.random) else {
            self.checker.count("session: no address", Outcome::Refused);
            return None;
        };
        let manner = Manner { tls: private.then(|| self.world.tls(to)), active, extended };
        match Session::open(from(self.number).into(), (to, 21).into(), manner, transcript) {
            Ok(session) => Some(session),
            Err((stop, transcript)) => {
                self.checker.ended("session", &stop, false, &transcript);
                None
            }
        }
    }

    fn size(&mut self, text: bool) -> usize {
        match self.random.usize(..200) {
            0 if !text => self.random.usize(10 << 20..30 << 20),
            1..60 => self.random.usize(100 << 10..500 << 10),
            60 => 0,
            _ => self.random.usize(1 << 10..10 << 10),
        }
    }

    fn name(&mut self, prefix: &str) -> String {
        self.files += 1;
        format!("{prefix}{}-{}", self.number, self.files)
    }

    /// Any transfer; an error if the session cannot go on.
    fn transfer(&mut self, session: &mut Session) -> Result<(), Stop> {
        if let Some((mut name, content)) = self.broken.take() {
            let other = self.name("up-");
            let ended = session.resume_upload(self.checker, &mut name, other, &content);
            self.keep_if_broken(&ended, name, content);
            return ended;
        }
        match self.random.usize(..20) {
            0..8 => {
                let text = self.random.usize(..5) == 0;
                let size = self.size(text);
                let content = self.checker.content(&mut self.random, size, text);
                let pace = match self.random.usize(..25) {
                    0 => Pace::Bytewise,
                    1..6 => Pace::Slowly,
                    _ => Pace::Full,
                };
                let name = self.name("up-");
                let ended = session.upload(self.checker, &name, &content, pace);
                self.keep_if_broken(&ended, name, content);
                ended
            }
            8..10 => {
                let size = self.size(false).max(2);
                let content = self.checker.content(&mut self.random, size, false);
                let cuts = [Cut::Abort, Cut::Reset, Cut::Short, Cut::Leave];
                let cut = cuts[self.random.usize(..4)];
                // Whoever leaves sends FIN on both connections, and a network that is cut can turn
                // their order round: nobody can know then.
                let prefix = if cut == Cut::Leave { "left-" } else { CUT };
                let name = self.name(prefix);
                let sent = self.random.usize(..content.len());
                session.cut_upload(self.checker, &name, &content, sent, cut)
            }
            10..17 => {
                let file = self.random.usize(..self.checker.prepared.len());
                // The large ones seldom.
                let file = if file >= 55 && self.random.usize(..10) > 0 { file - 55 } else { file };
                let from = match self.random.usize(..6) {
                    0 => self.random.usize(..=self.checker.prepared[file].content.len()),
                    _ => 0,
                };
                let read = match self.random.usize(..60) {
                    0 | 1 => Read::Bytewise,
                    2..12 => Read::Slowly,
                    12..20 if file >= 55 => Read::Sulking(SULK),
                    _ => Read::Fast,
                };
                session.download(self.checker, file, from, read)
            }
            17 => {
                let file = self.random.usize(..self.checker.prepared.len());
                let length = self.checker.prepared[file].content.len();
                let taken = self.random.usize(..=length);
                let cut = if self.random.bool() { Cut::Abort } else { Cut::Leave };
                session.cut_download(self.checker, file, taken, cut)
            }
            _ => {
                let verb = ["LIST", "NLST", "MLSD"][self.random.usize(..3)];
                session.list(self.checker, verb)
            }
        }
    }

    /// Of ten uploads that broke nine are taken up later, as those of binary files can be.
    fn keep_if_broken(&mut self, ended: &Result<(), Stop>, name: String, content: Content) {
        let keeps = ended == &Err(Stop::Broken) && !content.text && self.random.usize(..10) > 0;
        self.broken = keeps.then_some((name, content));
    }
}
