//! What TLS and ASCII type cost: one big file up and down, through the gateway and to servers that
//! speak TLS themselves. See benches/README.md.

// A bench that goes wrong may panic, and what it finds is to be printed.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::panic_in_result_fn,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unreachable,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/figures.rs"]
mod figures;
mod files;
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod report;
mod transfer;

use std::env;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use files::Files;
use harness::certificates::Authority;
use harness::ftp::Ftp;
use harness::gateway::Gateway;
use harness::process::Process;
use harness::servers::{Kind, Server};
use report::{Measured, Report};
use transfer::{Direction, Suite};

/// Uploads that hold all pipes the gateway may make: 24 large ones and 96 small ones.
const PIPES: usize = 24 + 96;
/// More than this makes a transfer bulk, which takes a pipe.
const BULK: usize = 128 * 1024;

/// One way to move the file.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'static str,
    address: SocketAddr,
    /// Whose processor time counts.
    process: &'a Process,
    user: &'static str,
    tls: bool,
    ascii: bool,
}

/// A gateway that has no pipe left, as all are in use by uploads that have come to a halt.
struct Pipeless {
    gateway: Gateway,
    halted: Vec<(Ftp, TcpStream)>,
}

impl Pipeless {
    fn before(server: &Server) -> Self {
        let gateway =
            Gateway::to(server).set("timeouts", "data_idle = \"1h\"\nidle = \"2h\"").start();
        let halted = (0..PIPES).map(|number| {
            let mut ftp = Ftp::login(gateway.address, server);
            let mut data = ftp.begin(&format!("STOR halted-{number}"));
            data.write_all(&vec![0; 2 * BULK]).unwrap();
            (ftp, data)
        });
        let halted = halted.collect();
        Self { gateway, halted }
    }

    /// Some servers end a transfer that has halted for too long.
    fn keep_alive(&mut self) {
        self.halted.iter_mut().for_each(|(_, data)| data.write_all(&[0]).unwrap());
    }
}

fn main() {
    let setting = |name: &str, default: u64| {
        env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (mib, rounds) = (setting("FTPGATE_BENCH_MIB", 512), setting("FTPGATE_BENCH_ROUNDS", 5));
    let suite = match &*env::var("FTPGATE_BENCH_TLS").unwrap_or_default() {
        "1.2" => Suite::Tls12,
        "" | "1.3" => Suite::Tls13,
        other => panic!("FTPGATE_BENCH_TLS must be 1.2 or 1.3, not {other}"),
    };
    let authority = Authority::new();
    let files = Files::new(mib);
    let serve = |kind: Kind| Server::options(kind).root(&files.root);
    let vsftpd = serve(Kind::Vsftpd).tls(&authority).start();
    let proftpd = serve(Kind::ProFtpd).tls(&authority).start();
    let upstream = serve(Kind::Vsftpd).start();
    let gateway =
        Gateway::to(&upstream).certified(&authority).listener("tls = \"optional\"").start();
    let mut pipeless = Pipeless::before(&upstream);
    let mut measured: Vec<Measured> = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for direction in Direction::BOTH {
            pipeless.keep_alive();
            for subject in subjects(&vsftpd, &proftpd, &gateway, &pipeless.gateway) {
                let cost = transfer::run(&subject, direction, suite, &authority.file, &files);
                report::add(&mut measured, &subject, direction, cost);
            }
        }
    }
    Report { suite, mib, rounds, measured }.publish();
}

/// In the order in which they take turns.
fn subjects<'a>(
    vsftpd: &'a Server,
    proftpd: &'a Server,
    gateway: &'a Gateway,
    pipeless: &'a Gateway,
) -> [Subject<'a>; 6] {
    let direct = |name, server: &'a Server| Subject {
        name,
        address: server.address,
        process: &server.process,
        user: server.kind.user(),
        tls: true,
        ascii: false,
    };
    let through = |name, gateway: &'a Gateway, tls, ascii| Subject {
        name,
        address: gateway.address,
        process: &gateway.process,
        user: Kind::Vsftpd.user(),
        tls,
        ascii,
    };
    [
        direct(report::VSFTPD, vsftpd),
        direct(report::PROFTPD, proftpd),
        through("ftpgate TLS", gateway, true, false),
        through(report::SPLICED, gateway, false, false),
        through(report::COPIED, pipeless, false, false),
        through("ftpgate ASCII", gateway, false, true),
    ]
}
