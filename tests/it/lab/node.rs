//! A gateway of a lab: the built binary on one of its hosts, as the manual would have it set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use super::http::{Answer, request};
use super::network::{Host, Place};
use super::{BUCKET, NAME, Setup, cloudwatch, moto, s3};
use crate::harness::aws::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::harness::eventually;
use crate::harness::namespace::Network;
use crate::harness::process::Process;

pub(crate) const HTTP_PORT: u16 = 9121;

/// A gateway, running or killed.
#[derive(Debug)]
pub(crate) struct Node {
    host: Host,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    /// How often it has been started.
    starts: u32,
    process: Option<Process>,
}

impl Node {
    /// Writes its configuration under `directory` and starts it; `ha` are the tables that the modes
    /// do not share, with `[ha]` first.
    pub(crate) fn start(host: &Host, directory: &Path, ha: &str, setup: &Setup<'_>) -> Self {
        let directory = directory.join(host.place.name());
        std::fs::create_dir(&directory).unwrap();
        let text = (setup.edit)(&directory, configuration(host.place, &directory, ha));
        std::fs::write(directory.join("ftpgate.toml"), text).unwrap();
        let environment = (setup.environment)(&directory);
        let mut node =
            Self { host: host.clone(), directory, environment, starts: 0, process: None };
        node.restart();
        node
    }

    /// Starts it again after [`Node::sigkill`], and waits until it listens.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "{:?} runs already", self.host.place);
        self.start_another();
    }

    /// Has a new process take over, and waits until it serves; gives the one before.
    pub(crate) fn hand_over(&mut self) -> Process {
        let before = self.process.take().expect("it runs");
        self.start_another();
        before
    }

    fn start_another(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.arg("serve").arg("--config").arg(self.configuration());
        command
            .envs(environment())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.starts += 1;
        let log = self.directory.join(format!("log.{}", self.starts));
        let mut process = Process::start(self.host.place.name(), &self.host.wrap(&command), &log);
        eventually("a gateway to listen", || {
            assert!(process.is_running(), "it has ended: {}", process.output());
            process.output().contains("listening: 0.0.0.0:21").then_some(())
        });
        self.process = Some(process);
    }

    /// Kills it outright.
    pub(crate) fn sigkill(&mut self) {
        self.process.take().expect("it runs").sigkill();
    }

    /// Asks it to end, waits for that, and tells whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::TERM);
        process.wait().success()
    }

    /// Its process.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A metric without labels; nothing if it does not answer.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics([name]).map(|[value]| value)
    }

    /// Several at one time.
    pub(crate) fn metrics<const N: usize>(&self, names: [&str; N]) -> Option<[f64; N]> {
        let text = self.get("/metrics")?.body;
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        };
        let values: Vec<f64> = names.into_iter().map_while(value).collect();
        values.try_into().ok()
    }

    /// What its HTTP port answers, asked on its own host; nothing if it does not.
    pub(crate) fn get(&self, path: &str) -> Option<Answer> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
        self.host.inside(|| request(to, "GET", path, &[], &[])).ok()
    }

    /// Whether `/activez` says 200.
    pub(crate) fn is_active(&self) -> bool {
        self.get("/activez").is_some_and(|answer| answer.status == 200)
    }

    /// Whether `/readyz` says 200.
    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|answer| answer.status == 200)
    }

    /// Whether new clients get 421.
    pub(crate) fn is_refusing(&self) -> bool {
        let report = self.report();
        let checks = report["checks"].as_array().expect("a report");
        checks.iter().any(|check| check["name"] == "draining" && check["ok"] == false)
    }

    /// What `/readyz` says of the pair: "role", "generation" and so on.
    pub(crate) fn report(&self) -> Value {
        let answer = self.get("/readyz");
        answer.map_or(Value::Null, |answer| serde_json::from_str(&answer.body).unwrap())
    }

    /// Runs a subcommand on its host with its configuration.
    pub(crate) fn ftpgate(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.args(arguments).arg("--config").arg(self.configuration());
        self.host.wrap(&command).output().unwrap()
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("ftpgate.toml")
    }
}

/// How a gateway finds AWS.
pub(super) fn environment() -> [(&'static str, String); 9] {
    let endpoint = |port| format!("http://{}:{port}", Place::Aws.address());
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
        ("AWS_REGION", REGION.into()),
        ("AWS_CONFIG_FILE", "/dev/null".into()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("AWS_ENDPOINT_URL", endpoint(moto::PORT)),
        ("AWS_ENDPOINT_URL_S3", endpoint(s3::PORT)),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", endpoint(cloudwatch::PORT)),
    ]
}

/// The file of a gateway whose socket and logs are in `directory`.
pub(super) fn configuration(place: Place, directory: &Path, ha: &str) -> String {
    let (name, zone, peer) = (place.name(), place.zone(), place.other().address());
    let endpoints: String = [place.endpoint(), place.endpoint().other()]
        .map(|endpoint| {
            let (address, zone) = (endpoint.address(), endpoint.zone());
            format!("[[upstream.endpoint]]\naddress = \"{address}:21\"\nzone = \"{zone}\"\n")
        })
        .concat();
    format!(
        r#"[node]
name = "{name}"
zone = "{zone}"
[[listener]]
address = "0.0.0.0:21"
[passive]
ports = "8192-8200"
[upstream]
connect_timeout = "500ms"
lost_after = "2s"
retry_after = "1s"
{endpoints}
[dns]
servers = ["{resolver}:53"]
[probe]
depth = "banner"
interval = "1s"
timeout = "500ms"
[http]
address = "0.0.0.0:{HTTP_PORT}"
[admin]
socket = "{directory}/admin.sock"
[audit]
path = "{directory}/audit.jsonl"
[log]
level = "debug"
{ha}"#,
        resolver = Place::Aws.address(),
        directory = directory.display(),
    )
    .replace("{NAME}", NAME)
    .replace("{BUCKET}", BUCKET)
    .replace("{PEER}", &format!("{peer}:{HTTP_PORT}"))
}
