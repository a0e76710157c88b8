//! Prometheus and its promtool, as Debian has them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::namespace::Network;
use super::process::Process;
use super::{PATIENCE, address, eventually, stand_in};

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus<'a> {
    address: SocketAddr,
    network: Option<&'a dyn Network>,
    _process: Process,
    _directory: TempDir,
}

impl<'a> Prometheus<'a> {
    /// Scrapes these nodes of a pair twice a second, and has these rule files, which are told by
    /// their text. It runs in that network, or in that of the tests.
    pub(crate) fn start(
        network: Option<&'a dyn Network>,
        nodes: &[SocketAddr],
        rules: &[&str],
    ) -> Self {
        let directory = TempDir::with_prefix("ftpgate-prometheus-").unwrap();
        let mut files = Vec::new();
        for (number, text) in rules.iter().enumerate() {
            let file = format!("{number}.yml");
            fs::write(directory.path().join(&file), text).unwrap();
            files.push(file);
        }
        let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        let configuration = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: {files:?}\n\
             scrape_configs:\n  - job_name: ftpgate\n    static_configs:\n      \
             - {{ targets: {nodes:?}, labels: {{ pair: ftp }} }}\n"
        );
        fs::write(&configuration, text).unwrap();
        let ip = network.map_or_else(address::unused, Network::address);
        let address = SocketAddr::from((ip, 9090));
        let mut command = Command::new(stand_in("prometheus/usr/bin/prometheus"));
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        if let Some(network) = network {
            command = network.wrap(&command);
        }
        let mut process = Process::start("prometheus", &command, &directory.path().join("log"));
        eventually("Prometheus to listen", || {
            assert!(process.is_running(), "it has ended: {}", process.output());
            connect(network, address).ok()
        });
        Self { address, network, _process: process, _directory: directory }
    }

    /// "data" of what its API answers.
    pub(crate) fn get(&self, path: &str) -> Value {
        let mut stream = connect(self.network, self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // By HTTP/1.0 an answer comes in one piece.
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        // While it starts, it says so in plain text.
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        answer["data"].clone()
    }

    /// The firing alerts, sorted: name, and instance or pair.
    pub(crate) fn firing(&self) -> Vec<(String, String)> {
        let alerts = self.get("alerts");
        let firing = alerts["alerts"].as_array().into_iter().flatten();
        let firing = firing.filter(|alert| alert["state"] == "firing").map(|alert| {
            let label = |name: &str| alert["labels"][name].as_str().map(str::to_owned);
            let whose = label("instance").or_else(|| label("pair")).unwrap_or_default();
            (label("alertname").unwrap_or_default(), whose)
        });
        let mut firing: Vec<_> = firing.collect();
        firing.sort_unstable();
        firing
    }

    /// Whether it can scrape exactly these nodes.
    pub(crate) fn has_up(&self, nodes: &[(SocketAddr, bool)]) -> bool {
        let answer = self.get("query?query=up");
        let result = answer["result"].as_array().cloned().unwrap_or_default();
        let is = |(node, up): &(SocketAddr, bool)| {
            let value = if *up { "1" } else { "0" };
            result.iter().any(|series| {
                series["metric"]["instance"] == node.to_string() && series["value"][1] == value
            })
        };
        result.len() == nodes.len() && nodes.iter().all(is)
    }

    /// Waits until every rule has been evaluated and these alerts fire, and no others.
    pub(crate) fn wait_for(&self, alerts: &[(&str, &str)]) {
        eventually(&format!("{alerts:?} to fire, alone"), || {
            let firing = self.firing();
            let firing = firing.iter().map(|(name, whose)| (&**name, &**whose));
            let as_expected = firing.eq(alerts.iter().copied());
            let rules = self.rules();
            let all = !rules.is_empty() && rules.iter().all(|[_, health, _]| health != "unknown");
            (as_expected && all).then_some(())
        });
    }

    /// Panics if a rule could not be evaluated.
    pub(crate) fn expect_healthy_rules(&self) {
        for [name, health, error] in self.rules() {
            assert_eq!(health, "ok", "{name}: {error}");
        }
    }

    /// Every rule: its name, its health (`unknown` until it has been evaluated) and its trouble.
    pub(crate) fn rules(&self) -> Vec<[String; 3]> {
        let rules = self.get("rules");
        let groups = rules["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.map(|rule| ["name", "health", "lastError"].map(|key| text(rule, key))).collect()
    }
}

fn connect(network: Option<&dyn Network>, to: SocketAddr) -> io::Result<TcpStream> {
    network.map_or_else(|| TcpStream::connect(to), |network| network.connect(to))
}

/// The alerts as they are, but that nobody waits minutes for one.
pub(crate) fn hasty_rules() -> String {
    let rules = fs::read_to_string(shipped("prometheus/ftpgate.rules.yml")).unwrap();
    let is_wait = |line: &str| line.trim_start().starts_with("for: ");
    let hasty = |line| if is_wait(line) { "        for: 1s\n".into() } else { format!("{line}\n") };
    rules.lines().map(hasty).collect()
}

/// Runs promtool and panics if it finds fault. It always says what it found on standard error.
#[track_caller]
pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let output = Command::new(stand_in("prometheus/usr/bin/promtool"))
        .args(arguments)
        .current_dir(shipped("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut promtool| {
            promtool.stdin.take().unwrap().write_all(input.as_bytes())?;
            promtool.wait_with_output()
        })
        .unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {printed}");
    // What it does not like in metrics it says, and is content all the same.
    assert!(arguments != ["check", "metrics"] || printed.is_empty(), "{printed}");
}

/// A file that comes with ftpgate, under `config`.
pub(crate) fn shipped(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config")).join(path)
}
