//! This node's own availability zone: told, or asked of the instance metadata service.

use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::aws::imds;
use crate::config;

/// How long to wait before the metadata service is asked again; twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// The zone, once it is known.
#[derive(Debug)]
pub(super) struct Zone {
    known: OnceLock<Arc<str>>,
    automatic: bool,
}

impl Zone {
    pub(super) fn new(config: &config::Zone) -> Self {
        let known = match config {
            config::Zone::Named(zone) => OnceLock::from(Arc::from(zone.as_str())),
            config::Zone::Auto | config::Zone::Unknown => OnceLock::new(),
        };
        Self { known, automatic: *config == config::Zone::Auto }
    }

    pub(super) fn get(&self) -> Option<Arc<str>> {
        self.known.get().cloned()
    }

    /// Asks until there is an answer; a zone does not change while an instance runs.
    pub(super) async fn learn(&self) {
        if !self.automatic {
            return pending().await;
        }
        let mut wait = RETRY_FIRST;
        loop {
            match imds::availability_zone().await {
                Ok(zone) => {
                    info!(zone, "this node's zone");
                    let _ = self.known.set(zone.into());
                    return;
                }
                Err(error) if wait == RETRY_FIRST => {
                    warn!(%error, "the instance metadata service does not tell this node's zone; no endpoint is preferred until it does");
                }
                Err(_) => {}
            }
            sleep(wait).await;
            wait = RETRY_LAST.min(wait * 2);
        }
    }
}
