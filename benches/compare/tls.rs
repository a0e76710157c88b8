//! Transfers through TLS, by curl. The gateway and mod_proxy end it and have a plain upstream; the
//! server that speaks TLS itself is vsftpd.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::harness::servers::PASSWORD;
use crate::load::{Direction, USER};
use crate::peers::Peer;
use crate::servers::Servers;

/// Seconds after which a transfer counts as hung.
const TIME_LIMIT: &str = "180";

/// Moves the file of that size, with TLS on control and data connections.
pub(crate) fn transfer(peer: &Peer, how: Direction, bytes: u64, servers: &Servers) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "--max-time", TIME_LIMIT, "--ssl-reqd", "--tlsv1.3", "--cacert"]);
    curl.arg(&servers.authority.file);
    // Without SIZE, which the sink has no answer to.
    curl.args(["--ignore-content-length", "-u", &format!("{USER}:{PASSWORD}")]);
    let url = |name: &str| format!("ftp://{}/{name}", peer.address);
    match how {
        Direction::Up => curl.arg("-T").arg(servers.file(bytes)).arg(url("by-curl")),
        Direction::Down => curl.args(["-o", "/dev/null", &url(&bytes.to_string())]),
    };
    let output = curl.output()?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
