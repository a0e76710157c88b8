//! ftpgate beside what else one could put in front of an FTP server, all of them doing the same in turn.
//! See benches/README.md.

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
mod crowd;
#[path = "../common/figures.rs"]
mod figures;
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod load;
mod network;
mod peers;
mod plot;
mod report;
mod results;
mod servers;
mod targets;
mod tls;
mod upstream;
mod usage;
mod wire;
mod workload;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::runtime::Runtime;

use network::{Machines, SINK, VSFTPD};
use peers::{Kind, Peer};
use report::Report;
use results::{ADDED_P50, ADDED_P99, P50, P99, Results, Values};
use servers::Servers;
use workload::{Behind, Scale, Work, Workload};

const MIB: u64 = 1 << 20;
/// What is measured: some 15 minutes on two idle cores.
const FULL: Scale = Scale {
    bulk: 4096 * MIB,
    slow_bulk: 512 * MIB,
    time: Duration::from_millis(1500),
    noops: 5000,
    crowd: 5000,
    active: 200,
    forked_crowd: 100,
    forked_active: 20,
    settle: Duration::from_secs(12),
};
/// Enough to see that everything works.
const QUICK: Scale = Scale {
    bulk: 256 * MIB,
    slow_bulk: 64 * MIB,
    time: Duration::from_millis(200),
    noops: 500,
    crowd: 500,
    active: 50,
    forked_crowd: 10,
    forked_active: 5,
    settle: Duration::from_secs(3),
};
/// What comes before the first round.
const WARM_UP: Scale =
    Scale { bulk: 32 * MIB, time: Duration::from_millis(50), noops: 100, ..QUICK };

/// Compares ftpgate with what else one could put in front of an FTP server.
#[derive(Debug, Parser)]
struct Arguments {
    /// In under two minutes, to see that it works: its numbers say little.
    #[arg(long)]
    quick: bool,
    /// How often everything is done.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only these workloads.
    #[arg(long, value_delimiter = ',', value_parser = workload::ALL.each_ref().map(|it| it.name))]
    only: Vec<String>,
    /// Only these peers.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Kind>,
    /// Be the sink at this address: what the bench tells itself.
    #[arg(long, hide = true)]
    upstream: Option<SocketAddr>,
    /// What cargo tells every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Peers that run all the time, and what is behind them.
struct Pool {
    behind: Behind,
    peers: Vec<Peer>,
}

/// Everything that a round needs.
struct Bench {
    scale: Scale,
    kinds: Vec<Kind>,
    workloads: Vec<&'static Workload>,
    pools: Vec<Pool>,
    results: Results,
    servers: Servers,
    runtime: Runtime,
    /// The last to go.
    _machines: Machines,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.upstream {
        upstream::serve(address);
    }
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 });
    let is_wanted = |it: &&Workload| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == it.name)
    };
    let is_chosen = |kind: &Kind| arguments.peers.is_empty() || arguments.peers.contains(kind);
    let scale = if arguments.quick { QUICK } else { FULL };
    let machines = Machines::new();
    let mut bench = Bench {
        scale,
        kinds: Kind::ALL.into_iter().filter(is_chosen).collect(),
        workloads: workload::ALL.iter().filter(is_wanted).collect(),
        pools: Vec::new(),
        results: Results::default(),
        servers: Servers::start(&[scale.slow_bulk, WARM_UP.slow_bulk]),
        runtime: Runtime::new().unwrap(),
        _machines: machines,
    };
    bench.start_peers();
    eprintln!("warm-up");
    bench.warm_up();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        bench.round(round);
    }
    let whole = !arguments.quick
        && rounds >= 5
        && arguments.only.is_empty()
        && bench.kinds.len() == Kind::ALL.len();
    let report =
        Report { rounds, quick: arguments.quick, kinds: bench.kinds, results: bench.results };
    let all_met = report.publish();
    if whole && !all_met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Bench {
    /// All that have something to do in any workload.
    fn start_peers(&mut self) {
        for behind in [Behind::Sink, Behind::SinkWithTls, Behind::Vsftpd] {
            let work =
                self.workloads.iter().filter(|it| it.behind == behind && it.work != Work::Crowd);
            let work: Vec<_> = work.collect();
            let has_work = |kind: &&Kind| work.iter().any(|it| it.peers.contains(kind));
            let kinds: Vec<Kind> = self.kinds.iter().filter(has_work).copied().collect();
            let mut peers = Vec::new();
            for kind in kinds {
                let number =
                    peers.len() + self.pools.iter().map(|pool| pool.peers.len()).sum::<usize>();
                match self.start(kind, number, behind) {
                    Ok(peer) => peers.push(peer),
                    Err(error) => {
                        self.results.fail(format!("{} does not start: {error:#}", kind.name()))
                    }
                }
            }
            self.pools.push(Pool { behind, peers });
        }
    }

    fn start(&self, kind: Kind, number: usize, behind: Behind) -> Result<Peer> {
        let number = u8::try_from(number)?;
        match behind {
            Behind::Sink => Peer::start(kind, number, SINK, None),
            Behind::Vsftpd => Peer::start(kind, number, VSFTPD, None),
            Behind::SinkWithTls if kind == Kind::Direct => Ok(Peer::server(self.servers.tls())),
            Behind::SinkWithTls => Peer::start(kind, number, SINK, Some(&self.servers.authority)),
        }
    }

    fn warm_up(&mut self) {
        for workload in self.workloads.iter().filter(|it| it.work != Work::Crowd) {
            for peer in peers_of(&self.pools, workload, 0) {
                if let Err(error) = workload.run(peer, &self.servers, &WARM_UP, &self.runtime) {
                    let failure = format!("{}, {}: {error:#}", workload.name, peer.kind.name());
                    self.results.fail(failure);
                }
            }
        }
    }

    fn round(&mut self, round: usize) {
        for workload in self.workloads.clone() {
            eprintln!("  {}", workload.name);
            let outcomes = match workload.work {
                Work::Crowd => self.crowd(round),
                _ => peers_of(&self.pools, workload, round)
                    .map(|peer| {
                        (peer.kind, workload.run(peer, &self.servers, &self.scale, &self.runtime))
                    })
                    .collect(),
            };
            for (kind, outcome) in outcomes {
                match outcome {
                    Ok(values) => self.results.add(round, workload.name, kind, values),
                    Err(error) => {
                        let failure = format!("{}, {}: {error:#}", workload.name, kind.name());
                        self.results.fail(failure);
                    }
                }
            }
            self.results.add_difference(round, workload.name, &P50, &ADDED_P50);
            self.results.add_difference(round, workload.name, &P99, &ADDED_P99);
        }
    }

    /// With peers that have not done anything before.
    fn crowd(&mut self, round: usize) -> Vec<(Kind, Result<Values>)> {
        let mut kinds = self.kinds.clone();
        let first = round % kinds.len();
        kinds.rotate_left(first);
        let mut peers = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            // Above those that run all the time.
            match self.start(kind, 64 + number, Behind::Sink) {
                Ok(peer) => peers.push(peer),
                Err(error) => {
                    self.results.fail(format!("{} does not start: {error:#}", kind.name()))
                }
            }
        }
        crowd::run(peers, &self.scale, &self.runtime)
    }
}

/// Those that take part, in another order each round.
fn peers_of<'a>(
    pools: &'a [Pool],
    workload: &'a Workload,
    round: usize,
) -> impl Iterator<Item = &'a Peer> {
    let pool = pools.iter().find(|pool| pool.behind == workload.behind).unwrap();
    let first = round % pool.peers.len().max(1);
    let (front, back) = pool.peers.split_at(first);
    back.iter().chain(front).filter(|peer| workload.peers.contains(&peer.kind))
}
