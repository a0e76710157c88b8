//! One probe of one endpoint, stage by stage: it tells how far it got, how long each stage took,
//! and why it went no further. When to probe, and what follows from it, is the upstream's business.

mod greeting;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::config::{self, Depth};
pub use crate::observe::metrics::Stage;

/// Probes endpoints as `[probe]` says.
#[derive(Debug)]
pub struct Prober {
    config: config::Probe,
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
    /// One line for the operator, without control characters and secrets.
    pub reason: String,
}

impl Prober {
    /// Does nothing yet; `node` is this node's name.
    pub fn new(config: &config::Probe, _node: &str) -> Self {
        Self { config: config.clone() }
    }

    /// Probes one endpoint, from `source` if there is one. Takes no longer than the time-outs of
    /// its stages together.
    pub async fn probe(&self, endpoint: SocketAddr, source: Option<IpAddr>) -> Report {
        let mut report = Report { stages: Vec::new(), failure: None };
        report.failure = self.stages(endpoint, source, &mut report.stages).await.err();
        report
    }

    async fn stages(
        &self,
        endpoint: SocketAddr,
        source: Option<IpAddr>,
        done: &mut Vec<(Stage, Duration)>,
    ) -> Result<(), Failure> {
        let stream = self.stage(Stage::Connect, greeting::connect(endpoint, source), done).await?;
        if self.config.depth >= Depth::Banner {
            self.stage(Stage::Banner, greeting::banner(&stream), done).await?;
            // So that the server's log shows an ordinary end.
            let _ = stream.try_write(b"QUIT\r\n");
        }
        Ok(())
    }

    /// One stage, within `probe.timeout`.
    async fn stage<T>(
        &self,
        stage: Stage,
        work: impl Future<Output = Result<T, String>>,
        done: &mut Vec<(Stage, Duration)>,
    ) -> Result<T, Failure> {
        let limit = self.config.timeout;
        let started = Instant::now();
        let result = timeout(limit, work).await;
        let result = result.unwrap_or_else(|_| Err(format!("nothing within {limit:?}")));
        match result {
            Ok(value) => {
                done.push((stage, started.elapsed()));
                Ok(value)
            }
            Err(reason) => Err(Failure { stage, reason }),
        }
    }
}
