//! What is behind the peers: the bench's own sink and source, and vsftpd, whose files are in memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::certificates::Authority;
use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::servers::{Kind, Server};
use crate::network::{At, Place, SINK, VSFTPD, VSFTPD_TLS};
use crate::peers::PORT;
use crate::upstream::PASSIVE_PORTS;
use crate::wire::LINES;

/// All of them, and what they need.
pub(crate) struct Servers {
    pub(crate) authority: Authority,
    _sink: Process,
    _vsftpd: Server,
    /// What vsftpd serves: files whose names are their sizes. Logs, too: the last to go.
    root: TempDir,
}

impl Servers {
    /// Starts them with files of these sizes.
    pub(crate) fn start(sizes: &[u64]) -> Self {
        let root = TempDir::with_prefix_in("ftpgate-compare-", "/dev/shm").unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        sizes.iter().for_each(|&bytes| write_lines(&root.path().join(bytes.to_string()), bytes));
        let mut sink = Command::new(std::env::current_exe().unwrap());
        let address = SocketAddr::from((SINK, PORT));
        sink.args(["--upstream", &address.to_string()]);
        let log = root.path().join("sink.log");
        let mut sink = Process::start("the sink", &Place::Upstream.wrap(&sink), &log);
        eventually("the sink", || {
            assert!(sink.is_running(), "the sink has ended: {}", sink.output());
            TcpStream::connect(address).ok()
        });
        let authority = Authority::new();
        let vsftpd = vsftpd(VSFTPD, &root, None);
        Self { authority, _sink: sink, _vsftpd: vsftpd, root }
    }

    /// The file of that many bytes.
    pub(crate) fn file(&self, bytes: u64) -> PathBuf {
        self.root.path().join(bytes.to_string())
    }

    /// One more vsftpd with the same files, which demands TLS.
    pub(crate) fn tls(&self) -> Server {
        vsftpd(VSFTPD_TLS, &self.root, Some(&self.authority))
    }
}

fn vsftpd(address: Ipv4Addr, root: &TempDir, authority: Option<&Authority>) -> Server {
    let place = At(address);
    let ports = format!("{}-{}", PASSIVE_PORTS.start(), PASSIVE_PORTS.end());
    let server = Server::options(Kind::Vsftpd).inside(&place).passive(&ports).root(root.path());
    match authority {
        Some(authority) => server.tls(authority).start(),
        None => server.start(),
    }
}

fn write_lines(path: &Path, bytes: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut left = usize::try_from(bytes).unwrap();
    while left > 0 {
        let piece = left.min(LINES.len());
        file.write_all(&LINES[..piece]).unwrap();
        left -= piece;
    }
    file.flush().unwrap();
}
