//! A real balancer, as Debian has it.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use super::eventually;
use super::process::Process;

/// HAProxy in TCP mode before one gateway, with that gateway's ports at an address of its own, from
/// which its connections to the gateway leave, too.
#[derive(Debug)]
pub(crate) struct HaProxy {
    /// Its control port.
    pub(crate) address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl HaProxy {
    /// With a section for each port. `how` is what its servers have besides their address:
    /// `send-proxy` or `send-proxy-v2`.
    pub(crate) fn start(ip: IpAddr, gateway: SocketAddr, how: &str) -> Self {
        let to = gateway.ip();
        let section = |port: u16| {
            format!("listen port-{port}\n bind {ip}:{port}\n server gateway {to}:{port} {how}\n")
        };
        let ports = [gateway.port()].into_iter().chain(8192..=8200);
        Self::run(ip, gateway, &ports.map(section).collect::<String>())
    }

    /// As README.md has it: one section, whose connections go to the port that they have come to,
    /// with a health check at the gateway's HTTP port.
    pub(crate) fn start_short(ip: IpAddr, gateway: SocketAddr, how: &str) -> Self {
        let (to, port) = (gateway.ip(), gateway.port());
        let section = format!(
            "listen ftp\n bind {ip}:{port},{ip}:8192-8200\n option httpchk GET /activez\n \
             server gateway {to} {how} check port 9121 inter 200ms\n"
        );
        Self::run(ip, gateway, &section)
    }

    fn run(ip: IpAddr, gateway: SocketAddr, sections: &str) -> Self {
        let directory = TempDir::with_prefix("ftpgate-haproxy-").unwrap();
        let configuration = directory.path().join("haproxy.cfg");
        let text = format!(
            "global\n maxconn 500\ndefaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n \
             timeout server 60s\n source {ip}\n{sections}"
        );
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(&configuration);
        let mut process = Process::start("haproxy", &command, &directory.path().join("log"));
        let address = SocketAddr::new(ip, gateway.port());
        eventually("the balancer to listen", || {
            assert!(process.is_running(), "haproxy has ended: {}", process.output());
            TcpStream::connect(address).ok()
        });
        Self { address, _process: process, _directory: directory }
    }
}
