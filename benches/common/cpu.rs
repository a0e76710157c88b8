//! Processor time of a server or a gateway, with all processes that it has started.

use std::fs;
use std::time::Duration;

use crate::harness::eventually;
use crate::harness::process::Process;

/// Of a clock tick, in which the kernel tells processor time: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What it has used so far, in user and in kernel mode. A server that forks for each session counts
/// its children as they end, so this waits until there are none.
pub(crate) fn used(process: &Process) -> Duration {
    eventually("a server's sessions to end", || (family(process.id()).len() == 1).then_some(()));
    used_by_family(process)
}

/// The same while there are children that are not to end, such as workers: theirs is in it.
pub(crate) fn used_by_family(process: &Process) -> Duration {
    // A child that ends meanwhile would be counted twice or not at all.
    eventually("a server's processes to stay the same for a moment", || {
        let before = family(process.id());
        let used = before.iter().map(|&id| used_by(id)).sum::<Option<Duration>>();
        used.filter(|_| family(process.id()) == before)
    })
}

/// A process and all that have come of it, those included that have ended and that nobody has
/// waited for yet.
pub(crate) fn family(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().map(|child| child.parse().unwrap());
    [vec![process], children.flat_map(family).collect()].concat()
}

/// By one process and those of its children that it has waited for, unless it is gone.
fn used_by(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // utime, stime, cutime and cstime are the fields 14 to 17; the third is the first one here.
    let ticks = fields.split_whitespace().skip(11).take(4).map(|it| it.parse::<u32>().unwrap());
    Some(ticks.sum::<u32>() * TICK)
}
