//! `ftpgate demo`: the whole picture in one process on one Linux machine, without root or AWS.
//!
//! ```text
//! client ──▶ gateway A 127.0.1.1 ─┬─▶ endpoint a 127.0.3.1 ─┬─▶ one directory
//!        ──▶ gateway C 127.0.2.1 ─┴─▶ endpoint c 127.0.4.1 ─┘
//! ```
//!
//! The addresses stand for the four subnets of a VPC: two for gateways, two for endpoints, one of
//! each in zones a and c. Each gateway prefers the endpoint of its own zone and takes the other
//! when that is gone.

mod endpoint;
mod self_test;

use std::time::Duration;

/// The demo's one user.
pub const USER: &str = "demo";
/// The user's password.
pub const PASSWORD: &str = "demo";

/// What the demo has to tell.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step of the self-test is over.
    Step(Step),
    /// All steps of the self-test are over.
    Summary {
        /// How many there were.
        steps: usize,
        /// How many of them failed.
        failed: usize,
        /// From the first to the last.
        took: Duration,
    },
}

/// A step of the self-test.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    #[tokio::test]
    async fn direct() {
        let dir = tempfile::tempdir().unwrap();
        let eps = ["127.0.3.1:0", "127.0.4.1:0"].map(|a| endpoint::Endpoint::start(a.parse().unwrap(), "ready", dir.path()).unwrap());
        let doors = [0,1].map(|i| self_test::Door { name: ["gateway A","gateway C"][i], address: eps[i].address(), passive_ports: endpoint::PASSIVE_PORTS });
        self_test::run(&doors, eps, &mut |e| println!("{e:?}")).await.unwrap();
    }
}
