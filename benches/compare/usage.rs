//! What a peer takes while something is done: time, processor time and memory.

use std::fs;
use std::time::{Duration, Instant};

use crate::cpu::{family, used_by_family};
use crate::peers::Peer;

/// What something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) elapsed: Duration,
    /// Of the peer's processes. A peer without any has none, though its work takes some.
    pub(crate) cpu: Option<Duration>,
    /// Of the whole machine, clients and upstream and whatever else runs on it included.
    pub(crate) machine: Duration,
}

/// Does something through a peer.
pub(crate) fn measure<T>(peer: &Peer, work: impl FnOnce() -> T) -> (T, Usage) {
    let cpu = || peer.process().map(used_by_family);
    let (cpu_before, machine_before, start) = (cpu(), machine(), Instant::now());
    let done = work();
    let elapsed = start.elapsed();
    let machine = machine() - machine_before;
    let cpu = cpu().zip(cpu_before).map(|(after, before)| after - before);
    (done, Usage { elapsed, cpu, machine })
}

/// KiB that a peer holds: what is resident of its process, or, if there are several, of each what is
/// its own and its share of what they have in common (PSS).
pub(crate) fn memory(peer: &Peer) -> Option<f64> {
    let processes = family(peer.process()?.id());
    let field = if processes.len() == 1 { "Rss:" } else { "Pss:" };
    // A process may end meanwhile.
    let of_one = |id: u32| {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok()
    };
    Some(processes.into_iter().filter_map(of_one).sum())
}

/// Processor time of this machine so far, without what it was idle (proc(5), /proc/stat, in ticks of
/// 10 ms).
fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields = stat.lines().next().unwrap().split_whitespace().skip(1);
    let fields: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq.
    let busy: u64 = fields[..3].iter().chain(&fields[5..7]).sum();
    Duration::from_millis(busy * 10)
}
