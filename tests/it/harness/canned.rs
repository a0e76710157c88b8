//! A server that says what a table tells it to, byte for byte, and remembers what it heard.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::counted::{Count, Counted};
use super::ftp::{Wire, fin, reset};
use super::{address, eventually};

/// What LIST and RETR of such a server send.
pub(crate) const CONTENT: &[u8] = b"canned content\r\n";
/// How it does so.
const DOWNLOAD: &[Act] = &[
    Act::Say(b"150 here\r\n"),
    Act::Accept,
    Act::Send(CONTENT, 1),
    Act::Fin,
    Act::Say(b"226 done\r\n"),
];
const UPLOAD: &[Act] =
    &[Act::Say(b"150 here\r\n"), Act::Accept, Act::Receive, Act::Say(b"226 done\r\n")];

/// A running server; all its sessions share one data port, and clones share it all.
#[derive(Clone)]
pub(crate) struct CannedServer {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    visits: Arc<Mutex<Vec<Visit>>>,
    stored: Arc<AtomicUsize>,
    /// Bytes of all its connections.
    pub(crate) count: Count,
    data: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
}

/// A connection that came to such a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    Control(IpAddr),
    Data(IpAddr),
}

/// What it says.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// To the first session the first, and then over again.
    banners: Vec<Vec<u8>>,
    answers: HashMap<&'static str, Vec<Answer>>,
    in_pieces: bool,
}

/// To one command.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// It leaves, by FIN.
    Leave,
    /// These bytes, in which `{port}` stands for its data port, `{high,low}` for the same as 227
    /// has it, and `{argument}` for what came with the command. None at all is silence.
    Say(&'static [u8]),
    /// All of this, one after the other.
    Do(&'static [Act]),
}

/// A part of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// A data connection is taken.
    Accept,
    /// Its end, by FIN.
    Fin,
    /// It leaves, by FIN on all it has.
    Leave,
    /// These bytes so many times, or until nobody takes them.
    Pour(&'static [u8], usize),
    /// The data connection is read to its end. One by reset gets 426, and nothing more comes.
    Receive,
    /// The data connection's end, by RST.
    Reset,
    /// As [`Answer::Say`].
    Say(&'static [u8]),
    /// These bytes so many times on the data connection.
    Send(&'static [u8], usize),
    /// Nothing for that long.
    Wait(Duration),
}

/// Where a session is told apart from the others.
struct Session<'a> {
    server: &'a CannedServer,
    script: &'a Script,
    control: Counted,
    /// The data connection that was taken last.
    transfer: Option<Counted>,
}

impl Script {
    /// Another banner than 220; nothing at all is silence.
    pub(crate) fn banner(self, banner: &[u8]) -> Self {
        self.banners(&[banner])
    }

    /// The same by turns.
    pub(crate) fn banners(mut self, banners: &[&[u8]]) -> Self {
        self.banners = banners.iter().map(|banner| banner.to_vec()).collect();
        self
    }

    /// To the first `verb` of a session the first answer, to the next one the second, and when
    /// there are no more the last again.
    pub(crate) fn on(mut self, verb: &'static str, answers: &[Answer]) -> Self {
        self.answers.insert(verb, answers.into());
        self
    }

    /// The same with one answer for all.
    pub(crate) fn says(self, verb: &'static str, answer: &'static [u8]) -> Self {
        self.on(verb, &[Answer::Say(answer)])
    }

    /// Whatever it says comes byte by byte.
    pub(crate) fn in_pieces(mut self) -> Self {
        self.in_pieces = true;
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> CannedServer {
        self.start_at((address::unused(), 2121).into())
    }

    /// Starts it where the gateway expects it, or at any port for 0.
    pub(crate) fn start_at(self, address: SocketAddr) -> CannedServer {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let data = Arc::new(TcpListener::bind((address.ip(), 0)).unwrap());
        let server = CannedServer {
            address,
            heard: Arc::default(),
            visits: Arc::default(),
            stored: Arc::default(),
            count: Count::default(),
            data,
            stopped: Arc::default(),
        };
        let shared = server.clone();
        thread::spawn(move || {
            for (turn, control) in listener.incoming().flatten().enumerate() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (script, server) = (self.clone(), shared.clone());
                thread::spawn(move || {
                    let control = server.count.of(control);
                    let (server, script) = (&server, &script);
                    Session { server, script, control, transfer: None }.serve(turn)
                });
            }
        });
        server
    }
}

impl Session<'_> {
    /// Until somebody leaves.
    fn serve(mut self, turn: usize) -> Option<()> {
        let Script { banners, answers, .. } = self.script;
        let from = self.control.socket().peer_addr().ok()?.ip();
        self.server.visits.lock().unwrap().push(Visit::Control(from));
        let mut lines = BufReader::new(self.control.try_clone().ok()?);
        let mut turns: HashMap<String, usize> = HashMap::new();
        self.say(&banners[turn % banners.len()])?;
        loop {
            let mut line = Vec::new();
            if lines.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            self.server.heard.lock().unwrap().push(line.clone());
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            let verb = &*verb.to_ascii_uppercase();
            let turn = turns.entry(verb.into()).or_default();
            let answers = answers.get(verb).map(Vec::as_slice);
            let answer = answers.map(|answers| answers[(*turn).min(answers.len() - 1)]);
            *turn += 1;
            let text: &[u8] = match (answer, verb) {
                (Some(Answer::Leave), _) => return None,
                (Some(Answer::Say(text)), _) => text,
                (Some(Answer::Do(acts)), _) => {
                    self.perform(acts, argument)?;
                    continue;
                }
                (None, "USER") => b"331 password\r\n",
                (None, "PASS") => b"230 in\r\n",
                (None, "EPSV") => b"229 ok (|||{port}|)\r\n",
                (None, "PASV") => b"227 ok (0,0,0,0,{high,low})\r\n",
                (None, "LIST" | "RETR" | "STOR") => {
                    self.perform(if verb == "STOR" { UPLOAD } else { DOWNLOAD }, argument)?;
                    continue;
                }
                (None, "QUIT") => b"221 bye\r\n",
                (None, _) => b"200 ok\r\n",
            };
            self.answer(text, argument)?;
        }
    }

    fn perform(&mut self, acts: &[Act], argument: &str) -> Option<()> {
        for act in acts {
            match *act {
                Act::Accept => {
                    let (stream, from) = self.server.data.accept().ok()?;
                    self.server.visits.lock().unwrap().push(Visit::Data(from.ip()));
                    self.transfer = Some(self.server.count.of(stream));
                }
                Act::Fin => fin(self.transfer.take()?.socket()),
                Act::Leave => return None,
                Act::Pour(bytes, times) => {
                    (0..times).try_for_each(|_| self.control.write_all(bytes)).ok()?;
                }
                Act::Receive => match self.transfer.take()?.read_to_end(&mut Vec::new()) {
                    Ok(_) => drop(self.server.stored.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => return self.say(b"426 cut\r\n"),
                },
                Act::Reset => reset(self.transfer.take()?.into_inner()),
                Act::Say(text) => self.answer(text, argument)?,
                Act::Send(bytes, times) => {
                    let data = self.transfer.as_mut()?;
                    (0..times).try_for_each(|_| data.write_all(bytes)).ok()?;
                }
                Act::Wait(time) => thread::sleep(time),
            }
        }
        Some(())
    }

    /// Says that with what its places in braces stand for.
    fn answer(&mut self, text: &[u8], argument: &str) -> Option<()> {
        let port = self.server.data.local_addr().ok()?.port();
        let [high, low] = port.to_be_bytes();
        let text = replace(text, "{port}", &port.to_string());
        let text = replace(&text, "{high,low}", &format!("{high},{low}"));
        self.say(&replace(&text, "{argument}", argument))
    }

    fn say(&mut self, text: &[u8]) -> Option<()> {
        if !self.script.in_pieces {
            return self.control.write_all(text).ok();
        }
        self.control.socket().set_nodelay(true).ok()?;
        text.chunks(1).try_for_each(|byte| {
            self.control.write_all(byte).ok()?;
            // So that the reader sees it by itself, mostly.
            thread::sleep(Duration::from_micros(200));
            Some(())
        })
    }
}

impl CannedServer {
    /// A server that does what a plain one does, to be told otherwise.
    pub(crate) fn script() -> Script {
        Script {
            banners: vec![b"220 canned\r\n".into()],
            answers: HashMap::new(),
            in_pieces: false,
        }
    }

    /// Every line that has come to it, of all sessions.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// How many uploads have come to their end in order.
    pub(crate) fn stored(&self) -> usize {
        self.stored.load(Ordering::Relaxed)
    }

    /// It listens no longer; its sessions go on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // The one that makes it look.
        drop(TcpStream::connect(self.address));
        eventually("it to stop", || TcpStream::connect(self.address).is_err().then_some(()));
    }

    /// Every connection that has come to it.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }

    /// How often it has heard this line.
    pub(crate) fn times(&self, line: &str) -> usize {
        self.heard().iter().filter(|heard| *heard == line).count()
    }

    /// Whether somebody has come to its data port and was not served.
    pub(crate) fn was_dialled(&self) -> bool {
        self.data.set_nonblocking(true).unwrap();
        let dialled = match self.data.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        self.data.set_nonblocking(false).unwrap();
        dialled
    }
}

fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = text.windows(from.len()).position(|window| window == from.as_bytes());
    match at {
        Some(at) => [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat(),
        None => text.into(),
    }
}
