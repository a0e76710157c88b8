//! What must hold, whatever breaks. The checker knows what is in every file and hears what every
//! client saw.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::session::{Stop, Transcript};
use crate::harness::{bytes, number};

/// All contents are parts of one that is so large.
pub(crate) const POOL: usize = 40 << 20;
/// The same of text.
const TEXT_POOL: usize = 2 << 20;
/// An acknowledged file is looked at once more after so long: nothing may spoil it later.
const LATER: Duration = Duration::from_secs(20);
/// A clock that is further off has jumped.
const OFF: Duration = Duration::from_secs(1800);
/// Uploads whose names begin so were cut short by their clients.
pub(crate) const CUT: &str = "cut-";
/// What the directory of listings holds.
pub(crate) const LISTED: usize = 60;

/// What is in a file, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    range: Range<usize>,
    pub(crate) text: bool,
}

/// A file that is there to be downloaded.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Acknowledged, and whole.
    Complete,
    /// Cut short by its client, and nobody took it for whole.
    Abandoned,
    /// Not begun: the client was told so, or met nobody.
    Refused,
    /// Begun and failed, and nobody took it for whole.
    Failed,
    Violation,
}

pub(crate) struct Checker {
    root: PathBuf,
    pool: Vec<u8>,
    text: Vec<u8>,
    pub(crate) prepared: Vec<Prepared>,
    began: Instant,
    /// Nothing is broken on purpose: whatever fails is a violation.
    calm: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<(&'static str, Outcome), u64>,
    violations: Vec<String>,
    acknowledged: VecDeque<(Instant, String, Content, Transcript)>,
    bytes: u64,
}

impl Content {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }
}

impl Checker {
    /// Puts the files there that are for downloads.
    pub(crate) fn new(seed: u64, root: &Path) -> Self {
        let text: String = (0..TEXT_POOL / 40)
            .map(|line| format!("{line:08} {}\r\n", "x".repeat(number(seed ^ line as u64, 60))))
            .collect();
        let (pool, text) = (bytes(seed, POOL), text.into_bytes());
        let mut checker = Self {
            root: root.into(),
            pool,
            text,
            prepared: Vec::new(),
            began: Instant::now(),
            calm: false,
            state: Mutex::default(),
        };
        let mut random = fastrand::Rng::with_seed(seed);
        for turn in 0..60 {
            let size = match turn {
                0..30 => random.usize(0..10 << 10),
                30..55 => random.usize(100 << 10..500 << 10),
                _ => random.usize(10 << 20..30 << 20),
            };
            let content = checker.content(&mut random, size, turn % 3 == 0 && turn < 55);
            checker.prepare(format!("original-{turn}"), content);
        }
        fs::create_dir(checker.path("listed")).unwrap();
        for name in 0..LISTED {
            fs::write(checker.path(&format!("listed/entry-{name:03}")), b"x").unwrap();
        }
        checker
    }

    /// The same where nothing is broken on purpose.
    pub(crate) fn of_calm(seed: u64, root: &Path) -> Self {
        Self { calm: true, ..Self::new(seed, root) }
    }

    /// Puts a file there that is for downloads.
    pub(crate) fn prepare(&mut self, name: String, content: Content) {
        fs::write(self.path(&name), self.stored(&content)).unwrap();
        self.prepared.push(Prepared { name, content });
    }

    /// Any content of that size, or of about that size if it is text.
    pub(crate) fn content(&self, random: &mut fastrand::Rng, size: usize, text: bool) -> Content {
        let pool = if text { &self.text } else { &self.pool };
        let start = random.usize(..pool.len() - size);
        let is_inside_end = |at: usize| at > 0 && pool[at - 1..].starts_with(b"\r\n");
        let move_off = |at: usize| if text && is_inside_end(at) { at + 1 } else { at };
        Content { range: move_off(start)..move_off(start + size), text }
    }

    /// As it goes over the wire.
    pub(crate) fn wire(&self, content: &Content) -> &[u8] {
        let pool = if content.text { &self.text } else { &self.pool };
        &pool[content.range.clone()]
    }

    /// As it is stored: text without CRs.
    fn stored(&self, content: &Content) -> Vec<u8> {
        let wire = self.wire(content);
        if content.text {
            wire.iter().copied().filter(|&byte| byte != b'\r').collect()
        } else {
            wire.into()
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Counts an attempt that its client gave no acknowledgement to check for.
    pub(crate) fn ended(
        &self,
        kind: &'static str,
        stop: &Stop,
        begun: bool,
        transcript: &Transcript,
    ) {
        let outcome = match stop {
            Stop::Hung => {
                self.violation("nothing happened until the watchdog barked", transcript);
                Outcome::Violation
            }
            Stop::Wrong(what) => {
                self.violation(what, transcript);
                Outcome::Violation
            }
            _ if self.calm => {
                self.violation(&format!("{stop:?}, and nothing was broken"), transcript);
                Outcome::Violation
            }
            _ if begun => Outcome::Failed,
            _ => Outcome::Refused,
        };
        self.count(kind, outcome);
    }

    pub(crate) fn count(&self, kind: &'static str, outcome: Outcome) {
        *self.state.lock().unwrap().counts.entry((kind, outcome)).or_default() += 1;
    }

    pub(crate) fn violation(&self, what: &str, transcript: &Transcript) {
        self.state.lock().unwrap().violations.push(format!("{what}\n{transcript}"));
    }

    /// An upload got its 226: it has to be whole, now and later.
    pub(crate) fn acknowledged(
        &self,
        kind: &'static str,
        name: &str,
        content: &Content,
        transcript: &Transcript,
    ) {
        let outcome = match self.difference(name, content) {
            None => Outcome::Complete,
            Some(difference) => {
                let what = format!("226 for {name}, which is not whole: {difference}");
                self.violation(&what, transcript);
                Outcome::Violation
            }
        };
        self.count(kind, outcome);
        let mut state = self.state.lock().unwrap();
        state.bytes += content.len() as u64;
        state.acknowledged.push_back((
            Instant::now(),
            name.into(),
            content.clone(),
            transcript.clone(),
        ));
    }

    /// What a client has of a download or of the rest of one: `clean` if its data connection ended
    /// as one does whose file is whole, `answered` if it was told 226. Whether it is whole.
    pub(crate) fn downloaded(
        &self,
        expected: &[u8],
        found: &[u8],
        clean: bool,
        answered: bool,
    ) -> Result<bool, Stop> {
        let wrong = |what: &str| {
            let (found, expected) = (found.len(), expected.len());
            Err(Stop::Wrong(format!("{what}: {found} of {expected} bytes")))
        };
        let is_whole = found == expected;
        if !expected.starts_with(found) {
            return wrong("other bytes came");
        }
        if clean && !is_whole {
            return wrong("a clean end of a download that is not whole");
        }
        // A 226 alone proves nothing to a client whose data connection was reset: what the gateway has
        // given to the kernel may be lost on the way to it.
        if answered && !is_whole {
            self.count("226 behind a reset", Outcome::Failed);
        }
        self.state.lock().unwrap().bytes += found.len() as u64;
        Ok(is_whole && clean && answered)
    }

    /// How the file differs from what it should be.
    fn difference(&self, name: &str, content: &Content) -> Option<String> {
        let expected = self.stored(content);
        match fs::read(self.path(name)) {
            Ok(found) if found == expected => None,
            Ok(found) => {
                let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                let (found, expected) = (found.len(), expected.len());
                Some(format!("{found} bytes for {expected}, of which the first {same} are right"))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Looks at acknowledged files once more, of which it is time or all, and removes them.
    pub(crate) fn look_again(&self, all: bool) {
        loop {
            let (_, name, content, transcript) = {
                let mut state = self.state.lock().unwrap();
                let due = |(at, ..): &(Instant, _, _, _)| all || at.elapsed() > LATER;
                if !state.acknowledged.front().is_some_and(due) {
                    return;
                }
                state.acknowledged.pop_front().unwrap()
            };
            if let Some(difference) = self.difference(&name, &content) {
                let what = format!("226 for {name}, which was spoilt later: {difference}");
                self.violation(&what, &transcript);
            }
            let _ = fs::remove_file(self.path(&name));
        }
    }

    /// An audit log must not call an upload complete that its client has cut. How many lines it has,
    /// and how many of them a clock has timed that was off by hours.
    pub(crate) fn read_audit(&self, log: &Path) -> (usize, usize) {
        let text = fs::read_to_string(log).unwrap();
        let (mut lines, mut off) = (0, 0);
        for line in text.lines() {
            if line.matches("{\"time\"").count() > 1 {
                let what = format!("two lines of the audit log are one: {line}");
                self.state.lock().unwrap().violations.push(what);
            }
            // Where the disk was full a line may have stopped short.
            let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
            let word = |key: &str| record[key].as_str().unwrap_or_default();
            if word("path").starts_with(CUT) && word("outcome") == "complete" {
                let what = format!("complete in the audit log, and cut by its client: {line}");
                self.state.lock().unwrap().violations.push(what);
            }
            lines += 1;
            let time = humantime::parse_rfc3339(word("time")).unwrap();
            let apart =
                SystemTime::now().duration_since(time).unwrap_or_else(|ahead| ahead.duration());
            off += usize::from(apart > self.began.elapsed() + OFF);
        }
        (lines, off)
    }

    /// What was violated, each with its transcript.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }

    /// Attempts that ended so.
    pub(crate) fn total(&self, outcome: Outcome) -> u64 {
        let state = self.state.lock().unwrap();
        state
            .counts
            .iter()
            .filter(|((_, found), _)| *found == outcome)
            .map(|(_, count)| count)
            .sum()
    }

    /// Bytes of files and of parts of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().unwrap().bytes
    }

    /// How often what ended how, as a table.
    pub(crate) fn report(&self) -> String {
        let state = self.state.lock().unwrap();
        let outcomes = [
            Outcome::Complete,
            Outcome::Abandoned,
            Outcome::Refused,
            Outcome::Failed,
            Outcome::Violation,
        ];
        let mut kinds: Vec<_> = state.counts.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        let row = |kind: &str| {
            let counts = outcomes.map(|outcome| {
                let key =
                    state.counts.iter().find(|((of, found), _)| *of == kind && *found == outcome);
                key.map_or(0, |(_, count)| *count)
            });
            let [complete, abandoned, refused, failed, violation] = counts;
            format!("{kind:28} {complete:8} {abandoned:9} {refused:8} {failed:7} {violation:10}\n")
        };
        let head = format!(
            "{:28} {:>8} {:>9} {:>8} {:>7} {:>10}\n",
            "", "complete", "abandoned", "refused", "failed", "violations"
        );
        head + &kinds.into_iter().map(row).collect::<String>()
    }
}
