//! Gateways that probe fast, and what they tell of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::aws::{S3, directories};
use super::gateway::{Gateway, GatewayOptions};
use super::servers::{Kind, PASSWORD, Server};
use super::{PATIENCE, eventually};

/// A probe's stages in their order.
pub(crate) const STAGES: [&str; 8] =
    ["connect", "banner", "login", "list", "store", "arrive", "compare", "delete"];

impl GatewayOptions<'_> {
    /// The password of its probes, in the environment.
    pub(crate) fn probe_password(self, password: &str) -> Self {
        self.set("probe.password", "environment = \"PROBE_PASSWORD\"")
            .env("PROBE_PASSWORD", password)
    }
}

impl Gateway {
    /// A gateway before `endpoint` whose probes of that depth follow each other fast.
    pub(crate) fn probing(endpoint: SocketAddr, depth: &str) -> GatewayOptions<'static> {
        Self::to_address(endpoint)
            .set("probe", &format!("depth = \"{depth}\""))
            .set("probe", "interval = \"100ms\"\ntimeout = \"1s\"\nrise = 1\nfall = 1")
            .set("probe", &format!("user = \"{}\"", Kind::ApacheFtpServer.user()))
    }

    /// What `/readyz` says of an endpoint.
    fn endpoint(&self, address: SocketAddr) -> Value {
        let (_, body) = self.get("/readyz");
        let ready: Value = serde_json::from_str(&body).unwrap();
        let mut endpoints = ready["endpoints"].as_array().unwrap().iter();
        let found = endpoints.find(|endpoint| endpoint["address"] == address.to_string());
        found.unwrap_or_else(|| panic!("no endpoint {address} in {body}")).clone()
    }

    /// Waits until the endpoint is healthy; the stages of its latest probe, in their order.
    pub(crate) fn until_healthy(&self, endpoint: SocketAddr) -> Vec<&'static str> {
        let healthy = eventually(&format!("{endpoint} to be healthy"), || {
            Some(self.endpoint(endpoint)).filter(|endpoint| endpoint["state"] == "healthy")
        });
        let done = healthy["stages"].as_object().unwrap();
        STAGES.into_iter().filter(|stage| done.contains_key(*stage)).collect()
    }

    /// Waits until the endpoint is unhealthy for a reason with these words; the whole reason.
    pub(crate) fn until_unhealthy(&self, endpoint: SocketAddr, words: &str) -> String {
        let started = Instant::now();
        loop {
            let latest = self.endpoint(endpoint);
            let reason = latest["reason"].as_str().unwrap_or_default();
            if latest["state"] == "unhealthy" && reason.contains(words) {
                return reason.into();
            }
            assert!(started.elapsed() < PATIENCE, "not unhealthy for {words:?}, but {latest}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for so many more probes of that result.
    pub(crate) fn wait_for_probes(&self, endpoint: SocketAddr, result: &str, count: u32) {
        let before = self.probes(endpoint, result);
        eventually(&format!("{count} more probes: {result}"), || {
            (self.probes(endpoint, result) >= before + count).then_some(())
        });
    }

    /// How many probes had that result: a stage that failed, or ok.
    pub(crate) fn probes(&self, endpoint: SocketAddr, result: &str) -> u32 {
        let series =
            format!("ftpgate_probes_total{{endpoint=\"{endpoint}\",result=\"{result}\"}} ");
        let (_, metrics) = self.get("/metrics");
        // There is no such series before the first one.
        let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
        count.map_or(0, |count| count.parse().unwrap())
    }
}

/// A server, the bucket that it writes to, and a gateway that probes by round trip.
pub(crate) struct RoundTrip {
    pub(crate) base: TempDir,
    /// The directory that the bucket is.
    pub(crate) bucket: PathBuf,
    /// The one below it where the user starts.
    pub(crate) home: PathBuf,
    pub(crate) server: Server,
    pub(crate) s3: S3,
}

impl RoundTrip {
    /// Starts the servers.
    pub(crate) fn start() -> Self {
        let base = TempDir::with_prefix("ftpgate-bucket-").unwrap();
        let (bucket, home) = directories(&base, "bucket");
        let server = Server::options(Kind::ApacheFtpServer).root(&home).start();
        let s3 = S3::start(&bucket);
        Self { base, bucket, home, server, s3 }
    }

    /// A gateway that finds this S3, but nothing else of AWS.
    pub(crate) fn gateway(&self) -> GatewayOptions<'static> {
        self.gateway_for(&self.s3.bucket, "home/probe/")
    }

    /// The same with another bucket or prefix.
    pub(crate) fn gateway_for(&self, bucket: &str, prefix: &str) -> GatewayOptions<'static> {
        Gateway::probing(self.server.address, "round-trip")
            .probe_password(PASSWORD)
            .set("node", "name = \"node-a\"")
            .set("probe", "arrival = \"1s\"")
            .set("probe", &format!("bucket = \"{bucket}\"\nprefix = \"{prefix}\""))
            .env("AWS_ENDPOINT_URL_S3", format!("http://{}", self.s3.address))
    }
}
