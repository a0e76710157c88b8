//! One hostile input: what is sent, what comes of it, and what it cost.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::harness::canned::{Answer, CannedServer, Script};
use crate::harness::counted::{Count, Counted};
use crate::harness::ftp::{End, Ftp, Wire, connect, fin, read_to_end, reset};
use crate::harness::gateway::Gateway;
use crate::harness::{PATIENCE, address, eventually};

/// Memory in KiB that a gateway may take for any of it, at its most.
pub(super) const LITTLE: i64 = 4096;
/// What is zero when nobody is there.
const GAUGES: [&str; 5] = [
    "ftpgate_sessions",
    "ftpgate_transfers",
    "ftpgate_passive_ports_reserved",
    "ftpgate_upstream_connections",
    "ftpgate_endpoint_sessions",
];
/// Text of replies that is kept, to look at.
const KEPT: usize = 64 * 1024;

/// A step of a client's.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The control connection is ended, by RST.
    Break,
    /// Each byte in a segment of its own.
    Drip(&'static [u8]),
    /// The control connection must have ended.
    End,
    /// The data connection is ended, by FIN.
    FinData,
    /// This line so many times, whose replies are read meanwhile: each has one of these codes.
    Flood(&'static [u8], usize, &'static [u16]),
    /// That comes on the data connection, and then FIN.
    Get(&'static [u8]),
    /// The next reply has this code.
    Hear(u16),
    /// The control connection is ended, by FIN.
    Leave,
    /// A data connection to where the latest 227 has said.
    Open,
    /// These bytes so many times, or until nobody takes them.
    Pour(&'static [u8], usize),
    /// The next reply is a 227.
    Promised,
    /// The same as [`Step::Pour`] on the data connection.
    Put(&'static [u8], usize),
    /// The data connection is ended, by RST.
    ResetData,
    /// The data connection must be ended by RST, whatever came before.
    Robbed,
    /// All of this at once.
    Say(&'static [u8]),
    /// The upstream has sent at least so much.
    Sent(u64),
    /// The upstream sends no more, though it could, and has not sent that much.
    Stuck(u64),
    /// The same as [`Step::Say`] as urgent data.
    Urgent(&'static [u8]),
}

/// An input.
pub(super) struct Case {
    pub(super) name: String,
    /// Sections of its gateway's configuration, and lines of them.
    settings: Vec<(&'static str, &'static str)>,
    script: Script,
    logs_in: bool,
    steps: Vec<Step>,
    /// What the upstream may not hear.
    never: Vec<&'static str>,
    /// What the client may not.
    never_told: Vec<&'static str>,
    /// Uploads that the upstream may take for complete.
    stored: usize,
}

/// What came of it.
pub(super) struct Row {
    pub(super) name: String,
    /// None if the test stopped short.
    outcome: Option<Outcome>,
}

struct Outcome {
    replies: String,
    /// Bytes between client and gateway, and upstream and gateway: to the gateway, and from it.
    client: [u64; 2],
    upstream: [u64; 2],
    took: Duration,
    peak_kib: i64,
    leaked: Vec<String>,
}

/// A client at work.
struct Client {
    /// None once it is reset.
    control: Option<Ftp<Counted>>,
    count: Count,
    promised: Option<SocketAddr>,
    data: Option<Counted>,
    codes: Vec<String>,
    text: String,
}

// === impl Case ===

impl Case {
    /// Of a client that has logged in, before a server like any other.
    pub(super) fn new(name: impl Into<String>, steps: impl Into<Vec<Step>>) -> Self {
        Self {
            name: name.into(),
            settings: Vec::new(),
            script: CannedServer::script(),
            logs_in: true,
            steps: steps.into(),
            never: Vec::new(),
            never_told: Vec::new(),
            stored: 0,
        }
    }

    /// The client does not log in, and reads no banner by itself.
    pub(super) fn stranger(mut self) -> Self {
        self.logs_in = false;
        self
    }

    /// More steps.
    pub(super) fn then(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.steps.extend(steps.into());
        self
    }

    /// A line of a section of the gateway's configuration.
    pub(super) fn set(mut self, section: &'static str, line: &'static str) -> Self {
        self.settings.push((section, line));
        self
    }

    /// The server greets like this.
    pub(super) fn banner(mut self, banner: &'static [u8]) -> Self {
        self.script = self.script.banner(banner);
        self
    }

    /// The server answers a command like this.
    pub(super) fn on(mut self, verb: &'static str, answer: Answer) -> Self {
        self.script = self.script.on(verb, &[answer]);
        self
    }

    /// The server sends each byte by itself.
    pub(super) fn in_pieces(mut self) -> Self {
        self.script = self.script.in_pieces();
        self
    }

    /// The upstream may not hear that.
    pub(super) fn never(mut self, text: &'static str) -> Self {
        self.never.push(text);
        self
    }

    /// The client may not.
    pub(super) fn never_told(mut self, text: &'static str) -> Self {
        self.never_told.push(text);
        self
    }

    /// So many uploads are to be complete.
    pub(super) fn stores(mut self, stored: usize) -> Self {
        self.stored = stored;
        self
    }

    /// Runs it before a server and a gateway of its own.
    pub(super) fn run_alone(self) -> Row {
        let server = self.script.clone().start();
        let mut options = Gateway::to_address(server.address);
        for &(section, line) in &self.settings {
            options = options.set(section, line);
        }
        let gateway = options.start();
        let descriptors = resting(&gateway);
        self.run(&gateway, &server, descriptors)
    }

    /// Runs it there; with nobody there the gateway has so many descriptors open.
    pub(super) fn run(self, gateway: &Gateway, server: &CannedServer, descriptors: usize) -> Row {
        let name = self.name.clone();
        // In a thread of its own, so that the others go on if it panics.
        let run = || self.play(gateway, server, descriptors);
        let outcome = thread::scope(|scope| scope.spawn(run).join().ok());
        Row { name, outcome }
    }

    fn play(self, gateway: &Gateway, server: &CannedServer, descriptors: usize) -> Outcome {
        let heard_before = server.heard().len();
        let stored_before = server.stored();
        let mut client = Client::connect(gateway.address);
        if self.logs_in {
            client.control().reply().expect(&[220]);
            client.control().log_in_as("anyone");
        }
        let counts = [client.count.clone(), server.count.clone()];
        let counted = || counts.each_ref().map(|count| [count.sent(), count.received()]);
        let (before, resident) = (counted(), gateway.resident_kib());
        gateway.forget_peak();
        let started = Instant::now();
        for step in &self.steps {
            client.take(step, server, before[1][0]);
        }
        let ended = |step: &Step| matches!(step, Step::Break | Step::End | Step::Leave);
        if !self.steps.iter().any(ended) {
            // It has harmed not even itself.
            client.control().command("NOOP").expect(&[200]);
        }
        let took = started.elapsed();
        let peak_kib = gateway.peak_kib() - resident;
        let Client { codes, text, .. } = client;
        let mut leaked = left(gateway, descriptors);
        let heard = server.heard().split_off(heard_before).join("\n");
        for (never, whole, side) in
            [(self.never, heard, "upstream"), (self.never_told, text, "client")]
        {
            let told = never.iter().filter(|never| whole.contains(**never));
            leaked.extend(told.map(|never| format!("{never:?} to the {side}")));
        }
        let stored = server.stored() - stored_before;
        leaked.extend((stored != self.stored).then(|| format!("{stored} files stored")));
        leaked.extend((peak_kib > LITTLE).then(|| format!("{peak_kib} KiB of memory")));
        let after = counted();
        let [client, upstream] =
            [0, 1].map(|side| [0, 1].map(|way| after[side][way] - before[side][way]));
        Outcome { replies: shortened(&codes), client, upstream, took, peak_kib, leaked }
    }
}

/// How many descriptors a gateway has open with nobody there.
pub(super) fn resting(gateway: &Gateway) -> usize {
    let mut seen = BTreeSet::from([0, 1]);
    eventually("its descriptors to be the same for a while", || {
        seen = (0..5).map(|_| gateway.descriptors()).collect();
        (seen.len() == 1).then_some(())
    });
    gateway.descriptors()
}

/// What is still there though everybody has gone, after it was waited for.
pub(super) fn left(gateway: &Gateway, descriptors: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = gateway.get("/metrics");
        let is_gauge = |line: &&str| {
            GAUGES.iter().any(|gauge| {
                line.strip_prefix(gauge).is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
        };
        let gauges = metrics.lines().filter(is_gauge).filter(|line| !line.ends_with(" 0"));
        let mut left: Vec<String> = gauges.map(Into::into).collect();
        let open = gateway.descriptors();
        left.extend((open > descriptors).then(|| format!("{} descriptors", open - descriptors)));
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same code many times in a row as one.
fn shortened(codes: &[String]) -> String {
    let runs = codes.chunk_by(|a, b| a == b).map(|run| match run.len() {
        1 => run[0].clone(),
        count => format!("{} x{count}", run[0]),
    });
    let runs: Vec<String> = runs.collect();
    match runs.len() {
        0..=6 => runs.join(" "),
        _ => {
            let kinds: BTreeSet<&String> = codes.iter().collect();
            let kinds: Vec<&str> = kinds.into_iter().map(String::as_str).collect();
            format!("{} x{}", kinds.join("/"), codes.len())
        }
    }
}

// === impl Row ===

impl Row {
    /// Whether everything was as it should be.
    pub(super) fn is_good(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.leaked.is_empty())
    }

    /// What is above it.
    pub(super) fn heading() -> String {
        format!(
            "{:<52} {:<22} {:>9} {:>9} {:>9} {:>9} {:>6} {:>7}  {}",
            "input",
            "reply",
            "to gw",
            "to client",
            "to upstr.",
            "from it",
            "ms",
            "peak",
            "left over"
        )
    }

    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        let name = &self.name;
        let Some(Outcome { replies, client, upstream, took, peak_kib, leaked }) = &self.outcome
        else {
            return format!("{name:<52} FAILED");
        };
        let leaked = if leaked.is_empty() { "nothing".into() } else { leaked.join(", ") };
        format!(
            "{name:<52} {replies:<22} {:>9} {:>9} {:>9} {:>9} {:>6} {:>3} KiB  {leaked}",
            client[0],
            client[1],
            upstream[1],
            upstream[0],
            took.as_millis(),
            (*peak_kib).max(0),
        )
    }
}

// === impl Client ===

impl Client {
    /// From an address that has all nine ports to itself.
    fn connect(to: SocketAddr) -> Self {
        let stream = connect(to, Some(address::unused().into())).unwrap();
        stream.set_nodelay(true).unwrap();
        let count = Count::default();
        let control = Some(Ftp::upon(count.of(stream)));
        Self { control, count, promised: None, data: None, codes: Vec::new(), text: String::new() }
    }

    fn control(&mut self) -> &mut Ftp<Counted> {
        self.control.as_mut().unwrap()
    }

    fn data(&mut self) -> Counted {
        self.data.take().unwrap()
    }

    /// Takes one step; `sent_before` is what the upstream had sent before the first.
    fn take(&mut self, step: &Step, server: &CannedServer, sent_before: u64) {
        match *step {
            Step::Break => reset(self.control.take().unwrap().into_inner().into_inner()),
            Step::Drip(bytes) => bytes.chunks(1).for_each(|byte| {
                self.control().wire().write_all(byte).unwrap();
                // So that it arrives by itself, mostly.
                thread::sleep(Duration::from_micros(200));
            }),
            Step::End => {
                let error = self.control().try_reply().unwrap_err();
                self.codes.push(match error.kind() {
                    ErrorKind::UnexpectedEof => "end".into(),
                    // What was sent last may have met nobody.
                    ErrorKind::ConnectionReset => "reset".into(),
                    _ => panic!("no end: {error}"),
                });
            }
            Step::FinData => fin(self.data.as_ref().unwrap().socket()),
            Step::Flood(line, times, codes) => {
                let mut writer = self.control().wire().try_clone().unwrap();
                thread::scope(|scope| {
                    scope.spawn(move || writer.write_all(&line.repeat(times)).unwrap());
                    (0..times).for_each(|_| self.hear(codes));
                });
            }
            Step::Get(content) => {
                let mut data = self.data();
                let mut found = Vec::new();
                data.read_to_end(&mut found).unwrap();
                assert_eq!(found.escape_ascii().to_string(), content.escape_ascii().to_string());
            }
            Step::Hear(code) => self.hear(&[code]),
            Step::Leave => {
                self.control().stream().shutdown(Shutdown::Write).unwrap();
            }
            Step::Open => {
                let to = self.promised.take().unwrap();
                let data = self.control().open(to);
                data.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                self.data = Some(self.count.of(data));
            }
            Step::Pour(bytes, times) => {
                let _ = (0..times).try_for_each(|_| self.control().wire().write_all(bytes));
            }
            Step::Promised => self.hear(&[227]),
            Step::Put(bytes, times) => {
                let data = self.data.as_mut().unwrap();
                let _ = (0..times).try_for_each(|_| data.write_all(bytes));
            }
            Step::ResetData => reset(self.data().into_inner()),
            Step::Robbed => assert_eq!(read_to_end(self.data().into_inner()).1, End::Reset),
            // It may be closed already, and the rest find nobody.
            Step::Say(bytes) => drop(self.control().wire().write_all(bytes)),
            Step::Sent(least) => eventually("the upstream to have sent it", || {
                (server.count.sent() - sent_before >= least).then_some(())
            }),
            Step::Stuck(most) => {
                let mut last = 0;
                let sent = || server.count.sent() - sent_before;
                eventually("the upstream to be held up", || {
                    thread::sleep(Duration::from_millis(200));
                    let before = std::mem::replace(&mut last, sent());
                    (before == last && last > 0).then_some(())
                });
                assert!(last < most, "{last} bytes were taken");
            }
            Step::Urgent(bytes) => {
                SockRef::from(self.control().stream()).send_out_of_band(bytes).unwrap();
            }
        }
    }

    fn hear(&mut self, codes: &[u16]) {
        let reply = self.control().reply().expect(codes);
        self.codes.push(reply.code.to_string());
        if reply.code == 227 {
            self.promised = address_of(&reply.text);
        }
        if self.text.len() < KEPT {
            self.text += &reply.text;
        }
    }
}

/// Where a 227 leads, if it does.
fn address_of(text: &str) -> Option<SocketAddr> {
    let numbers = text.split_once('(')?.1.split_once(')')?.0;
    let numbers: Vec<u8> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, high, low] = numbers[..].try_into().ok()?;
    Some(([a, b, c, d], u16::from_be_bytes([high, low])).into())
}
