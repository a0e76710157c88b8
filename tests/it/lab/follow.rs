//! What of AWS follows what has been ordered of it: the VPC's resolver and the VPC's router.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::cloudwatch::{Alarm, CloudWatch};
use super::moto::{self, RecordSet, Vpc};
use super::network::{Host, Routes};
use crate::harness::dns::Dns;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(50);

/// Something done over and over on a thread of its own; dropping it ends that.
#[derive(Debug)]
struct Repeated {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Repeated {
    fn start(host: &Host, mut work: impl FnMut() + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (host, end) = (host.clone(), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            host.enter();
            while !end.load(Ordering::Relaxed) {
                work();
                thread::sleep(INTERVAL);
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Its panic has been printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

// === the resolver ===

/// The resolver at 10.2.0.2, port 53, which knows the records of one zone in moto.
pub(crate) struct Resolver {
    _repeated: Repeated,
    pub(crate) dns: Arc<Dns>,
    cloudwatch: CloudWatch,
    checks: HealthChecks,
}

/// What health checks are about, by ID. moto forgets the alarm of a health check, hence here.
pub(crate) type HealthChecks = BTreeMap<String, Alarm>;

impl Resolver {
    /// Failover records are judged by `checks` on the data of `cloudwatch`.
    pub(crate) fn start(
        host: &Host,
        zone: &str,
        cloudwatch: CloudWatch,
        checks: HealthChecks,
    ) -> Self {
        let dns = Arc::new(Dns::serve(host.udp(53), host.tcp(53)));
        let (answering, zone) = (Arc::clone(&dns), zone.to_owned());
        let (judging, alarms) = (cloudwatch.clone(), checks.clone());
        let repeated = Repeated::start(host, move || {
            // moto may be slow, or have been killed: the records stay.
            let Ok(sets) = moto::records(&zone) else { return };
            let is_healthy = |check: &str| judging.is_healthy(&alarms[check]);
            answering.replace(resolve(&sets, is_healthy));
        });
        Self { _repeated: repeated, dns, cloudwatch, checks }
    }

    /// Whether no health check is against anybody. Where two start, the name leads to the one that
    /// reported first until the other has, too.
    pub(crate) fn all_are_healthy(&self) -> bool {
        self.checks.values().all(|alarm| self.cloudwatch.is_healthy(alarm))
    }
}

/// The addresses and TTL of each name, as Route 53 answers them: of a failover pair the primary,
/// unless only the secondary is healthy.
fn resolve(
    sets: &[RecordSet],
    is_healthy: impl Fn(&str) -> bool,
) -> HashMap<String, (Vec<IpAddr>, u32)> {
    let mut answers = HashMap::<String, (Vec<IpAddr>, u32)>::new();
    let healthy = |set: &RecordSet| match &set.failover {
        Some((_, Some(check))) => is_healthy(check),
        _ => true,
    };
    for set in sets.iter().filter(|set| set.kind == "A" || set.kind == "AAAA") {
        let pair = |role: &str| {
            sets.iter().find(|other| {
                let is = other.failover.as_ref().is_some_and(|(found, _)| found == role);
                is && other.name == set.name && other.kind == set.kind
            })
        };
        if let (Some(primary), Some(secondary)) = (pair("PRIMARY"), pair("SECONDARY")) {
            let chosen = match (healthy(primary), healthy(secondary)) {
                (false, true) => secondary,
                _ => primary,
            };
            if chosen != set {
                continue;
            }
        }
        let (addresses, ttl) = answers.entry(set.name.clone()).or_default();
        addresses.extend(set.values.iter().filter_map(|value| value.parse::<IpAddr>().ok()));
        *ttl = set.ttl;
    }
    answers
}

// === the router ===

/// Sends packets for an overlay IP where a route table in moto says.
#[derive(Debug)]
pub(crate) struct Router {
    _repeated: Repeated,
}

impl Router {
    pub(crate) fn start(host: &Host, vpc: Vpc, routes: Routes, overlay: Ipv4Addr) -> Self {
        let mut current = None;
        let repeated = Repeated::start(host, move || {
            let Ok(target) = vpc.target(overlay) else { return };
            if current != Some(target) {
                routes.set(overlay, target);
                current = Some(target);
            }
        });
        Self { _repeated: repeated }
    }
}
