use std::sync::Mutex;

use super::*;

/// Buckets as they are told to be.
#[derive(Debug, Default)]
struct Fake {
    sizes: Mutex<HashMap<String, u64>>,
    refuses: Mutex<bool>,
    /// It gives no answer for so long, and then none at all.
    hangs: Mutex<Option<Duration>>,
    asked: AtomicU64,
}

impl Sizes for Arc<Fake> {
    async fn size(&self, object: &Object) -> Result<Option<u64>, AwsError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let hangs = *lock(&self.hangs);
        if let Some(time) = hangs {
            sleep(time).await;
        }
        if hangs.is_some() || *lock(&self.refuses) {
            let code = "HTTP 403".into();
            return Err(AwsError::Refused { service: "S3", code, status: 403 });
        }
        Ok(lock(&self.sizes).get(&object.key).copied())
    }
}

struct Scene {
    fake: Arc<Fake>,
    metrics: Metrics,
    verifier: Verifier<Arc<Fake>>,
}

impl Scene {
    fn new() -> Self {
        let directory =
            config::VerifyDirectory { path: "/".into(), bucket: "b".into(), prefix: "".into() };
        let wait = Duration::from_secs(30);
        let config = config::Verify { home: None, wait, directories: vec![directory] };
        let (fake, metrics) = (Arc::<Fake>::default(), Metrics::new().unwrap());
        let verifier = Verifier::with(&config, Arc::clone(&fake), metrics.clone());
        Self { fake, metrics, verifier }
    }

    fn upload(&self, path: &str, bytes: u64) {
        let writing = self.verifier.begin(b"ann", &place(path));
        self.verifier.uploaded(writing, upload(path, bytes));
    }

    fn has(&self, path: &str, bytes: u64) {
        lock(&self.fake.sizes).insert(path.into(), bytes);
    }

    /// Waits for all; what came of them, but for what came of none.
    async fn results(&self) -> Vec<String> {
        self.verifier.0.looking.close();
        self.verifier.0.looking.wait().await;
        let text = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        let shown = text
            .lines()
            .filter_map(|line| line.strip_prefix("ftpgate_uploads_verified_total{result=\""));
        let shown = shown.filter(|line| !line.ends_with(" 0"));
        assert!(text.contains("ftpgate_uploads_to_verify 0"), "{text}");
        shown.map(|line| line.replace("\"}", "")).collect()
    }
}

fn upload(path: &str, bytes: u64) -> Upload {
    Upload { session: 1, user: "ann".into(), path: path.into(), bytes }
}

fn place(path: &str) -> Place {
    Place { from_home: false, path: path.into() }
}

#[tokio::test(start_paused = true)]
async fn each_upload_is_good_of_another_size_missing_or_cannot_be_asked_for() {
    let scene = Scene::new();
    for (path, bytes) in [("good", 10), ("empty", 0), ("short", 10), ("gone", 10)] {
        scene.upload(path, bytes);
    }
    [("good", 10), ("empty", 0), ("short", 9)]
        .iter()
        .for_each(|(path, size)| scene.has(path, *size));
    assert_eq!(scene.results().await, ["mismatch 1", "missing 1", "ok 2"]);

    let scene = Scene::new();
    *lock(&scene.fake.refuses) = true;
    scene.upload("a", 1);
    assert_eq!(scene.results().await, ["failed 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_but_in_time_is_good() {
    let scene = Scene::new();
    scene.has("old", 5);
    ["late", "old", "refused"].iter().for_each(|path| scene.upload(path, 10));
    sleep(Duration::from_secs(10)).await;
    *lock(&scene.fake.refuses) = true;
    sleep(Duration::from_secs(10)).await;
    *lock(&scene.fake.refuses) = false;
    ["late", "old", "refused"].iter().for_each(|path| scene.has(path, 10));
    assert_eq!(scene.results().await, ["ok 3"]);
    let asked = scene.fake.asked.load(Ordering::Relaxed);
    assert!((18..40).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn the_latest_upload_of_a_name_is_the_one_that_counts() {
    let scene = Scene::new();
    scene.upload("twice", 10);
    sleep(Duration::from_secs(1)).await;
    // The second one is stored before the first was seen, and before its own 226.
    scene.has("twice", 20);
    sleep(Duration::from_secs(20)).await;
    scene.upload("twice", 20);
    assert_eq!(scene.results().await, ["ok 1", "unknown 1"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_write_one_name_at_a_time_nobody_knows_which_is_left() {
    let scene = Scene::new();
    scene.upload("f", 1);
    let first = scene.verifier.begin(b"ann", &place("f"));
    let second = scene.verifier.begin(b"ann", &place("f"));
    scene.verifier.uploaded(second, upload("f", 20));
    scene.verifier.uploaded(first, upload("f", 10));
    // One that fails, or that adds to the file, is over when its session lets go of it.
    drop(scene.verifier.begin(b"ann", &place("f")));
    scene.has("f", 30);
    scene.upload("f", 30);
    assert!(lock(&scene.verifier.0.state).written.is_empty());
    assert_eq!(scene.results().await, ["ok 1", "unknown 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_renamed_file_is_looked_for_under_its_new_name_and_a_deleted_one_no_more() {
    let scene = Scene::new();
    let paths =
        ["a.tmp", "b.tmp", "c.tmp", "d", "e", "f", "directory/g", "directory/h", "directory-2"];
    paths.iter().for_each(|path| scene.upload(path, 10));
    sleep(Duration::from_secs(1)).await;
    scene.has("a", 10);
    scene.has("b", 9);
    let gone = |from: Option<&str>, to: Option<&str>| {
        let (from, to) = (from.map(place), to.map(place));
        scene.verifier.gone(b"ann", from.as_ref(), to.as_ref());
    };
    gone(Some("a.tmp"), Some("a"));
    gone(Some("b.tmp"), Some("b"));
    // To nowhere known; deleted; and something else, from somewhere or nobody knows from where, takes the
    // place of the last two.
    gone(Some("c.tmp"), None);
    gone(Some("d"), None);
    gone(Some("other"), Some("e"));
    gone(None, Some("f"));
    // What is below a directory goes with it, and what only begins alike does not.
    scene.has("directory-2", 10);
    gone(Some("directory"), Some("elsewhere"));
    assert_eq!(scene.results().await, ["mismatch 1", "ok 2", "unknown 6"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_of_late_counts_when_the_last_question_gets_no_answer() {
    for (answers, expected) in [(29, "mismatch 1"), (5, "failed 1")] {
        let scene = Scene::new();
        scene.has("short", 9);
        scene.upload("short", 10);
        sleep(Duration::from_secs(answers)).await;
        *lock(&scene.fake.refuses) = true;
        assert_eq!(scene.results().await, [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_makes_nobody_wait_much_longer_and_nothing_look_lost() {
    let scene = Scene::new();
    *lock(&scene.fake.hangs) = Some(HEAD_TIMEOUT);
    (0..1000).for_each(|number| scene.upload(&number.to_string(), 1));
    let began = Instant::now();
    assert_eq!(scene.results().await, ["failed 1000"]);
    assert!(began.elapsed() < scene.verifier.0.wait + 2 * HEAD_TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_find_is_unknown_and_what_is_too_much_is_dropped() {
    let scene = Scene::new();
    scene.verifier.uploaded(None, upload("x", 1));
    let below_home = Place { from_home: true, path: b"x".to_vec() };
    assert!(scene.verifier.begin(b"ann", &below_home).is_none());
    for number in 0..MOST + 2 {
        let name = format!("{number:05}");
        scene.has(&name, 1);
        scene.upload(&name, 1);
    }
    let ok = format!("ok {MOST}");
    assert_eq!(scene.results().await, ["dropped 2", &ok, "unknown 1"]);
}
