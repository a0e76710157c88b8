//! What an upgrade of the package must be like, whichever package it is: under load, to a version that
//! does not take the configuration and to one that does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use super::CONFIGURATION;
use super::machine::Machine;
use crate::harness::ftp::Ftp;
use crate::harness::servers::Server;
use crate::harness::{bytes, eventually};
use crate::lab::client::Client;
use crate::lab::load::Load;
use crate::lab::record;
use crate::packages::version;

/// Transfers a second.
const PER_SECOND: u32 = 10;
/// So many before, between and after.
const MORE: usize = 20;
/// Of the long upload, in all and at a time.
const SIZE: usize = 3 << 20;
const PIECE: usize = 1 << 18;

/// Clients that come and go, and a session that stays, in the middle of an upload.
pub(super) struct UnderLoad {
    load: Load,
    client: Arc<Client>,
    session: Ftp,
    upload: TcpStream,
    content: Vec<u8>,
    sent: usize,
}

impl UnderLoad {
    /// The session goes to `gateway`.
    pub(super) fn start(client: &Arc<Client>, gateway: Ipv4Addr) -> Self {
        let (load, content) = (Load::start(client, PER_SECOND), bytes(7, SIZE));
        let (session, upload) = client.host.inside(|| {
            let mut session = Ftp::connect(SocketAddr::from((gateway, 21)));
            session.log_in_as("alice");
            let upload = session.begin("STOR long.bin");
            (session, upload)
        });
        Self { load, client: Arc::clone(client), session, upload, content, sent: 0 }
    }

    /// Waits for some complete transfers more. The upload goes on, too, or servers would end it.
    pub(super) fn go_on(&mut self) {
        self.upload.write_all(&self.content[self.sent..][..PIECE]).unwrap();
        self.sent += PIECE;
        let before = self.load.done();
        eventually("transfers", || (self.load.done() >= before + MORE).then_some(()));
    }

    /// Ends it all: nothing has failed.
    pub(super) fn end(mut self, endpoint: &Server) {
        self.go_on();
        self.upload.write_all(&self.content[self.sent..]).unwrap();
        self.upload.shutdown(Shutdown::Write).unwrap();
        self.upload.read_to_end(&mut Vec::new()).unwrap();
        self.session.reply().expect(&[226]);
        assert_eq!(endpoint.read("long.bin"), self.content);
        // A data connection of this session now comes to the other process.
        let (found, reply) = self.client.host.inside(|| self.session.download("RETR long.bin"));
        reply.expect(&[226]);
        assert_eq!(found, self.content);
        self.session.command("QUIT").expect(&[221]);
        let outcome = self.load.stop();
        assert_eq!(outcome.failures, []);
        record!(
            "{} transfers during upgrades, none failed, the longest {:?}",
            outcome.times.len(),
            outcome.times.iter().max().unwrap()
        );
    }
}

/// A version that does not take the configuration leaves the one before alone.
pub(super) fn refuse(machine: &Machine, install: &str) {
    let (before, good) = (machine.property("MainPID"), machine.ok(&format!("cat {CONFIGURATION}")));
    machine.write(CONFIGURATION, &format!("{good}\n[limits]\nsesions = 1\n"));
    let said = machine.ok(&format!("{install} 2>&1"));
    assert!(said.contains("the version before serves on"), "{said}");
    assert_eq!(machine.property("MainPID"), before);
    assert_eq!(machine.property("StatusText"), format!("serving, version {}", version(1)));
    machine.write(CONFIGURATION, &good);
}

/// The second version, which that installs, is what runs from then on, and nobody restarted anything.
pub(super) fn hand_over(machine: &Machine, install: &str) {
    let (before, restarts) = (machine.property("MainPID"), machine.property("NRestarts"));
    let started = Instant::now();
    machine.ok(install);
    record!("{} upgraded in {:?}", machine.host.place.name(), started.elapsed());
    let after = machine.property("MainPID");
    assert_ne!(before, after);
    let runs = machine.ok(&format!("readlink /proc/{after}/exe"));
    assert_eq!(runs, "/usr/bin/ftpgate", "the new file");
    assert_eq!(machine.ok("ftpgate --version"), format!("ftpgate {}", version(2)));
    assert_eq!(machine.property("StatusText"), format!("serving, version {}", version(2)));
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("NRestarts"), restarts, "{}", machine.journal());
}

/// systemd did not start the process that serves now, and yet looks after it.
pub(super) fn looks_after(machine: &Machine) {
    eventually("the old process to end", || (processes(machine) == 1).then_some(()));
    let restarts: u32 = machine.property("NRestarts").parse().unwrap();
    machine.ok("systemctl kill --signal=KILL --kill-whom=main ftpgate");
    restarted(machine, restarts + 1);
}

/// Waits until the service has been started again so often, and runs.
pub(super) fn restarted(machine: &Machine, times: u32) {
    eventually("a restart", || {
        let script = "systemctl show --value --property=NRestarts,ActiveState ftpgate | sort";
        (machine.ok(script) == format!("{times}\nactive")).then_some(())
    });
}

/// How many processes of the program there are.
pub(super) fn processes(machine: &Machine) -> usize {
    // Others end while they are looked at.
    let names = machine.ok("cat /proc/[0-9]*/comm 2>/dev/null || true");
    names.lines().filter(|name| *name == "ftpgate").count()
}
