//! Prometheus and its promtool, as Debian has them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{PATIENCE, address, eventually, stand_in};

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Scrapes these nodes of a pair twice a second, and has these rule files, which are told by
    /// their text.
    pub(crate) fn start(nodes: &[SocketAddr], rules: &[&str]) -> Self {
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
        let address = SocketAddr::from((address::unused(), 9090));
        let mut command = Command::new(stand_in("prometheus/usr/bin/prometheus"));
        command
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let mut process = Process::start("prometheus", command, &directory.path().join("log"));
        eventually("Prometheus to listen", || {
            assert!(process.is_running(), "it has ended: {}", process.output());
            TcpStream::connect(address).ok()
        });
        Self { address, _process: process, _directory: directory }
    }

    /// "data" of what its API answers.
    pub(crate) fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
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

    /// The firing alerts: name, and instance or pair.
    pub(crate) fn firing(&self) -> Vec<(String, String)> {
        let alerts = self.get("alerts");
        let firing = alerts["alerts"].as_array().into_iter().flatten();
        let firing = firing.filter(|alert| alert["state"] == "firing").map(|alert| {
            let label = |name: &str| alert["labels"][name].as_str().map(str::to_owned);
            let whose = label("instance").or_else(|| label("pair")).unwrap_or_default();
            (label("alertname").unwrap_or_default(), whose)
        });
        firing.collect()
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
