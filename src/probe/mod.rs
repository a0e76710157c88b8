//! One probe of one endpoint, stage by stage: it tells how far it got, how long each stage took,
//! and why it went no further. When to probe, and what follows from it, is the upstream's business.
//!
//! | file | what it holds |
//! |---|---|
//! | `greeting` | the stages without a login |
//! | `session` | those that speak FTP: login, list, store |
//! | `password` | where the login's password comes from |
//! | `canary` | the file that a round trip sends, and its name |
//! | `bucket` | where the file arrives: arrive, compare, delete |

mod bucket;
mod canary;
mod greeting;
mod password;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::config::{self, Depth};
use crate::observe::log::one_line;
pub use crate::observe::metrics::Stage;
use crate::tls::UpstreamTls;
use bucket::Bucket;
use canary::{Canaries, Canary};
use password::Password;
use session::{LoginError, Session};

/// The longest reason, in characters.
const REASON: usize = 300;
/// How long an endpoint may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// Probes endpoints as `[probe]` says, several at once if asked to.
#[derive(Debug)]
pub struct Prober {
    config: config::Probe,
    password: Option<Password>,
    bucket: Option<Bucket>,
    canaries: Canaries,
}

/// What a probe has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The stages that went well, in order, and how long each took.
    pub stages: Vec<(Stage, Duration)>,
    /// Why the next one did not.
    pub failure: Option<Failure>,
}

/// Where a probe ended and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stage that failed.
    pub stage: Stage,
    /// One line for the operator, of at most 300 characters, without control characters and secrets.
    pub reason: String,
}

/// What one probe connects to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// Where connections leave from, if not where the kernel chooses.
    pub source: Option<IpAddr>,
    /// How they are encrypted, if they are; a session of its own.
    pub tls: Option<UpstreamTls>,
}

/// One probe under way.
struct Probe<'a> {
    prober: &'a Prober,
    target: Target,
    depth: Depth,
    done: Vec<(Stage, Duration)>,
}

impl Prober {
    /// Asks nobody anything; `node` is this node's name.
    pub fn new(config: &config::Probe, node: &str) -> Self {
        Self {
            // So that the last good password can still be used within the same stage.
            password: (config.password.as_ref())
                .map(|secret| Password::new(secret, config.timeout / 2)),
            bucket: config.bucket.as_ref().map(|bucket| Bucket::new(bucket, config.timeout)),
            canaries: Canaries::new(node),
            config: config.clone(),
        }
    }

    /// Probes one endpoint, that deep: mostly `probe.depth`.
    ///
    /// Each stage takes at most `probe.timeout`, and the arrival of the canary `probe.arrival`. A
    /// canary of a failed probe is deleted after that if it can be, for which there is twice
    /// `probe.timeout`. Dropped in the midst of a round trip, a probe leaves its canary to a later
    /// process's sweep.
    pub async fn probe(&self, target: Target, depth: Depth) -> Report {
        let mut probe = Probe { prober: self, target, depth, done: Vec::new() };
        let failure = probe.run().await.err();
        Report { stages: probe.done, failure }
    }
}

impl Probe<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        let connect = greeting::connect(self.target.endpoint, self.target.source);
        let stream = self.stage(Stage::Connect, connect).await?;
        match self.depth {
            Depth::Off | Depth::Tcp => Ok(()),
            Depth::Banner => {
                let tls = self.target.tls.clone();
                let banner = greeting::banner(stream, tls.as_ref());
                let mut wire = self.stage(Stage::Banner, banner).await?;
                let _ = timeout(GOODBYE, greeting::quit(&mut wire)).await;
                Ok(())
            }
            Depth::Login | Depth::List | Depth::RoundTrip => self.converse(stream).await,
        }
    }

    /// The stages that need a login.
    async fn converse(&mut self, stream: TcpStream) -> Result<(), Failure> {
        let target = self.target.clone();
        let mut session = self.stage(Stage::Banner, Session::greet(stream, &target)).await?;
        let outcome = self.logged_in(&mut session).await;
        let _ = timeout(GOODBYE, session.leave()).await;
        outcome
    }

    async fn logged_in(&mut self, session: &mut Session) -> Result<(), Failure> {
        let Prober { config, .. } = self.prober;
        let target = self.target.clone();
        self.stage(Stage::Login, log_in(self.prober, &target, session)).await?;
        if self.depth >= Depth::List {
            self.stage(Stage::List, session.list(&config.directory)).await?;
        }
        if self.depth >= Depth::RoundTrip {
            self.round_trip(session).await?;
        }
        Ok(())
    }

    /// Sends a canary, and deletes it whatever becomes of it.
    async fn round_trip(&mut self, session: &mut Session) -> Result<(), Failure> {
        let Prober { config, canaries, bucket, .. } = self.prober;
        let Some(bucket) = bucket else {
            let reason = "there is no probe.bucket".into();
            return Err(Failure { stage: Stage::Store, reason });
        };
        let canary = canaries.make();
        let outcome = self.round_trip_of(&canary, session, bucket).await;
        match outcome {
            Ok(()) => bucket.sweep(canaries, config.timeout).await,
            // What the FTP service has under that name may be elsewhere than in the bucket.
            Err(_) => {
                let _ = timeout(config.timeout, session.delete(&canary.name)).await;
                let _ = timeout(config.timeout, bucket.delete(&canary)).await;
            }
        }
        outcome
    }

    async fn round_trip_of(
        &mut self,
        canary: &Canary,
        session: &mut Session,
        bucket: &Bucket,
    ) -> Result<(), Failure> {
        let arrival = self.prober.config.arrival;
        self.stage(Stage::Store, session.store(&canary.name, &canary.content)).await?;
        let arrived = bucket.arrival(canary, arrival);
        // It keeps to its time itself, and then knows more than that it is over.
        let limit = arrival + self.prober.config.timeout;
        let arrived = self.stage_within(limit, Stage::Arrive, arrived).await?;
        self.stage(Stage::Compare, async { compare(&arrived, &canary.content) }).await?;
        self.stage(Stage::Delete, bucket.delete(canary)).await
    }

    /// One stage, within `probe.timeout`.
    async fn stage<T>(
        &mut self,
        stage: Stage,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Failure> {
        self.stage_within(self.prober.config.timeout, stage, work).await
    }

    async fn stage_within<T>(
        &mut self,
        limit: Duration,
        stage: Stage,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let result = timeout(limit, work).await;
        let result = result.unwrap_or_else(|_| Err(silence(stage, limit)));
        match result {
            Ok(value) => {
                self.done.push((stage, started.elapsed()));
                Ok(value)
            }
            Err(reason) => {
                let reason = one_line(&reason).chars().take(REASON).collect();
                Err(Failure { stage, reason })
            }
        }
    }
}

/// Logs in. A refused password is read again, and if it is another one by now, tried once.
async fn log_in(prober: &Prober, target: &Target, session: &mut Session) -> Result<(), String> {
    let refused = || "530: it refuses the user or the password: see probe.user".to_owned();
    let Some(source_of_password) = &prober.password else {
        return Err("there is no [probe.password]".into());
    };
    let user = &prober.config.user;
    let password = source_of_password.get().await?;
    match session.log_in(user, password.expose_secret()).await {
        Ok(()) => return Ok(()),
        Err(LoginError::Failed(reason)) => return Err(reason),
        Err(LoginError::Refused) => {}
    }
    let password = source_of_password.other_than(&password).await.ok_or_else(refused)?;
    // Some servers close the connection after a refused login.
    let stream = greeting::connect(target.endpoint, target.source).await?;
    let fresh = Session::greet(stream, target).await?;
    let _ = timeout(GOODBYE, std::mem::replace(session, fresh).leave()).await;
    match session.log_in(user, password.expose_secret()).await {
        Ok(()) => Ok(()),
        Err(LoginError::Failed(reason)) => Err(reason),
        Err(LoginError::Refused) => Err(refused()),
    }
}

/// Why a stage's time is over.
fn silence(stage: Stage, limit: Duration) -> String {
    match stage {
        Stage::Connect => format!("no answer to the connection attempt within {limit:?}"),
        Stage::Banner => format!("nothing within {limit:?}"),
        Stage::Login => format!("no login within {limit:?}"),
        Stage::List => format!("no listing, or no end of it, within {limit:?}"),
        Stage::Store => format!("the upload was not done within {limit:?}"),
        Stage::Arrive | Stage::Compare | Stage::Delete => {
            format!("S3 did not answer within {limit:?}")
        }
    }
}

fn compare(arrived: &[u8], sent: &[u8]) -> Result<(), String> {
    if arrived == sent {
        return Ok(());
    }
    let same = arrived.iter().zip(sent).take_while(|(one, other)| one == other).count();
    Err(format!(
        "what arrived differs from what was sent, from byte {same} on: {} bytes instead of {}",
        match arrived.len() {
            more if more > sent.len() => format!("more than {}", sent.len()),
            count => count.to_string(),
        },
        sent.len()
    ))
}
