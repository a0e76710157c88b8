//! The built `ftpgate` as a child process, with a configuration written for one test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::certificates::{Authority, Certificate};
use super::dns::Dns;
use super::namespace::{Namespace, Network as _};
use super::process::Process;
use super::servers::{Kind, Server};
use super::{PATIENCE, address, eventually};

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Its control port.
    pub(crate) address: SocketAddr,
    /// Where it listens; all addresses, if it does at all.
    bound: SocketAddr,
    http: SocketAddr,
    audit: PathBuf,
    /// What its clients are shown, if it speaks TLS.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) process: Process,
    /// What starts it.
    command: Command,
    /// How often it has been started.
    starts: u32,
    directory: TempDir,
}

/// A gateway about to be started.
#[derive(Debug)]
pub(crate) struct GatewayOptions<'a> {
    inside: Option<&'a Namespace>,
    everywhere: bool,
    /// Who issues its certificate, if it needs one.
    authority: Option<&'a Authority>,
    /// Lines of its first listener.
    listener: Vec<String>,
    /// More listeners: a port of its address, or an address, and lines.
    listeners: Vec<(String, String)>,
    /// Lines by section of the configuration.
    sections: BTreeMap<&'static str, Vec<String>>,
    /// Addresses or names, with their ports.
    endpoints: Vec<String>,
    environment: BTreeMap<String, String>,
    /// Instead of the built one.
    program: Option<PathBuf>,
    /// Ports of its address, at which sockets are opened for it.
    activated: Vec<u16>,
}

impl<'a> GatewayOptions<'a> {
    /// In another network.
    pub(crate) fn inside(mut self, namespace: &'a Namespace) -> Self {
        self.inside = Some(namespace);
        self
    }

    /// Listening at every address of its network, which had better be its own.
    pub(crate) fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self
    }

    /// With a certificate for its address and `::1`.
    pub(crate) fn certified(mut self, authority: &'a Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// A line of its listener, such as `active = false`.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener.push(line.into());
        self
    }

    /// One more listener, at that port of its address or at that address, with these lines.
    pub(crate) fn also_listening(mut self, at: &str, lines: &str) -> Self {
        self.listeners.push((at.into(), lines.into()));
        self
    }

    /// One more endpoint, tried after those before it.
    pub(crate) fn or_to(mut self, server: &Server) -> Self {
        self.endpoints.push(server.address.to_string());
        self
    }

    /// The same for whatever is at that address.
    pub(crate) fn or_to_address(mut self, endpoint: SocketAddr) -> Self {
        self.endpoints.push(endpoint.to_string());
        self
    }

    /// The same for whatever a name stands for.
    pub(crate) fn or_to_name(mut self, name: &str) -> Self {
        self.endpoints.push(name.into());
        self
    }

    /// The ports it announces; the nine of Transfer Family by default.
    pub(crate) fn passive(self, ports: &str) -> Self {
        self.set("passive", &format!("ports = \"{ports}\""))
    }

    /// A line of a section, such as `idle = "5s"` of `timeouts`.
    pub(crate) fn set(mut self, section: &'static str, line: &str) -> Self {
        self.sections.entry(section).or_default().push(line.into());
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// By the name of that program, which had better be the built one.
    pub(crate) fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.into());
        self
    }

    /// With sockets that are open before it starts, at that port of its address, as systemd passes
    /// them.
    pub(crate) fn activated(mut self, port: u16) -> Self {
        self.activated.push(port);
        self
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(self) -> Gateway {
        let mut gateway = self.start_only();
        gateway.wait_until_it_listens();
        gateway
    }

    /// Starts it.
    pub(crate) fn start_only(self) -> Gateway {
        let directory = TempDir::with_prefix("ftpgate-gateway-").unwrap();
        let host = self.inside.map_or_else(address::unused, |namespace| namespace.address);
        let host = IpAddr::from(host);
        let (listener, http) = (SocketAddr::new(host, 2121), SocketAddr::new(host, 9121));
        let audit = directory.path().join("audit.jsonl");
        let mut text = String::new();
        let certificate =
            self.authority.map(|authority| authority.issue(&[&host.to_string(), "::1"]));
        let settings = certificate.as_ref().map(Certificate::settings);
        let mut gateway = match settings {
            Some(settings) => self.set("tls", &settings),
            None => self,
        };
        gateway = gateway
            .set("http", &format!("address = \"{http}\""))
            .set("audit", &format!("path = \"{}\"", audit.display()));
        // All that there is, as what must not be told must not be told at any level.
        let log = gateway.sections.entry("log").or_default();
        if !log.iter().any(|line| line.starts_with("level")) {
            log.push("level = \"trace\"".into());
        }
        // A test whose servers record what they hear wants nobody else to talk to them.
        gateway.sections.entry("probe").or_insert_with(|| vec!["depth = \"off\"".into()]);
        let inside = |key, name| format!("{key} = \"{}\"", directory.path().join(name).display());
        let admin = vec![inside("socket", "admin.sock"), inside("state", "blocks.json")];
        gateway.sections.entry("admin").or_insert(admin);
        for (section, lines) in &gateway.sections {
            text += &format!("[{section}]\n{}\n", lines.join("\n"));
        }
        let bound = match gateway.everywhere {
            true => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listener.port()),
            false => listener,
        };
        text += &format!("[[listener]]\naddress = \"{bound}\"\n{}\n", gateway.listener.join("\n"));
        for (at, lines) in &gateway.listeners {
            let at = if at.contains(':') { at.clone() } else { format!("{host}:{at}") };
            text += &format!("[[listener]]\naddress = \"{at}\"\n{lines}\n");
        }
        for endpoint in &gateway.endpoints {
            text += &format!("[[upstream.endpoint]]\naddress = \"{endpoint}\"\n");
        }
        let configuration = directory.path().join("ftpgate.toml");
        fs::write(&configuration, text).unwrap();
        let built = PathBuf::from(env!("CARGO_BIN_EXE_ftpgate"));
        let program = gateway.program.as_ref().unwrap_or(&built);
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(configuration).envs(&gateway.environment);
        if let Some(namespace) = gateway.inside {
            command = namespace.wrap(&command);
        }
        let log = directory.path().join("log");
        let process = match gateway.activated.as_slice() {
            [] => Process::start("ftpgate", &command, &log),
            ports => {
                let mut python = Command::new("/usr/bin/python3");
                python.args(["-c", ACTIVATION, &host.to_string()]);
                python.args(ports.iter().map(u16::to_string)).arg("--");
                python.arg(command.get_program()).args(command.get_args());
                python.envs(&gateway.environment);
                Process::start("ftpgate", &python, &log)
            }
        };
        let (address, starts) = (listener, 1);
        Gateway { address, bound, http, audit, certificate, process, command, starts, directory }
    }
}

/// Opens sockets and becomes another program, as systemd does. Arguments: address, ports, --, command.
const ACTIVATION: &str = r#"
import os, socket, sys
split = sys.argv.index("--")
opened = []
for port in sys.argv[2:split]:
    opened.append(socket.create_server((sys.argv[1], int(port)), backlog=1024))
for number, one in enumerate(opened):
    os.dup2(os.dup(one.fileno()), 3 + number)
os.environ.update(LISTEN_FDS=str(len(opened)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[split + 1], sys.argv[split + 1:])
"#;

impl Gateway {
    /// A gateway before this server.
    pub(crate) fn to(server: &Server) -> GatewayOptions<'static> {
        Self::to_address(server.address)
    }

    /// A gateway before whatever is at that address.
    pub(crate) fn to_address(endpoint: SocketAddr) -> GatewayOptions<'static> {
        GatewayOptions {
            inside: None,
            everywhere: false,
            authority: None,
            listener: Vec::new(),
            listeners: Vec::new(),
            sections: BTreeMap::new(),
            environment: BTreeMap::new(),
            program: None,
            activated: Vec::new(),
            endpoints: vec![endpoint.to_string()],
        }
    }

    /// A gateway before whatever a name with a port stands for.
    pub(crate) fn to_name(endpoint: &str, dns: &Dns) -> GatewayOptions<'static> {
        let options = GatewayOptions {
            inside: None,
            everywhere: false,
            authority: None,
            listener: Vec::new(),
            listeners: Vec::new(),
            sections: BTreeMap::new(),
            environment: BTreeMap::new(),
            program: None,
            activated: Vec::new(),
            endpoints: vec![endpoint.into()],
        };
        options.set("dns", &format!("servers = [\"{}\"]", dns.address))
    }

    /// Waits for it, if it was started only.
    pub(crate) fn wait_until_it_listens(&mut self) {
        wait_until_it_listens(&mut self.process, self.bound);
    }

    /// Starts it again beside the one that runs.
    pub(crate) fn start_another(&mut self) -> Process {
        let log = self.directory.path().join(format!("log.{}", self.starts));
        self.starts += 1;
        Process::start("ftpgate", &self.command, &log)
    }

    /// Starts it again, and waits until that one serves, which is this one from then on; gives the one
    /// before.
    pub(crate) fn hand_over(&mut self) -> Process {
        let mut process = self.start_another();
        wait_until_it_listens(&mut process, self.bound);
        std::mem::replace(&mut self.process, process)
    }

    /// The file that it was started with.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.directory.path().join("ftpgate.toml")
    }

    /// The audit log so far.
    pub(crate) fn audit_text(&self) -> String {
        fs::read_to_string(&self.audit).unwrap_or_default()
    }

    /// Its lines, if they are JSON.
    pub(crate) fn audit(&self) -> Vec<Value> {
        self.audit_text()
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for so many audit lines; they are written off the data path.
    pub(crate) fn audit_lines(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} audit lines"), || {
            let lines = self.audit();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Waits for the audit line of that path.
    pub(crate) fn audit_line(&self, path: &str) -> Value {
        eventually(&format!("the audit line of {path}"), || {
            self.audit().into_iter().find(|line| line["path"] == path)
        })
    }

    /// Where its status page is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.http)
    }

    /// Sends a request to its HTTP port; the answer is to be read.
    pub(crate) fn ask(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// What its HTTP port answers to GET: the status and the body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: ftpgate\r\nConnection: close\r\n\r\n");
        let mut stream = self.ask(&request);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.into())
    }

    /// The value of one series, such as `ftpgate_sessions` or `ftpgate_logins_total{result="accepted"}`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let (status, metrics) = self.get("/metrics");
        assert_eq!(status, 200);
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series} in:\n{metrics}")).parse().unwrap()
    }

    /// What `/readyz` says: the status, and each endpoint as "address state sessions".
    pub(crate) fn endpoints(&self) -> (u16, Vec<String>) {
        let (status, body) = self.get("/readyz");
        let body: Value = serde_json::from_str(&body).unwrap();
        let show = |endpoint: &Value| {
            let text = |key: &str| endpoint[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("address"), text("state"), endpoint["sessions"])
        };
        (status, body["endpoints"].as_array().unwrap().iter().map(show).collect())
    }

    /// Waits until its log holds that.
    pub(crate) fn logs(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }

    /// Memory that it holds, in KiB.
    pub(crate) fn resident_kib(&self) -> i64 {
        self.status_kib("VmRSS:")
    }

    /// The same without the pages of its program.
    pub(crate) fn anonymous_kib(&self) -> i64 {
        self.status_kib("RssAnon:")
    }

    /// The most that it has held since [`Self::forget_peak`].
    pub(crate) fn peak_kib(&self) -> i64 {
        self.status_kib("VmHWM:")
    }

    /// Starts to look for the most anew (proc(5), clear_refs).
    pub(crate) fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }

    fn status_kib(&self, key: &str) -> i64 {
        let status = self.process.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many file descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Gives an order by the command line, such as `drain`: whether it is carried out, and what is
    /// printed.
    pub(crate) fn order(&self, order: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.args(order).arg("--config").arg(self.configuration());
        let output = command.output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(printed).unwrap())
    }

    /// Asks it to drain and end.
    pub(crate) fn sigterm(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to take up its file.
    pub(crate) fn sighup(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Kills it outright.
    pub(crate) fn sigkill(&mut self) {
        self.process.sigkill();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

fn wait_until_it_listens(process: &mut Process, at: SocketAddr) {
    eventually("the gateway to listen", || {
        assert!(process.is_running(), "ftpgate has ended: {}", process.output());
        process.output().contains(&format!("listening: {at}")).then_some(())
    });
}

/// Runs `test` with every server at once, each behind a gateway of its own.
pub(crate) fn with_every_server(test: impl Fn(&Server, &Gateway) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for kind in Kind::ALL {
            scope.spawn(move || {
                let server = Server::start(kind);
                test(&server, &Gateway::to(&server).start());
            });
        }
    });
}
