//! Many clients: so many transfers a second, whether the earlier ones are over or not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::Client;

/// How long a transfer of the load may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A load that runs; dropping it ends it, too.
#[derive(Debug)]
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    outcome: Arc<Mutex<Outcome>>,
}

/// What has come of a load.
#[derive(Debug, Default, Clone)]
pub(crate) struct Outcome {
    /// How long each complete transfer took.
    pub(crate) times: Vec<Duration>,
    /// When each failed one had begun, and what went wrong.
    pub(crate) failures: Vec<(Instant, String)>,
}

impl Load {
    pub(crate) fn start(client: &Arc<Client>, per_second: u32) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let outcome = Arc::<Mutex<Outcome>>::default();
        let (client, end, shared) = (Arc::clone(client), Arc::clone(&ended), Arc::clone(&outcome));
        let thread = thread::spawn(move || {
            client.host.enter();
            let started = Instant::now();
            thread::scope(|scope| {
                for number in 0.. {
                    let next = started + Duration::from_secs(1) * number / per_second;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    if end.load(Ordering::Relaxed) {
                        break;
                    }
                    // A thread begins in the network of its parent.
                    scope.spawn(|| {
                        let began = Instant::now();
                        let result = client.transfer(LIMIT);
                        let mut outcome = shared.lock().unwrap();
                        match result {
                            Ok(time) => outcome.times.push(time),
                            Err(error) => outcome.failures.push((began, error)),
                        }
                    });
                }
            });
        });
        Self { ended, thread: Some(thread), outcome }
    }

    /// How many transfers are complete.
    pub(crate) fn done(&self) -> usize {
        self.outcome.lock().unwrap().times.len()
    }

    /// How many have failed.
    pub(crate) fn failed(&self) -> usize {
        self.outcome.lock().unwrap().failures.len()
    }

    /// Ends it, waits for what is under way, and tells what has come of all.
    pub(crate) fn stop(mut self) -> Outcome {
        self.join();
        self.outcome.lock().unwrap().clone()
    }

    fn join(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join();
    }
}
