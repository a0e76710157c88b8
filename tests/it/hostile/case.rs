//! One hostile input: what is sent, what comes of it, and what it cost.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Step};
use crate::harness::canned::{Answer, CannedServer, Script};
use crate::harness::gateway::Gateway;
use crate::harness::{PATIENCE, eventually};

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
            client.take(step, server, before[1]);
        }
        let ended = |step: &Step| matches!(step, Step::Break | Step::End | Step::Leave);
        if !self.steps.iter().any(ended) {
            // It has harmed not even itself.
            client.control().command("NOOP").expect(&[200]);
        }
        let took = started.elapsed();
        let peak_kib = gateway.peak_kib() - resident;
        let (codes, text) = client.leave();
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

/// The codes, or of very many only which they are.
fn shortened(codes: &[String]) -> String {
    let runs = codes.chunk_by(|a, b| a == b).map(|run| match run.len() {
        1 => run[0].clone(),
        count => format!("{} x{count}", run[0]),
    });
    let runs: Vec<String> = runs.collect();
    if runs.len() <= 2 || codes.len() <= 6 {
        return runs.join(" ");
    }
    let kinds: BTreeSet<&str> = codes.iter().map(String::as_str).collect();
    format!("{} x{}", kinds.into_iter().collect::<Vec<_>>().join("/"), codes.len())
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
