use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::*;
use crate::observe::audit::Record;

fn config(directory: &TempDir) -> config::AuditArchive {
    config::AuditArchive {
        bucket: "trail".into(),
        prefix: String::new(),
        interval: Duration::from_secs(3600),
        batch: 1 << 20,
        spool: directory.path().join("deep/spool"),
        limit: 1 << 30,
    }
}

fn record(path: &str) -> Arc<Record> {
    Arc::new(Record::example(path))
}

fn open(config: &config::AuditArchive) -> Arc<Spool> {
    Arc::new(Spool::open(config, Metrics::new().unwrap()).unwrap())
}

/// A writer in a thread of its own.
struct Writing {
    queue: SyncSender<Message>,
    thread: JoinHandle<()>,
}

impl Writing {
    fn start(spool: &Arc<Spool>, config: &config::AuditArchive) -> Self {
        let (queue, messages) = sync_channel(8);
        let writer = Writer::new(Arc::clone(spool), config);
        Self { queue, thread: std::thread::spawn(move || writer.run(&messages)) }
    }

    fn record(&self, path: &str) {
        self.queue.send(Message::Record(record(path))).unwrap();
    }

    fn finish(self) {
        self.queue.send(Message::End).unwrap();
        self.thread.join().unwrap();
    }
}

/// Every line of the spool that can be had now, batch by batch; the batches go.
fn taken(spool: &Spool) -> Vec<String> {
    let take = |name: &Name| {
        let held = spool.take(name).unwrap()?;
        spool.remove(name).unwrap();
        Some(String::from_utf8(held.lines).unwrap())
    };
    spool.survey().unwrap().iter().filter_map(take).collect()
}

fn lines(paths: &[&str]) -> String {
    paths.iter().map(|path| json_line(&record(path))).collect()
}

fn shown(spool: &Spool, series: &str) -> i64 {
    let text = String::from_utf8(spool.metrics.render().unwrap()).unwrap();
    let series = format!("ftpgate_audit_archive_{series} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
}

#[test]
fn a_batch_is_closed_by_its_size_its_age_or_the_end_and_belongs_to_its_writer_before() {
    let directory = TempDir::new().unwrap();
    let two = lines(&["a", "b"]).len() as u64;
    let mut config = config::AuditArchive { batch: two, ..config(&directory) };
    let spool = open(&config);
    let writing = Writing::start(&spool, &config);
    ["a", "b", "c"].iter().for_each(|path| writing.record(path));
    let mut found = Vec::new();
    while found.is_empty() {
        found = taken(&spool);
    }
    assert_eq!(found, [lines(&["a", "b"])], "the third begins another");
    assert_eq!(taken(&spool), [""; 0], "which is still being written");
    writing.finish();
    assert_eq!(taken(&spool), [lines(&["c"])]);

    config.interval = Duration::from_millis(1);
    let writing = Writing::start(&spool, &config);
    writing.record("d");
    let mut found = Vec::new();
    while found.is_empty() {
        found = taken(&spool);
    }
    assert_eq!(found, [lines(&["d"])]);
    writing.finish();
    assert_eq!((taken(&spool), shown(&spool, "spool_bytes")), (vec![], 0));
    assert_eq!(shown(&spool, "oldest_timestamp_seconds"), 0);
}

#[test]
fn a_full_spool_keeps_what_it_has_counts_what_it_does_not_take_and_goes_on_when_it_can() {
    let directory = TempDir::new().unwrap();
    let two = lines(&["a", "b"]).len() as u64;
    let config = config::AuditArchive { limit: two, ..config(&directory) };
    let spool = open(&config);
    let mut writer = Writer::new(Arc::clone(&spool), &config);
    let keep = |writer: &mut Writer, path: &str| writer.keep(lines(&[path]).as_bytes());
    ["a", "b", "c", "d"].iter().for_each(|path| keep(&mut writer, path));
    assert_eq!(shown(&spool, "dropped_total"), 2);
    assert_eq!(shown(&spool, "spool_bytes") as u64, two);
    assert!(shown(&spool, "oldest_timestamp_seconds") > 0);
    writer.close();
    assert_eq!(taken(&spool), [lines(&["a", "b"])]);
    writer.looked = Instant::now().checked_sub(LOOK).unwrap();
    keep(&mut writer, "e");
    writer.close();
    assert_eq!(taken(&spool), [lines(&["e"])]);
    assert_eq!(shown(&spool, "dropped_total"), 2);
}

#[test]
fn what_other_processes_have_left_counts_and_a_torn_line_is_left_out() {
    let directory = TempDir::new().unwrap();
    let config = config(&directory);
    fs::create_dir_all(&config.spool).unwrap();
    let name = Name::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_467_894), 1, 1);
    let whole = lines(&["a"]);
    fs::write(config.spool.join(name.as_str()), format!("{whole}{{\"time\":\"20")).unwrap();
    fs::write(config.spool.join("notes.txt"), "none of ours").unwrap();
    let spool = open(&config);
    assert_eq!(shown(&spool, "spool_bytes") as usize, whole.len() + 11);
    assert_eq!(shown(&spool, "oldest_timestamp_seconds"), 1_795_467_894);
    let held = spool.take(&name).unwrap().unwrap();
    assert_eq!((String::from_utf8(held.lines.clone()).unwrap(), held.torn), (whole, true));
    assert!(spool.take(&name).unwrap().is_none(), "it is in somebody's hands");
    drop(held);
    assert!(spool.take(&name).unwrap().is_some());
    spool.remove(&name).unwrap();
    assert!(spool.take(&name).unwrap().is_none());
    assert!(config.spool.join("notes.txt").exists());
}

#[test]
fn a_directory_that_is_none_is_told() {
    let directory = TempDir::new().unwrap();
    let config = config(&directory);
    fs::write(directory.path().join("deep"), "a file").unwrap();
    assert!(Spool::open(&config, Metrics::new().unwrap()).is_err());
}

#[test]
fn a_disk_that_fails_costs_lines_and_no_more() {
    let directory = TempDir::new().unwrap();
    let config = config(&directory);
    let spool = open(&config);
    let mut writer = Writer::new(Arc::clone(&spool), &config);
    fs::remove_dir(&config.spool).unwrap();
    writer.keep(lines(&["a"]).as_bytes());
    assert_eq!(shown(&spool, "dropped_total"), 1);
    fs::create_dir(&config.spool).unwrap();
    writer.keep(lines(&["b"]).as_bytes());
    writer.close();
    assert_eq!(taken(&spool), [lines(&["b"])]);
}
