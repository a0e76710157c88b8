//! What is done through the peers, and what each of them takes for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::load::{self, Direction, Job, Session};
use crate::peers::{Kind, Peer};
use crate::results::{
    CPU_FILE, CPU_GIB, CPU_SESSION, FILES, Figure, MACHINE_GIB, P50, P99, SESSIONS, THROUGHPUT,
    TRANSLATED, Values,
};
use crate::servers::Servers;
use crate::tls;
use crate::usage::{Usage, measure};

/// A small file.
pub(crate) const SMALL: u64 = 10 * 1024;
/// A file that is bulk for a while only.
const MEDIUM: u64 = 1 << 20;
/// After which something counts as hung.
const PATIENCE: Duration = Duration::from_secs(180);
const GIB: f64 = (1_u64 << 30) as f64;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Bytes of bulk, of all sessions together.
    pub(crate) bulk: u64,
    /// The same where it is slow: TLS, ASCII, files.
    pub(crate) slow_bulk: u64,
    /// Of what goes on for a time.
    pub(crate) time: Duration,
    pub(crate) noops: usize,
    /// Sessions that are idle, and those that are at work beside them.
    pub(crate) crowd: usize,
    pub(crate) active: usize,
    /// The same where each session is a process.
    pub(crate) forked_crowd: usize,
    pub(crate) forked_active: usize,
    /// From the end of a crowd until memory must have been given back.
    pub(crate) settle: Duration,
}

/// One thing to do.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) behind: Behind,
    pub(crate) peers: &'static [Kind],
    pub(crate) work: Work,
}

/// What is behind the peers, and how they are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    Sink,
    /// Who has nothing between is before a vsftpd that speaks TLS itself.
    SinkWithTls,
    Vsftpd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Bulk {
        how: Direction,
        sessions: usize,
    },
    /// One small or medium file after another.
    Files {
        how: Direction,
        sessions: usize,
        bytes: u64,
    },
    Churn {
        clients: usize,
    },
    Noop,
    /// See `crowd`.
    Crowd,
    Ascii {
        how: Direction,
    },
    /// By curl, which speaks TLS.
    Tls {
        how: Direction,
    },
    /// Files of a server that has files.
    Vsftpd {
        how: Direction,
    },
}

const SOME: &[Kind] = &[Kind::Direct, Kind::Ftpgate, Kind::HaproxyTuned, Kind::ModProxy];
const SPEAK_TLS: &[Kind] = &[Kind::Direct, Kind::Ftpgate, Kind::ModProxy];

macro_rules! workload {
    ($name:literal, $about:literal, $work:expr) => {
        workload!($name, $about, $work, Behind::Sink, &Kind::ALL)
    };
    ($name:literal, $about:literal, $work:expr, $behind:expr, $peers:expr) => {
        Workload { name: $name, about: $about, behind: $behind, peers: $peers, work: $work }
    };
}

use Direction::{Down, Up};
use Work::{Ascii, Bulk, Churn, Crowd, Files, Noop, Tls, Vsftpd};

pub(crate) static ALL: [Workload; 17] = [
    workload!("bulk-up-1", "one large upload", Bulk { how: Up, sessions: 1 }),
    workload!("bulk-down-1", "one large download", Bulk { how: Down, sessions: 1 }),
    workload!("bulk-up-4", "four at once", Bulk { how: Up, sessions: 4 }),
    workload!("bulk-down-4", "four at once", Bulk { how: Down, sessions: 4 }),
    workload!("files-up", "10 KiB, 4 sessions", Files { how: Up, sessions: 4, bytes: SMALL }),
    workload!("files-down", "10 KiB, 4 sessions", Files { how: Down, sessions: 4, bytes: SMALL }),
    workload!("churn", "log in and QUIT, 4 clients", Churn { clients: 4 }),
    workload!("noop", "NOOP after NOOP in one session", Noop),
    workload!(
        "transfers-10",
        "1 MiB up, 10 sessions",
        Files { how: Up, sessions: 10, bytes: MEDIUM }
    ),
    workload!(
        "transfers-200",
        "1 MiB up, 200 sessions",
        Files { how: Up, sessions: 200, bytes: MEDIUM }
    ),
    workload!("crowd", "idle sessions, and 10 KiB up by some beside them", Crowd),
    workload!("ascii-up", "TYPE A, lines of 80 characters", Ascii { how: Up }, Behind::Sink, SOME),
    workload!(
        "ascii-down",
        "TYPE A, lines of 80 characters",
        Ascii { how: Down },
        Behind::Sink,
        SOME
    ),
    workload!("tls-up", "TLS 1.3 with the client", Tls { how: Up }, Behind::SinkWithTls, SPEAK_TLS),
    workload!(
        "tls-down",
        "TLS 1.3 with the client",
        Tls { how: Down },
        Behind::SinkWithTls,
        SPEAK_TLS
    ),
    workload!("vsftpd-up", "to a file of vsftpd's", Vsftpd { how: Up }, Behind::Vsftpd, SOME),
    workload!("vsftpd-down", "from a file of vsftpd's", Vsftpd { how: Down }, Behind::Vsftpd, SOME),
];

/// What is done in the workload of that name.
pub(crate) fn about(name: &str) -> &'static str {
    ALL.iter().find(|it| it.name == name).map_or("", |it| it.about)
}

impl Workload {
    /// Does it through one peer.
    pub(crate) fn run(
        &self,
        peer: &Peer,
        servers: &Servers,
        scale: &Scale,
        runtime: &Runtime,
    ) -> Result<Values> {
        match self.work {
            Bulk { how, sessions } => {
                let job = Job::Bulk { how, bytes: scale.bulk / sessions as u64 };
                let (_, usage) = transfer(peer, sessions, job, runtime)?;
                Ok(per_gib(scale.bulk, usage))
            }
            Vsftpd { how } => {
                let job = Job::Bulk { how, bytes: scale.slow_bulk };
                let (_, usage) = transfer(peer, 1, job, runtime)?;
                Ok(per_gib(scale.slow_bulk, usage))
            }
            Ascii { how } => {
                let job = Job::Ascii { how, bytes: scale.slow_bulk };
                let (translated, usage) = transfer(peer, 1, job, runtime)?;
                let mut values = per_gib(scale.slow_bulk, usage);
                values.push((&TRANSLATED, translated as f64));
                Ok(values)
            }
            Files { how, sessions, bytes } => {
                files(peer, sessions, how, bytes, scale.time, runtime)
            }
            Churn { clients } => {
                let end = Instant::now() + scale.time;
                let clients = (0..clients).map(|_| load::churn(peer.address, end));
                let (counts, usage) = measure(peer, || wait(runtime, load::together(clients)));
                let sessions = counts?.into_iter().sum();
                Ok(per_piece(sessions, usage, &SESSIONS, &CPU_SESSION))
            }
            Noop => {
                let took = wait(runtime, async {
                    let mut session = Session::login(peer.address).await?;
                    load::noops(&mut session, scale.noops / 10).await?;
                    let took = load::noops(&mut session, scale.noops).await?;
                    session.quit().await?;
                    Ok(took)
                })?;
                let at =
                    |share: f64| took[(took.len() as f64 * share) as usize].as_nanos() as f64 / 1e3;
                Ok(vec![(&P50, at(0.5)), (&P99, at(0.99))])
            }
            Tls { how } => {
                let (done, usage) =
                    measure(peer, || tls::transfer(peer, how, scale.slow_bulk, servers));
                done?;
                Ok(per_gib(scale.slow_bulk, usage))
            }
            Crowd => unreachable!("peers take turns within it"),
        }
    }
}

/// Small files for a time, in sessions that have logged in before.
pub(crate) fn files(
    peer: &Peer,
    sessions: usize,
    how: Direction,
    bytes: u64,
    time: Duration,
    runtime: &Runtime,
) -> Result<Values> {
    let mut sessions = wait(runtime, load::crowd(peer.address, sessions, peer.logins()))?;
    let job = Job::Files { how, bytes, end: Instant::now() + time };
    let (count, usage) = measure(peer, || wait(runtime, load::all(&mut sessions, job)));
    let count = count?;
    wait(runtime, load::disperse(sessions))?;
    Ok(per_piece(count, usage, &FILES, &CPU_FILE))
}

fn transfer(peer: &Peer, sessions: usize, job: Job, runtime: &Runtime) -> Result<(u64, Usage)> {
    let mut sessions = wait(runtime, load::crowd(peer.address, sessions, peer.logins()))?;
    let (count, usage) = measure(peer, || wait(runtime, load::all(&mut sessions, job)));
    let count = count?;
    wait(runtime, load::disperse(sessions))?;
    Ok((count, usage))
}

/// Waits for clients, but not for ever.
pub(crate) fn wait<T>(runtime: &Runtime, work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime.block_on(async { timeout(PATIENCE, work).await.context("it hangs")? })
}

fn per_gib(bytes: u64, usage: Usage) -> Values {
    let gib = bytes as f64 / GIB;
    let mut values: Values = vec![
        (&THROUGHPUT, gib / usage.elapsed.as_secs_f64()),
        (&MACHINE_GIB, usage.machine.as_secs_f64() / gib),
    ];
    values.extend(usage.cpu.map(|cpu| (&CPU_GIB, cpu.as_secs_f64() / gib)));
    values
}

fn per_piece(count: u64, usage: Usage, rate: &'static Figure, cost: &'static Figure) -> Values {
    let count = count as f64;
    let mut values: Values = vec![(rate, count / usage.elapsed.as_secs_f64())];
    values.extend(usage.cpu.map(|cpu| (cost, cpu.as_secs_f64() * 1e3 / count)));
    values
}
