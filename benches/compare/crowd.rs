//! Thousands of sessions that do nothing: what each costs to keep, what others get done beside them, and
//! what is left when they are gone.

use std::thread;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::load::{self, Direction, Session};
use crate::peers::{Kind, Peer};
use crate::results::{CROWD, LEFT, MEMORY_SESSION, START, Values};
use crate::usage::memory;
use crate::workload::{SMALL, Scale, files, wait};

/// One peer after another, each of them fresh: its values, or why there are none.
pub(crate) fn run(
    peers: Vec<Peer>,
    scale: &Scale,
    runtime: &Runtime,
) -> Vec<(Kind, Result<Values>)> {
    let outcomes = peers.into_iter().map(|peer| (run_one(&peer, scale, runtime), peer));
    let mut outcomes: Vec<_> = outcomes.collect();
    // All of them in the same time: nothing is measured by the clock here.
    thread::sleep(scale.settle);
    for (outcome, peer) in &mut outcomes {
        if let Ok((values, Some(start))) = outcome
            && let Some(left) = memory(peer)
        {
            values.push((&LEFT, left / *start));
        }
    }
    let outcome = |(outcome, peer): (Result<(Values, _)>, Peer)| {
        (peer.kind, outcome.map(|(values, _)| values))
    };
    outcomes.into_iter().map(outcome).collect()
}

/// The values so far, and the memory at the start, in KiB.
fn run_one(peer: &Peer, scale: &Scale, runtime: &Runtime) -> Result<(Values, Option<f64>)> {
    let (crowd, active) = match peer.kind {
        // Each session is a process of some 2 MB that takes some 40 ms to start.
        Kind::ModProxy => (scale.forked_crowd, scale.forked_active),
        _ => (scale.crowd, scale.active),
    };
    // Pages of code that any session needs are there from now on.
    wait(runtime, async { Session::login(peer.address).await?.quit().await })?;
    let start = memory(peer);
    let idle = wait(runtime, load::crowd(peer.address, crowd, peer.logins()))?;
    let full = memory(peer);
    let mut values = files(peer, active, Direction::Up, SMALL, scale.time, runtime)?;
    values.push((&CROWD, crowd as f64));
    if let (Some(start), Some(full)) = (start, full) {
        values.push((&MEMORY_SESSION, (full - start) / crowd as f64));
        values.push((&START, start / 1024.0));
    }
    wait(runtime, load::disperse(idle))?;
    Ok((values, start))
}
