//! Whether an upload that got its 226 is in its bucket, as large as what went to the FTP service.
//!
//! The client has its 226 long before: sessions tell what they uploaded and wait for nothing. An upload
//! is looked for at once and again until it is there with its size, or until `verify.wait` is over: the
//! object may come when its file is closed, and the one before it may still be there. Only what is
//! certain counts: an upload is looked for no more when another one of the same name begins, or when it
//! is deleted, and under its new name when it is renamed; and not at all if another was writing to the
//! same name meanwhile. So S3 is not asked much later than `verify.wait`, when others may have taken the
//! object away: if it has not answered by then, the upload cannot be verified. What other nodes and
//! others than FTP clients do to the bucket nobody here knows.
//!
//! | file | what it holds |
//! |---|---|
//! | `directories` | from a place on the upstream to a bucket and a key |

mod directories;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::aws::AwsError;
use crate::aws::s3::Bucket;
use crate::config;
use crate::ftp::Place;
use crate::lock::lock;
use crate::observe::log::one_line;
use crate::observe::metrics::{Metrics, Verification};
use directories::Directories;
pub use directories::Object;

/// Uploads that may be looked for at the same time; one more is not looked for.
const MOST: usize = 4096;
/// Questions to S3 at the same time.
const QUESTIONS: usize = 16;
/// How long one may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before an object is looked for again, at first; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An answer that is no older than this still counts when the last question gets none.
const RECENT: Duration = LONGEST_PAUSE.saturating_add(HEAD_TIMEOUT);
/// How long the last ones are waited for, when the process ends.
const LAST: Duration = Duration::from_secs(10);

/// An upload that got its 226.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Whose it was.
    pub session: u64,
    /// The argument of USER, for people.
    pub user: String,
    /// As the client named it.
    pub path: String,
    /// Bytes that went to the upstream.
    pub bytes: u64,
}

/// Who has objects.
pub trait Sizes: Send + Sync + 'static {
    /// How many bytes this one has, if it is there.
    fn size(&self, object: &Object) -> impl Future<Output = Result<Option<u64>, AwsError>> + Send;
}

/// The buckets that the configuration names.
#[derive(Debug)]
pub struct Buckets(HashMap<String, Bucket>);

/// Looks for uploads; clones share what they look for.
#[derive(Debug)]
pub struct Verifier<S = Buckets>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    directories: Directories,
    wait: Duration,
    sizes: S,
    state: Mutex<State>,
    next: AtomicU64,
    questions: Semaphore,
    looking: TaskTracker,
    metrics: Metrics,
}

/// What is known of objects.
#[derive(Debug, Default)]
struct State {
    /// What they should be; each is being looked for.
    expected: HashMap<Object, Expected>,
    /// Those that uploads are writing now.
    written: HashMap<Object, Writers>,
}

/// Who writes an object.
#[derive(Debug, Default)]
struct Writers {
    now: usize,
    /// There was more than one at a time: nobody knows whose the object is.
    overlapped: bool,
}

/// An upload that is writing an object, until it is dropped.
#[derive(Debug)]
pub struct Writing<S: Sizes = Buckets> {
    shared: Arc<Shared<S>>,
    /// `None` once it is finished.
    object: Option<Object>,
}

/// The latest that is known of an object.
#[derive(Debug, Clone)]
struct Expected {
    upload: Arc<Upload>,
    /// Of all that were looked for.
    number: u64,
}

/// What was found.
#[derive(Debug)]
enum Found {
    Good,
    OfSize(u64),
    Nothing,
    /// For this reason.
    Unasked(String),
}

// === impl Buckets ===

impl Sizes for Buckets {
    async fn size(&self, object: &Object) -> Result<Option<u64>, AwsError> {
        match self.0.get(&object.bucket) {
            Some(bucket) => bucket.size(&object.key).await,
            // There is one for each directory.
            None => Ok(None),
        }
    }
}

// === impl Verifier ===

impl Verifier {
    /// Nothing is asked before there is an upload.
    pub fn new(config: &config::Verify, metrics: Metrics) -> Self {
        let bucket = |name: &str| (name.to_owned(), Bucket::new(name, HEAD_TIMEOUT));
        let names = config.directories.iter().map(|directory| &*directory.bucket);
        Self::with(config, Buckets(names.map(bucket).collect()), metrics)
    }
}

impl<S: Sizes> Verifier<S> {
    fn with(config: &config::Verify, sizes: S, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            directories: Directories::new(config),
            wait: config.wait,
            sizes,
            state: Mutex::default(),
            next: AtomicU64::new(0),
            questions: Semaphore::new(QUESTIONS),
            looking: TaskTracker::new(),
            metrics,
        }))
    }

    /// An upload of this user begins to write there; nothing if nobody can tell which object that is.
    pub fn begin(&self, user: &[u8], place: &Place) -> Option<Writing<S>> {
        let object = self.0.directories.object(user, place)?;
        let mut state = lock(&self.0.state);
        self.0.forget(&mut state, &object);
        let writers = state.written.entry(object.clone()).or_default();
        writers.now += 1;
        writers.overlapped |= writers.now > 1;
        Some(Writing { shared: Arc::clone(&self.0), object: Some(object) })
    }

    /// An upload has got its 226 and is looked for, in the background. Without `writing` nobody knows
    /// where, or how large it should be.
    ///
    /// Must be called within a Tokio runtime.
    pub fn uploaded(&self, writing: Option<Writing<S>>, upload: Upload) {
        let object = writing.and_then(|mut writing| writing.object.take());
        let Some(object) = object else { return self.0.give_up() };
        let mut state = lock(&self.0.state);
        match state.leave(&object) {
            true => self.0.give_up(),
            false => self.0.expect(&mut state, object, Arc::new(upload)),
        }
    }

    /// A file was renamed, or deleted, or is where nobody knows.
    pub fn gone(&self, user: &[u8], from: Option<&Place>, to: Option<&Place>) {
        let object = |place: &Place| self.0.directories.object(user, place);
        let (from, to) = (from.and_then(object), to.and_then(object));
        let mut state = lock(&self.0.state);
        if let Some(from) = &from {
            self.0.forget_below(&mut state, from);
        }
        let gone = from.and_then(|from| state.expected.remove(&from));
        if let Some(to) = &to {
            self.0.forget(&mut state, to);
        }
        match (gone, to) {
            (Some(gone), Some(to)) => self.0.expect(&mut state, to, gone.upload),
            (Some(_), None) => self.0.give_up(),
            (None, _) => {}
        }
        self.0.metrics.to_verify(state.expected.len());
    }

    /// Waits a while for what is still looked for.
    pub async fn finish(&self) {
        self.0.looking.close();
        if timeout(LAST, self.0.looking.wait()).await.is_err() {
            let expected = std::mem::take(&mut lock(&self.0.state).expected);
            for (object, Expected { upload, .. }) in expected {
                let reason = "this process ends".to_owned();
                self.0.judge(&object, &upload, &Found::Unasked(reason));
            }
        }
    }
}

impl<S> Clone for Verifier<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

// === impl Shared ===

impl<S: Sizes> Shared<S> {
    async fn look_for(&self, object: Object, expected: Expected) {
        let deadline = Instant::now() + self.wait;
        let mut pause = FIRST_PAUSE;
        let mut answer = None;
        loop {
            let is_last = Instant::now() >= deadline;
            let mut found = self.look(&object, &expected, deadline).await;
            let is_over = is_last || Instant::now() >= deadline || matches!(found, Found::Good);
            if !self.is_expected(&object, expected.number, is_over) {
                return;
            }
            if is_over {
                if let (Found::Unasked(_), Some((at, recent))) = (&found, answer)
                    && deadline.saturating_duration_since(at) <= RECENT
                {
                    found = recent;
                }
                return self.judge(&object, &expected.upload, &found);
            }
            if !matches!(found, Found::Unasked(_)) {
                answer = Some((Instant::now(), found));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks for it, if its turn comes before the deadline.
    async fn look(&self, object: &Object, expected: &Expected, deadline: Instant) -> Found {
        let Ok(_question) = timeout_at(deadline, self.questions.acquire()).await else {
            return Found::Unasked("S3 has kept too many other questions waiting".into());
        };
        match self.sizes.size(object).await {
            Ok(Some(size)) if size == expected.upload.bytes => Found::Good,
            Ok(Some(size)) => Found::OfSize(size),
            Ok(None) => Found::Nothing,
            Err(error) => Found::Unasked(told(&error)),
        }
    }

    fn judge(&self, object: &Object, upload: &Upload, found: &Found) {
        let Upload { session, bytes, .. } = *upload;
        let (user, path) = (one_line(&upload.user), one_line(&upload.path));
        let Object { bucket, key } = object;
        let key = one_line(key);
        match found {
            Found::Good => {}
            Found::OfSize(size) => error!(
                session, %user, %path, bytes, size, bucket, %key,
                "an upload got its 226, and its object has another size"
            ),
            Found::Nothing => error!(
                session, %user, %path, bytes, bucket, %key,
                "an upload got its 226, and there is no such object"
            ),
            Found::Unasked(reason) => warn!(
                session, %user, %path, bytes, bucket, %key, reason,
                "an upload cannot be verified"
            ),
        }
        self.metrics.verified(match found {
            Found::Good => Verification::Ok,
            Found::OfSize(_) => Verification::Mismatch,
            Found::Nothing => Verification::Missing,
            Found::Unasked(_) => Verification::Failed,
        });
    }

    /// Looks for an object from now on.
    fn expect(self: &Arc<Self>, state: &mut State, object: Object, upload: Arc<Upload>) {
        self.forget(state, &object);
        // Those that are expected no more end soon, but count till then.
        if self.looking.len() >= MOST {
            return self.metrics.verified(Verification::Dropped);
        }
        let new = Expected { upload, number: self.next.fetch_add(1, Ordering::Relaxed) };
        state.expected.insert(object.clone(), new.clone());
        self.metrics.to_verify(state.expected.len());
        let shared = Arc::clone(self);
        self.looking.spawn(async move { shared.look_for(object, new).await });
    }

    /// Looks for an object no more, if it was looked for.
    fn forget(&self, state: &mut State, object: &Object) {
        if state.expected.remove(object).is_some() {
            self.give_up();
            self.metrics.to_verify(state.expected.len());
        }
    }

    /// The same for what is below a directory that was renamed.
    fn forget_below(&self, state: &mut State, directory: &Object) {
        let is_below = |object: &Object| {
            let rest = object.key.strip_prefix(&*directory.key);
            object.bucket == directory.bucket && rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let before = state.expected.len();
        state.expected.retain(|object, _| !is_below(object));
        (state.expected.len()..before).for_each(|_| self.give_up());
    }

    /// Whether this is what an object still should be; if it `is_over`, it is not from now on.
    fn is_expected(&self, object: &Object, number: u64, is_over: bool) -> bool {
        let mut state = lock(&self.state);
        let is_this = state.expected.get(object).is_some_and(|it| it.number == number);
        if is_this && is_over {
            state.expected.remove(object);
            self.metrics.to_verify(state.expected.len());
        }
        is_this
    }

    /// Nobody will know of an upload.
    fn give_up(&self) {
        self.metrics.verified(Verification::Unknown);
    }
}

// === impl State, Writing ===

impl State {
    /// An upload writes an object no more. Says whether another did meanwhile.
    fn leave(&mut self, object: &Object) -> bool {
        let Some(writers) = self.written.get_mut(object) else { return false };
        writers.now -= 1;
        let overlapped = writers.overlapped;
        if writers.now == 0 {
            self.written.remove(object);
        }
        overlapped
    }
}

impl<S: Sizes> Drop for Writing<S> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            lock(&self.shared.state).leave(&object);
        }
    }
}

/// What went wrong, with what it takes.
fn told(error: &AwsError) -> String {
    match error.status() {
        // HEAD has no body, and so no code.
        Some(403) => {
            format!(
                "{error}: allow s3:GetObject, and s3:ListBucket, without which nobody can tell what is not there"
            )
        }
        Some(301) => format!("{error}: the bucket is in another region; set AWS_REGION"),
        _ => error.to_string(),
    }
}
