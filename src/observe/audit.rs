//! The audit log: one line per transfer, written off the data path.
//!
//! Sessions hand records to a bounded queue and never wait. One thread writes them; when it
//! cannot (a full disk), lines are dropped and counted, and transfers go on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tracing::{error, info};

use super::log::one_line;
use super::metrics::Metrics;
use crate::config::{self, AuditFormat};
use crate::ftp::Outcome;
use crate::rfc3339;

/// Lines that may wait for the disk.
pub const QUEUE: usize = 8192;

/// What is told of one transfer.
#[derive(Debug, Clone)]
pub struct Record {
    /// When the transfer ended.
    pub time: SystemTime,
    /// The session's number on this node since it started.
    pub session: u64,
    /// The client's control connection.
    pub client: SocketAddr,
    /// The user, as given in USER.
    pub user: String,
    /// RETR, STOR, STOU, APPE, LIST, NLST or MLSD.
    pub verb: &'static str,
    /// The path as the client sent it, relative to what it calls its directory.
    pub path: String,
    /// Bytes moved on the data connection.
    pub bytes: u64,
    /// From the transfer command to its final reply.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The final reply's code that the client was given, if it was there to be given one.
    pub reply: Option<u16>,
    /// The upstream endpoint.
    pub endpoint: SocketAddr,
}

/// A handle to the audit log; clones share one writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    /// None: nothing is recorded.
    queue: Option<SyncSender<Message>>,
    /// Where it is kept for the archive. It has its own thread and disk: neither waits for the other.
    archive: Option<SyncSender<Message>>,
    metrics: Metrics,
}

/// The thread behind an [`AuditLog`].
#[derive(Debug)]
pub struct AuditWriter {
    queue: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// What goes to a writer.
#[derive(Debug)]
pub enum Message {
    /// A line to be written.
    Record(Arc<Record>),
    /// No record comes after this.
    End,
}

// === impl AuditLog ===

impl AuditLog {
    /// Opens the log and starts its writer. It fails where the file cannot be opened now: later
    /// failures are logged and counted.
    pub fn open(config: &config::Audit, metrics: Metrics) -> io::Result<(Self, AuditWriter)> {
        let target = match &config.path {
            Some(path) => Target::File { path: path.clone(), file: open(path)? },
            None => Target::Stdout,
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let (format, dropped) = (config.format, metrics.clone());
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || write_lines(&receiver, target, format, &dropped))?;
        let writer = AuditWriter { queue: sender.clone(), thread };
        Ok((Self { queue: Some(sender), archive: None, metrics }, writer))
    }

    /// A log that records nothing.
    pub fn disabled(metrics: Metrics) -> Self {
        Self { queue: None, archive: None, metrics }
    }

    /// The same log, whose records go to this queue, too.
    pub fn archived(self, archive: SyncSender<Message>) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// Records one transfer; never blocks. A full queue drops the line and counts it.
    pub fn record(&self, record: Record) {
        self.metrics.events().transfer_ended(&record);
        let record = Arc::new(record);
        if let Some(archive) = &self.archive
            && archive.try_send(Message::Record(Arc::clone(&record))).is_err()
        {
            self.metrics.archive_dropped();
        }
        if let Some(queue) = &self.queue
            && queue.try_send(Message::Record(record)).is_err()
        {
            self.metrics.audit_dropped();
        }
    }
}

// === impl AuditWriter ===

impl AuditWriter {
    /// Waits until every line is written that was recorded before; later ones are dropped.
    pub fn finish(self) {
        // It fails only if the thread has ended already.
        let _ = self.queue.send(Message::End);
        let _ = self.thread.join();
    }
}

enum Target {
    File { path: PathBuf, file: File },
    Stdout,
}

/// Opens for appending; the group may read it, nobody else. A file is opened to be looked at, too: later
/// there may be no descriptor for that. What is none, such as a pipe, is not looked at.
fn open(path: &Path) -> io::Result<File> {
    let is_file = path.metadata().map_or(true, |there| there.is_file());
    OpenOptions::new().read(is_file).append(true).create(true).mode(0o640).open(path)
}

fn write_lines(
    messages: &Receiver<Message>,
    mut target: Target,
    format: AuditFormat,
    metrics: &Metrics,
) {
    let mut failing = false;
    while let Ok(Message::Record(record)) = messages.recv() {
        let line = match format {
            AuditFormat::Json => json_line(&record),
            AuditFormat::Xferlog => xferlog_line(&record),
        };
        match target.write(line.as_bytes()) {
            Ok(()) if failing => {
                failing = false;
                info!("the audit log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                metrics.audit_dropped();
                // Once per episode: a full disk must not fill the log as well.
                if !failing {
                    failing = true;
                    error!(%error, "the audit log cannot be written; its lines are lost until it can");
                }
            }
        }
    }
}

impl Target {
    /// Writes one whole line, and not behind a part of another that a full disk has cut short: one of
    /// this process, of one before, or of an older one that still finishes its sessions.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::File { path, file } => {
                if was_moved(path, file) {
                    *file = open(path)?;
                }
                if is_torn(file) {
                    file.write_all(b"\n")?;
                }
                file.write_all(line)
            }
            Self::Stdout => io::stdout().lock().write_all(line),
        }
    }
}

/// Whether the path now leads to another file, or to none: logrotate has moved ours.
fn was_moved(path: &Path, file: &File) -> bool {
    let Ok(ours) = file.metadata() else { return true };
    path.metadata().map_or(true, |there| (there.dev(), there.ino()) != (ours.dev(), ours.ino()))
}

/// Whether a file ends within a line; what is no file, and cannot be read, does not.
fn is_torn(file: &File) -> bool {
    let last = || -> io::Result<u8> {
        let mut byte = [0];
        let size = file.metadata()?.len();
        file.read_exact_at(&mut byte, size.saturating_sub(1))?;
        Ok(byte[0])
    };
    last().is_ok_and(|byte| byte != b'\n')
}

/// One JSON object. serde escapes what JSON demands, [`one_line`] what terminals and log readers
/// take for more than text: DEL, the C1 controls, the line separators of Unicode.
pub fn json_line(record: &Record) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        session: u64,
        client: SocketAddr,
        user: &'a str,
        verb: &'a str,
        path: &'a str,
        bytes: u64,
        duration_ms: u128,
        outcome: &'a str,
        reply: Option<u16>,
        endpoint: SocketAddr,
    }
    let line = Line {
        time: rfc3339::text(record.time),
        session: record.session,
        client: record.client,
        user: &record.user,
        verb: record.verb,
        path: &record.path,
        bytes: record.bytes,
        duration_ms: record.duration.as_millis(),
        outcome: record.outcome.as_str(),
        reply: record.reply,
        endpoint: record.endpoint,
    };
    // Numbers and strings alone always serialise.
    let mut text = one_line(&serde_json::to_string(&line).unwrap_or_default()).into_owned();
    text.push('\n');
    text
}

/// xferlog(5): current-time, transfer-time, remote-host, file-size, filename, transfer-type,
/// special-action-flag, direction, access-mode, username, service-name, authentication-method,
/// authenticated-user-id, completion-status.
fn xferlog_line(record: &Record) -> String {
    let direction = match record.verb {
        "STOR" | "STOU" | "APPE" => 'i',
        _ => 'o',
    };
    let status = if record.outcome == Outcome::Complete { 'c' } else { 'i' };
    format!(
        "{} {} {} {} {} b _ {direction} r {} ftp 0 * {status}\n",
        ctime(record.time),
        record.duration.as_secs().max(1),
        record.client.ip(),
        record.bytes,
        one_word(&record.path),
        one_word(&record.user),
    )
}

/// A field without blanks: those become `_` as in ProFTPD's log, control characters `?`.
fn one_word(text: &str) -> String {
    let word: String = text
        .chars()
        .map(|char| match char {
            ' ' => '_',
            char if char.is_control() || char.is_whitespace() => '?',
            char => char,
        })
        .collect();
    if word.is_empty() { "-".into() } else { word }
}

/// The time in the form of ctime(3), in UTC: `Mon Nov 23 21:04:54 2026`.
fn ctime(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    // RFC 3339 has every number but the day of the week; the epoch was a Thursday.
    let rfc3339 = humantime::format_rfc3339_seconds(time).to_string();
    let field = |range: std::ops::Range<usize>| rfc3339.get(range).unwrap_or_default();
    let name =
        |names: &'static str, index: usize| names.get(index * 3..index * 3 + 3).unwrap_or("???");
    let weekday = usize::try_from(seconds / 86_400 % 7).unwrap_or_default();
    let month = field(5..7).parse::<usize>().map_or(0, |month| month.saturating_sub(1));
    format!(
        "{} {} {:>2} {} {}",
        name("ThuFriSatSunMonTueWed", weekday),
        name("JanFebMarAprMayJunJulAugSepOctNovDec", month),
        field(8..10).trim_start_matches('0'),
        field(11..19),
        field(0..4),
    )
}

#[cfg(test)]
impl Record {
    /// For tests: an upload of 1234 bytes by ann.
    pub(crate) fn example(path: &str) -> Self {
        Self {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_467_894_123),
            session: 7,
            client: "192.0.2.1:40000".parse().unwrap(),
            user: "ann".into(),
            verb: "STOR",
            path: path.into(),
            bytes: 1234,
            duration: Duration::from_millis(1500),
            outcome: Outcome::Complete,
            reply: Some(226),
            endpoint: "10.2.3.10:21".parse().unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_tells_all() {
        assert_eq!(
            json_line(&Record::example("in voice.txt")),
            "{\"time\":\"2026-11-23T21:04:54.123Z\",\"session\":7,\"client\":\"192.0.2.1:40000\",\"user\":\"ann\",\
             \"verb\":\"STOR\",\"path\":\"in voice.txt\",\"bytes\":1234,\"duration_ms\":1500,\"outcome\":\"complete\",\
             \"reply\":226,\"endpoint\":\"10.2.3.10:21\"}\n"
        );
    }

    #[test]
    fn an_xferlog_line_has_the_fields_of_xferlog_5() {
        assert_eq!(
            xferlog_line(&Record::example("in voice.txt")),
            "Mon Nov 23 21:04:54 2026 1 192.0.2.1 1234 in_voice.txt b _ i r ann ftp 0 * c\n"
        );
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let name = "x\r\n{\"forged\":true}\u{1b}[2J\u{9b}2J\u{7f}\u{85}\u{2028}\u{2029}";
        let hostile = Record::example(name);
        for line in [json_line(&hostile), xferlog_line(&hostile)] {
            let text = line.strip_suffix('\n').unwrap();
            assert!(!text.contains(char::is_control), "{line}");
            assert!(!text.contains(['\u{2028}', '\u{2029}']), "{line}");
        }
        let told: serde_json::Value = serde_json::from_str(&json_line(&hostile)).unwrap();
        assert_eq!(told["path"], name, "nothing is lost");
        assert_eq!(xferlog_line(&hostile).split(' ').count(), 18);
    }

    #[test]
    fn a_torn_line_is_seen_where_nothing_can_be_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut file = open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        for (written, torn) in [("", false), ("a line\n", false), ("a part", true)] {
            file.write_all(written.as_bytes()).unwrap();
            assert_eq!(is_torn(&file), torn, "{written:?}");
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_short_swallows_none_of_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        std::fs::write(&path, "{\"time\":\"2026-11").unwrap();
        let config =
            config::Audit { path: Some(path.clone()), format: AuditFormat::Json, archive: None };
        for name in ["first", "second"] {
            let (log, writer) = AuditLog::open(&config, Metrics::new().unwrap()).unwrap();
            log.record(Record::example(name));
            writer.finish();
        }
        let lines: String =
            ["first", "second"].map(|name| json_line(&Record::example(name))).concat();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{{\"time\":\"2026-11\n{lines}"));
    }

    #[test]
    fn lines_are_appended_and_go_to_a_new_file_after_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let config =
            config::Audit { path: Some(path.clone()), format: AuditFormat::Json, archive: None };
        let (log, writer) = AuditLog::open(&config, Metrics::new().unwrap()).unwrap();
        log.record(Record::example("a"));
        while std::fs::read_to_string(&path).unwrap().is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        log.record(Record::example("b"));
        drop(log);
        writer.finish();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"path\":\"b\""));
    }

    #[test]
    fn a_disk_that_is_full_costs_lines_and_nothing_else() {
        let config = config::Audit {
            path: Some("/dev/full".into()),
            format: AuditFormat::Xferlog,
            archive: None,
        };
        let metrics = Metrics::new().unwrap();
        let (log, writer) = AuditLog::open(&config, metrics.clone()).unwrap();
        log.record(Record::example("a"));
        drop(log);
        writer.finish();
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(text.contains("ftpgate_audit_dropped_total 1"), "{text}");
    }
}
