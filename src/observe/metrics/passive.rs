//! The passive ports.

use prometheus::{IntCounter, IntGauge};

use super::{Maker, Metrics};

/// The metrics of it.
#[derive(Debug, Clone)]
pub(super) struct Passive {
    reserved: IntGauge,
    waits: IntCounter,
    pub(super) exhausted: IntCounter,
    expired: IntCounter,
    strangers: IntCounter,
}

impl Passive {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            reserved: make.gauge(
                "passive_ports_reserved",
                "Pairs of client address and passive port that wait for a data connection.",
            )?,
            waits: make.counter(
                "passive_waits_total",
                "PASV and EPSV that had to wait, as every port was reserved for that client address.",
            )?,
            exhausted: make.counter(
                "passive_exhausted_total",
                "PASV and EPSV answered 425: every port stayed reserved for that client address.",
            )?,
            expired: make.counter(
                "passive_expired_total",
                "Reserved passive ports to which the client did not come in time.",
            )?,
            strangers: make.counter(
                "passive_strangers_total",
                "Connections to a passive port that was not reserved for their address.",
            )?,
        })
    }
}

impl Metrics {
    /// A passive port waits for a client, or no longer does.
    pub fn passive_reserved(&self, now: bool) {
        if now { self.passive.reserved.inc() } else { self.passive.reserved.dec() }
    }

    /// A PASV or EPSV waits for a port.
    pub fn passive_waits(&self) {
        self.passive.waits.inc();
    }

    /// A PASV or EPSV was answered 425.
    pub fn passive_exhausted(&self) {
        self.passive.exhausted.inc();
    }

    /// A client did not come to its port.
    pub fn passive_expired(&self) {
        self.passive.expired.inc();
    }

    /// A connection came to a passive port that was not reserved for it.
    pub fn passive_stranger(&self) {
        self.passive.strangers.inc();
    }
}
