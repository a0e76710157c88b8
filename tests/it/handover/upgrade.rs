//! `ftpgate upgrade`: the program that stands at the node's path takes over.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{older, status};
use crate::harness::eventually;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};

/// A process that the tests did not start; dropping it kills it.
struct Adopted(Pid);

impl Drop for Adopted {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

impl Adopted {
    /// The one that serves.
    fn of(gateway: &Gateway) -> Self {
        let pid = status(gateway)["pid"].as_i64().unwrap();
        Self(Pid::from_raw(pid.try_into().unwrap()).unwrap())
    }
}

/// Puts a script where the program was.
fn replace(program: &Path, script: &str) {
    let new = program.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, program).unwrap();
}

#[test]
fn the_program_on_disk_takes_over_and_a_bad_one_does_not() {
    let server = Server::start(Kind::ProFtpd);
    let directory = TempDir::new().unwrap();
    let (program, built) = (directory.path().join("ftpgate"), env!("CARGO_BIN_EXE_ftpgate"));
    symlink(built, &program).unwrap();
    let mut gateway = Gateway::to(&server).program(&program).start();
    let mut session = Ftp::login(gateway.address, &server);
    let own = gateway.process.id();
    for (script, told) in [
        ("echo broken >&2; exit 3", "does not take the configuration: broken"),
        ("[ $1 = check ] || exit 7", "it ended (exit status: 7)"),
    ] {
        replace(&program, script);
        let (code, printed) = gateway.order(&["upgrade"]);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(told) && printed.contains("serves on"), "{printed}");
        session.upload("STOR still", b"still").expect(&[226]);
    }
    fs::remove_file(&program).unwrap();
    let (code, printed) = gateway.order(&["upgrade"]);
    assert!(code == Some(1) && printed.contains("cannot start"), "{printed}");

    // Its last words are heard, too.
    symlink(built, &program).unwrap();
    let good = fs::read_to_string(gateway.configuration()).unwrap();
    let taken = TcpListener::bind((gateway.address.ip(), 0)).unwrap();
    let taken = taken.local_addr().unwrap();
    let taken = format!("{good}\n[[listener]]\naddress = \"{taken}\"\n");
    fs::write(gateway.configuration(), taken).unwrap();
    let (code, printed) = gateway.order(&["upgrade"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("cannot listen on"), "{printed}");
    fs::write(gateway.configuration(), good).unwrap();

    let (code, printed) = gateway.order(&["upgrade"]);
    assert_eq!(code, Some(0), "{printed}");
    let new = Adopted::of(&gateway);
    let pid = new.0.as_raw_nonzero();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "version {version} (process {own}) has handed over to version {version} (process {pid})\n"
    );
    assert_eq!(printed, expected);
    assert_eq!(older(&gateway), 1);
    session.upload("STOR old", b"old").expect(&[226]);
    Ftp::login(gateway.address, &server).upload("STOR new", b"new").expect(&[226]);
    drop(session);
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    eventually("the old one to be gone", || (older(&gateway) == 0).then_some(()));

    // Nobody has sessions: the answer comes all the same, though the process ends at once.
    let (code, printed) = gateway.order(&["upgrade"]);
    assert_eq!(code, Some(0), "{printed}");
    let _newest = Adopted::of(&gateway);
    assert!(printed.starts_with(&format!("version {version} (process {pid}) has")), "{printed}");
    Ftp::login(gateway.address, &server).upload("STOR newest", b"newest").expect(&[226]);
}

#[test]
fn the_only_listener_may_move_and_nobody_listens_where_it_was() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = Gateway::to(&server).start();
    let mut session = Ftp::login(gateway.address, &server);
    let (was, is) = (gateway.address, SocketAddr::new(gateway.address.ip(), 2122));
    let text = fs::read_to_string(gateway.configuration()).unwrap();
    fs::write(gateway.configuration(), text.replace(&was.to_string(), &is.to_string())).unwrap();
    let (code, printed) = gateway.order(&["upgrade"]);
    assert_eq!(code, Some(0), "{printed}");
    let _new = Adopted::of(&gateway);
    let refused = TcpStream::connect(was).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    session.upload("STOR old", b"old").expect(&[226]);
    Ftp::login(is, &server).upload("STOR new", b"new").expect(&[226]);
}
