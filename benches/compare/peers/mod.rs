//! What stands between clients and an upstream: ftpgate, and what else one could put there.

mod configuration;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::harness::certificates::{Authority, Certificate};
use crate::harness::process::Process;
use crate::harness::servers::Server;
use crate::harness::{PATIENCE, eventually, stand_in};
use crate::network::{Machines, Place, ROUTER};

/// The control port of all peers and upstreams.
pub(crate) const PORT: u16 = 2121;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// A wire to the upstream and nothing between.
    Direct,
    Ftpgate,
    Haproxy,
    /// With splicing in both directions, through pipes of 1 MiB.
    HaproxyTuned,
    Nginx,
    /// With buffers of 256 KiB.
    #[value(name = "nginx-256k")]
    Nginx256k,
    /// ProFTPD's, as a reverse proxy.
    ModProxy,
    /// The kernel's, with its FTP helper (nf_nat_ftp).
    Nat,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Ftpgate,
        Self::HaproxyTuned,
        Self::Haproxy,
        Self::Nginx256k,
        Self::Nginx,
        Self::ModProxy,
        Self::Nat,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ftpgate => "ftpgate",
            Self::Haproxy => "HAProxy",
            Self::HaproxyTuned => "HAProxy tuned",
            Self::Nginx => "nginx",
            Self::Nginx256k => "nginx 256k",
            Self::ModProxy => "mod_proxy",
            Self::Nat => "kernel NAT",
        }
    }
}

/// A running peer; dropping it ends it with all its processes.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    /// Its control port.
    pub(crate) address: SocketAddr,
    runs: Option<Runs>,
}

/// Whose processor time and memory count, and what it needs.
enum Runs {
    Alone(Process, TempDir, Option<Certificate>),
    Server(Server),
}

/// What a peer is started with.
struct Setup<'a> {
    address: Ipv4Addr,
    upstream: Ipv4Addr,
    /// What clients are shown, if they may ask for TLS.
    certificate: Option<&'a Certificate>,
    /// For its files.
    directory: &'a Path,
}

impl Peer {
    /// Starts one at an address of that number, and waits until it serves. If there is someone to issue
    /// a certificate it speaks TLS with clients, which only ftpgate and mod_proxy do.
    pub(crate) fn start(
        kind: Kind,
        number: u8,
        upstream: Ipv4Addr,
        authority: Option<&Authority>,
    ) -> Result<Self> {
        if kind == Kind::Direct {
            return Ok(Self::without_process(kind, upstream));
        }
        if kind == Kind::Nat {
            translate(upstream)?;
            return Ok(Self::without_process(kind, ROUTER));
        }
        let directory = TempDir::with_prefix("ftpgate-compare-").unwrap();
        let address = Machines::proxy(number);
        let certificate = authority.map(|it| it.issue(&[&address.to_string()]));
        let setup = Setup {
            address,
            upstream,
            certificate: certificate.as_ref(),
            directory: directory.path(),
        };
        let command = match kind {
            Kind::Direct | Kind::Nat => unreachable!("no process"),
            Kind::Ftpgate => setup.ftpgate(),
            Kind::Haproxy => setup.haproxy(false),
            Kind::HaproxyTuned => setup.haproxy(true),
            Kind::Nginx => setup.nginx(None),
            Kind::Nginx256k => setup.nginx(Some("256k")),
            Kind::ModProxy => setup.mod_proxy(),
        };
        let log = directory.path().join("log");
        let mut process = Process::start(kind.name(), &Place::Proxy.wrap(&command), &log);
        let address = SocketAddr::from((address, PORT));
        eventually("a peer's banner", || {
            assert!(process.is_running(), "{} has ended: {}", kind.name(), process.output());
            banner(address)
        });
        let runs = Some(Runs::Alone(process, directory, certificate));
        Ok(Self { kind, address, runs })
    }

    fn without_process(kind: Kind, ip: Ipv4Addr) -> Self {
        Self { kind, address: (ip, PORT).into(), runs: None }
    }

    /// Nothing between, and a server whose own cost counts.
    pub(crate) fn server(server: Server) -> Self {
        Self { kind: Kind::Direct, address: server.address, runs: Some(Runs::Server(server)) }
    }

    /// How many clients may log in at once. mod_proxy refuses some of several: its SQLite data base of
    /// backends is locked then.
    pub(crate) fn logins(&self) -> usize {
        if self.kind == Kind::ModProxy { 1 } else { 64 }
    }

    /// Its first process, if it has any.
    pub(crate) fn process(&self) -> Option<&Process> {
        match self.runs.as_ref()? {
            Runs::Alone(process, ..) => Some(process),
            Runs::Server(server) => Some(&server.process),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        match &mut self.runs {
            Some(Runs::Alone(process, ..)) => process.sigkill(),
            Some(Runs::Server(server)) => server.sigkill(),
            None => {}
        }
    }
}

impl Setup<'_> {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn ftpgate(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.args(["serve", "--config"]).arg(self.write("ftpgate.toml", &self.ftpgate_toml()));
        command
    }

    fn haproxy(&self, tuned: bool) -> Command {
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(self.write("haproxy.cfg", &self.haproxy_cfg(tuned)));
        command
    }

    fn nginx(&self, buffer: Option<&str>) -> Command {
        let module = stand_in("libnginx-mod-stream/usr/lib/nginx/modules/ngx_stream_module.so");
        let text = self.nginx_conf(&module, buffer);
        let mut command = Command::new(stand_in("nginx/usr/sbin/nginx"));
        command.args(["-e", "stderr", "-p"]).arg(self.directory);
        command.arg("-c").arg(self.write("nginx.conf", &text));
        command
    }

    fn mod_proxy(&self) -> Command {
        // It looks for modules in one directory only.
        for module in [
            "proftpd-mod-proxy/usr/lib/proftpd/mod_proxy.so",
            "proftpd-mod-crypto/usr/lib/proftpd/mod_tls.so",
        ] {
            let module = stand_in(module);
            symlink(&module, self.directory.join(module.file_name().unwrap())).unwrap();
        }
        let mut command = Command::new(stand_in("proftpd-core/usr/sbin/proftpd"));
        command.args(["--nodaemon", "--quiet", "--config"]);
        command.arg(self.write("proftpd.conf", &self.proftpd_conf()));
        command
    }
}

/// Has the router pass what it gets on to the upstream, or says why it cannot.
fn translate(upstream: Ipv4Addr) -> Result<()> {
    let rules = format!(
        "table ip compare\ndelete table ip compare\ntable ip compare {{\n\
         ct helper ftp {{ type \"ftp\" protocol tcp; }}\n\
         chain to {{ type nat hook prerouting priority dstnat; \
         ip daddr {ROUTER} tcp dport {PORT} dnat to {upstream}:{PORT}; }}\n\
         chain help {{ type filter hook prerouting priority filter; tcp dport {PORT} ct helper set \"ftp\"; }}\n\
         }}"
    );
    let output = Place::Router.wrap(Command::new("nft").arg(rules)).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Its first line, which only comes once the upstream's has, too.
fn banner(address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.starts_with("220").then_some(line)
}
