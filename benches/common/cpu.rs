//! Processor time of a server or a gateway, with all processes that it has started.

use std::time::Duration;

use crate::harness::eventually;
use crate::harness::process::Process;

/// Of a clock tick, in which the kernel tells processor time: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What it has used so far, in user and in kernel mode. A server that forks for each session counts
/// its children as they end, so this waits until there are none.
pub(crate) fn used(process: &Process) -> Duration {
    eventually("a server's sessions to end", || children(process).is_empty().then_some(()));
    let stat = process.proc("stat");
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // utime, stime, cutime and cstime are the fields 14 to 17; the third is the first one here.
    let ticks = fields.split_whitespace().skip(11).take(4).map(|it| it.parse::<u32>().unwrap());
    ticks.sum::<u32>() * TICK
}

/// Its children, those included that have ended and that it has not counted yet.
fn children(process: &Process) -> String {
    let stat = process.proc("stat");
    let pid = stat.split_whitespace().next().unwrap();
    let children = process.proc(&format!("task/{pid}/children"));
    children.trim().to_owned()
}
