//! A real balancer, as Debian has it.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{address, eventually};

/// HAProxy in TCP mode before one gateway: an address of its own with the gateway's ports.
#[derive(Debug)]
pub(crate) struct HaProxy {
    /// Where clients come to; its connections to the gateway leave from there, too.
    pub(crate) address: IpAddr,
    process: Process,
    directory: TempDir,
}

impl HaProxy {
    /// Takes an address; it has to be known before the gateway can be told whom to trust.
    pub(crate) fn new() -> Self {
        let directory = TempDir::with_prefix("ftpgate-haproxy-").unwrap();
        let process = Process::start("nobody", Command::new("true"), &directory.path().join("log"));
        Self { address: address::unused().into(), process, directory }
    }

    /// Starts it before this gateway, with a section for each port. `how` is what its servers have
    /// besides their address: `send-proxy` or `send-proxy-v2`.
    pub(crate) fn start(&mut self, gateway: SocketAddr, how: &str) -> SocketAddr {
        let (ip, to) = (self.address, gateway.ip());
        let section = |port: u16| {
            format!("listen port-{port}\n bind {ip}:{port}\n server gateway {to}:{port} {how}\n")
        };
        let ports = [gateway.port()].into_iter().chain(8192..=8200);
        self.run(gateway, &ports.map(section).collect::<String>())
    }

    /// The same in one section: connections go to the port that they have come to.
    pub(crate) fn start_short(&mut self, gateway: SocketAddr, how: &str) -> SocketAddr {
        let (ip, to, port) = (self.address, gateway.ip(), gateway.port());
        let section =
            format!("listen ftp\n bind {ip}:{port},{ip}:8192-8200\n server gateway {to} {how}\n");
        self.run(gateway, &section)
    }

    fn run(&mut self, gateway: SocketAddr, sections: &str) -> SocketAddr {
        let configuration = self.directory.path().join("haproxy.cfg");
        let ip = self.address;
        let text = format!(
            "global\n maxconn 500\ndefaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n \
             timeout server 60s\n source {ip}\n{sections}"
        );
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(&configuration);
        self.process = Process::start("haproxy", command, &self.directory.path().join("log"));
        let address = SocketAddr::new(ip, gateway.port());
        eventually("the balancer to listen", || {
            assert!(self.process.is_running(), "haproxy has ended: {}", self.process.output());
            TcpStream::connect(address).ok()
        });
        address
    }
}
