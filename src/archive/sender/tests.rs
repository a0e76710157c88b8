use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;

use super::*;
use crate::lock::lock;
use crate::observe::metrics::Metrics;

/// S3 that fails as it is told to: before it has written, or without a word after that.
#[derive(Debug, Default)]
struct Bucket {
    faults: Mutex<Vec<Fault>>,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    writes: Mutex<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused(u16),
    LostAnswer,
}

impl Store for Arc<Bucket> {
    async fn keep(&self, key: &str, lines: Vec<u8>) -> Result<(), AwsError> {
        let fault = lock(&self.faults).pop();
        let refused =
            |status| AwsError::Refused { service: "S3", code: "AccessDenied".into(), status };
        if let Some(Fault::Refused(status)) = fault {
            return Err(refused(status));
        }
        let before = lock(&self.objects).insert(key.into(), lines.clone());
        assert!(before.is_none_or(|before| before == lines), "{key} is written over");
        *lock(&self.writes) += 1;
        match fault {
            Some(_) => {
                Err(AwsError::Unreachable { service: "S3", cause: "no answer in time".into() })
            }
            None => Ok(()),
        }
    }
}

struct Scene {
    _directory: TempDir,
    spool: PathBuf,
    bucket: Arc<Bucket>,
    metrics: Metrics,
    sender: Sender<Arc<Bucket>>,
}

impl Scene {
    /// With these batches, each of one line.
    fn new(batches: u32) -> Self {
        let directory = TempDir::new().unwrap();
        let config = config::AuditArchive {
            bucket: "trail".into(),
            prefix: "audit/".into(),
            interval: Duration::from_secs(3600),
            batch: 1 << 20,
            spool: directory.path().into(),
            limit: 1 << 30,
        };
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_795_467_894);
        for number in 1..=batches {
            let name = Name::new(time, 1, number);
            fs::write(config.spool.join(name.as_str()), format!("line {number}\n")).unwrap();
        }
        let metrics = Metrics::new().unwrap();
        let spool = Arc::new(Spool::open(&config, metrics.clone()).unwrap());
        let bucket = Arc::<Bucket>::default();
        let sender = Sender::new(spool, Arc::clone(&bucket), &config, "gateway-a");
        Self { _directory: directory, spool: config.spool, bucket, metrics, sender }
    }

    fn left(&self) -> usize {
        fs::read_dir(&self.spool).unwrap().count()
    }

    fn sent(&self) -> String {
        lock(&self.bucket.objects)
            .values()
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect()
    }

    fn fail(&self, faults: &[Fault]) {
        *lock(&self.bucket.faults) = faults.iter().rev().copied().collect();
    }
}

#[tokio::test]
async fn batches_go_oldest_first_and_leave_the_spool_when_they_are_there() {
    let mut scene = Scene::new(3);
    assert!(scene.sender.send_all().await);
    assert_eq!((scene.left(), &*scene.sent()), (0, "line 1\nline 2\nline 3\n"));
    let keys: Vec<String> = lock(&scene.bucket.objects).keys().cloned().collect();
    let key = "audit/gateway-a/2026/11/23/20261123T210454.000Z-0000000000000001-000001.jsonl";
    assert_eq!(keys[0], key);
    let text = String::from_utf8(scene.metrics.render().unwrap()).unwrap();
    assert!(text.contains("ftpgate_audit_archive_batches_total{result=\"ok\"} 3"), "{text}");
    assert!(text.contains("ftpgate_audit_archive_spool_bytes 0"), "{text}");
}

#[tokio::test]
async fn a_failure_keeps_the_batch_and_those_behind_it() {
    let mut scene = Scene::new(3);
    scene.fail(&[Fault::Refused(500)]);
    assert!(!scene.sender.send_all().await);
    assert_eq!((scene.left(), &*scene.sent()), (3, ""));
    scene.fail(&[Fault::Refused(403)]);
    assert!(!scene.sender.send_all().await);
    assert!(scene.sender.send_all().await);
    assert_eq!((scene.left(), &*scene.sent()), (0, "line 1\nline 2\nline 3\n"));
    let text = String::from_utf8(scene.metrics.render().unwrap()).unwrap();
    assert!(text.contains("ftpgate_audit_archive_batches_total{result=\"failed\"} 2"), "{text}");
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_in_the_way_of_no_other() {
    let scene = Scene::new(3);
    let broken = Name::new(std::time::UNIX_EPOCH, 1, 0);
    fs::create_dir(scene.spool.join(broken.as_str())).unwrap();
    let reason = scene.sender.try_all().await.unwrap_err();
    assert!(reason.contains(broken.as_str()), "{reason}");
    assert_eq!((scene.left(), &*scene.sent()), (1, "line 1\nline 2\nline 3\n"));
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_sent_again_under_the_same_key() {
    let mut scene = Scene::new(2);
    scene.fail(&[Fault::LostAnswer]);
    assert!(!scene.sender.send_all().await);
    assert_eq!((scene.left(), &*scene.sent()), (2, "line 1\n"));
    assert!(scene.sender.send_all().await);
    assert_eq!((scene.left(), &*scene.sent()), (0, "line 1\nline 2\n"));
    assert_eq!(*lock(&scene.bucket.writes), 3);
}

#[tokio::test]
async fn an_empty_batch_goes_and_a_torn_line_is_counted_once() {
    let mut scene = Scene::new(0);
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_795_467_894);
    for (number, content) in [(1, ""), (2, "whole\nto"), (3, "to")] {
        fs::write(scene.spool.join(Name::new(time, 1, number).as_str()), content).unwrap();
    }
    scene.fail(&[Fault::Refused(503)]);
    assert!(!scene.sender.send_all().await);
    assert!(scene.sender.send_all().await);
    assert_eq!((scene.left(), &*scene.sent()), (0, "whole\n"));
    let text = String::from_utf8(scene.metrics.render().unwrap()).unwrap();
    assert!(text.contains("ftpgate_audit_archive_dropped_total 2"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_ever_later_and_news_at_once() {
    let scene = Scene::new(1);
    scene.fail(&[Fault::Refused(500); 8]);
    let (bucket, spool) = (Arc::clone(&scene.bucket), scene.spool.clone());
    let closing = CancellationToken::new();
    let started = tokio::time::Instant::now();
    let running = tokio::spawn(scene.sender.run(closing.clone()));
    while fs::read_dir(&spool).unwrap().count() > 0 {
        sleep(Duration::from_millis(100)).await;
    }
    // 1, 2, 4, 8, 16, 32, 60 and 60 seconds, give or take a fifth.
    let took = started.elapsed().as_secs_f64();
    assert!((183.0 * 0.8..183.0 * 1.2 + 1.0).contains(&took), "{took}");
    assert_eq!(lock(&bucket.objects).len(), 1);
    closing.cancel();
    running.await.unwrap();
}
