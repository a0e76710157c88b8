//! The gateway as its users run it: the built binary with a configuration file.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use tempfile::TempDir;

use super::ftp::http_get;
use super::process::Process;
use super::{CONTROL_PORT, own_address, wait_for};

/// The port of health and metrics.
const HTTP_PORT: u16 = 9121;

/// A gateway that is about to be started.
pub struct Setup {
    ip: Ipv4Addr,
    endpoints: Vec<SocketAddr>,
    /// Lines of further tables, or of `[upstream]`.
    upstream: String,
    tables: String,
}

/// A running gateway.
pub struct Gateway {
    ip: Ipv4Addr,
    // Dropped before the directory that its log is in.
    process: Process,
    work: TempDir,
}

/// A gateway before this endpoint, on an address of its own, with Transfer Family's nine ports.
pub fn before(endpoint: SocketAddr) -> Setup {
    Setup {
        ip: own_address(),
        endpoints: vec![endpoint],
        upstream: String::new(),
        tables: String::new(),
    }
}

impl Setup {
    /// One more endpoint.
    pub fn or(mut self, endpoint: SocketAddr) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// A line of `[upstream]`.
    pub fn upstream(mut self, line: &str) -> Self {
        let _ = writeln!(self.upstream, "{line}");
        self
    }

    /// A table with its lines.
    pub fn table(mut self, text: &str) -> Self {
        let _ = writeln!(self.tables, "{text}");
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Gateway {
        let (ip, work) = (self.ip, tempfile::tempdir().unwrap());
        let audit = work.path().join("audit.log");
        let mut text = format!(
            "[[listener]]\naddress = \"{ip}:{CONTROL_PORT}\"\n\n[http]\naddress = \"{ip}:{HTTP_PORT}\"\n\n\
             [audit]\npath = \"{}\"\n\n[log]\nlevel = \"debug\"\n\n[upstream]\n{}\n",
            audit.display(),
            self.upstream
        );
        for endpoint in &self.endpoints {
            let _ = writeln!(text, "[[upstream.endpoint]]\naddress = \"{endpoint}\"");
        }
        text += &self.tables;
        let config = work.path().join("ftpgate.toml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.arg("serve").arg("--config").arg(&config);
        let mut process = Process::start(&mut command, &work.path().join("gateway.log"));
        wait_for("the gateway", || {
            process.must_run();
            process.log().contains("listening: ").then_some(())
        });
        Gateway { ip, work, process }
    }
}

impl Gateway {
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub fn address(&self) -> SocketAddr {
        (self.ip, CONTROL_PORT).into()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn audit_path(&self) -> PathBuf {
        self.work.path().join("audit.log")
    }

    /// The audit lines so far.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.audit_path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for an audit line that is as wanted.
    pub fn audit_line(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        wait_for("an audit line", || self.audit().into_iter().find(&wanted))
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get((self.ip, HTTP_PORT).into(), path)
    }

    /// The value of one series of /metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    pub fn proc(&self, file: &str) -> String {
        self.process.proc(file)
    }
}
