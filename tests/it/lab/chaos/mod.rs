//! Chaos: faults that one seed plans, under clients of every kind, and a checker that knows every
//! file. Nothing may be lost that was acknowledged, nothing look whole that is not, nobody hang.
//!
//! One minute with a seed that is always the same; `FTPGATE_CHAOS_SEED` and `FTPGATE_CHAOS_SECONDS` say
//! otherwise.

mod bugs;
mod faults;
mod schedule;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::network::Place;
use super::traffic::checker::{Checker, Outcome};
use super::traffic::load::{Load, World};
use super::{ATTEMPT, Lab, Mode, Setup, ZONE, environment, record};
use crate::harness::certificates::Authority;
use crate::harness::eventually;
use faults::{Clock, Disk, Faults, open_descriptors};
use schedule::{Planned, plan};

/// What the environment does not say otherwise. Of this seed's first minute every kind of fault is part.
const SEED: u64 = 130_742;
const SECONDS: u64 = 60;
/// The lease, short as the faults are.
const TTL: Duration = Duration::from_secs(2);
/// The ports of each endpoint. Unlike Transfer Family's, they have one host behind them.
const PASSIVE: &str = "8192-8999";
/// Descriptors that a gateway may have more than it began with: connections to AWS that are kept.
const KEPT: u64 = 8;
/// Transfers after the end of all faults, of which none may fail.
const AFTERWARDS: usize = 20;
/// Faults that are told with a violation: those of so long before it.
const BEFORE: Duration = Duration::from_secs(60);

/// A gateway's configuration with short time-outs, FTPS, an endpoint by name, a disk for its audit log.
fn configuration(text: &str, directory: &Path, disk: &Disk, tls: &str) -> String {
    let audit = format!("{}/audit.jsonl", directory.display());
    let by_address = format!("{}:21", Place::EndpointA.address());
    let by_name = format!("{}.{ZONE}:21", Place::EndpointA.name());
    let text = text
        .replace("address = \"0.0.0.0:21\"", "address = \"0.0.0.0:21\"\ntls = \"optional\"")
        .replace("ports = \"8192-8200\"", "ports = \"8192-8200\"\nreservation = \"4s\"")
        .replace(&by_address, &by_name)
        .replace(&audit, disk.log().to_str().unwrap())
        .replace("level = \"debug\"", "level = \"info\"");
    format!(
        r#"{text}
[tls]
{tls}
[timeouts]
login = "10s"
idle = "20s"
data_connect = "6s"
data_idle = "5s"
reply = "10s"
tls_handshake = "5s"
[cloudwatch]
namespace = "ftpgate"
load_balancer = "ftp"
interval = "1s"
"#
    )
}

#[test]
fn whatever_breaks_nothing_is_lost_and_nothing_looks_whole_that_is_not() {
    let seed = environment("FTPGATE_CHAOS_SEED", SEED);
    let lasts = Duration::from_secs(environment("FTPGATE_CHAOS_SECONDS", SECONDS));
    let (authority, clock) = (Authority::new(), Clock::build());
    let addresses = Place::GATEWAYS.map(|place| place.address().to_string());
    let certificate = authority.issue(&addresses.each_ref().map(String::as_str));
    let disks = RefCell::<Vec<Disk>>::default();
    let edit = |directory: &Path, text: String| {
        let disk = Disk::new(directory);
        let text = configuration(&text, directory, &disk, &certificate.settings());
        disks.borrow_mut().push(disk);
        text
    };
    let setup = Setup {
        passive: PASSIVE,
        edit: &edit,
        environment: &|directory| clock.environment(directory),
    };
    let mut lab = Lab::with_setup(Mode::LeaseRecord, TTL, &setup);
    // Gone before the directory that they are mounted in.
    let disks = disks.take();
    lab.wait_until_whole();
    let descriptors = Place::GATEWAYS.map(|place| open_descriptors(lab.node(place).process()));
    let checker = Arc::new(Checker::new(seed, &lab.root()));
    let client = Arc::clone(&lab.client);
    let host = lab.host(Place::Client).clone();
    let load = Load::start(seed, &host, World { client, authority }, Arc::clone(&checker));
    let schedule = plan(seed, lasts);
    let began = Instant::now();
    let told = inject(&mut lab, &schedule, began, &checker, seed);
    load.stop();
    let elapsed = began.elapsed();
    lab.wait_until_whole();
    expect_quiet(&lab, descriptors);
    for _ in 0..AFTERWARDS {
        lab.transfer_once(ATTEMPT).unwrap();
    }
    expect_one_holder_at_a_time(&lab);
    checker.look_again(true);
    let audited = disks.iter().map(|disk| checker.read_audit(&disk.log()));
    let audited = audited.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
    report(seed, &schedule, &checker, elapsed, audited);
    // Those that came to light only now.
    tell(&checker, &schedule, told, began, seed);
    // The gateways' logs tell more.
    let kept = lab.keep_logs("chaos");
    let violations = checker.violations().len();
    // Fewer would prove little.
    assert!(checker.total(Outcome::Complete) > 5 * lasts.as_secs(), "{}", checker.report());
    assert_eq!(violations, 0, "seed {seed}; the gateways' logs are in {}", kept.display());
}

/// Begins and ends all faults in time, and tells of violations as soon as they are there; of how many.
fn inject(
    lab: &mut Lab,
    schedule: &[Planned],
    began: Instant,
    checker: &Checker,
    seed: u64,
) -> usize {
    let begins = schedule.iter().map(|planned| (planned.begins, false, planned.fault));
    let ends = schedule.iter().map(|planned| (planned.ends, true, planned.fault));
    let mut events: Vec<_> = begins.chain(ends).collect();
    // The end of one that takes no time comes behind its beginning.
    events.sort_by_key(|(at, is_end, _)| (*at, *is_end));
    let mut faults = Faults::new(lab);
    let mut told = 0;
    for (at, is_end, fault) in events {
        while let Some(left) = at.checked_sub(began.elapsed()) {
            sleep(left.min(Duration::from_secs(1)));
            checker.look_again(false);
            told = tell(checker, schedule, told, began, seed);
        }
        match is_end {
            false => faults.begin(fault),
            true => faults.end(fault),
        }
    }
    faults.settle();
    told
}

/// Prints violations beyond the first `told`, each with the faults before it.
fn tell(checker: &Checker, schedule: &[Planned], told: usize, began: Instant, seed: u64) -> usize {
    let violations = checker.violations();
    for violation in &violations[told..] {
        let now = began.elapsed();
        eprintln!("--- violation (seed {seed}), at {:.3} s: {violation}", now.as_secs_f64());
        let before = schedule
            .iter()
            .filter(|planned| planned.begins <= now && now.saturating_sub(planned.ends) < BEFORE);
        for Planned { fault, begins, ends } in before {
            let (begins, ends) = (begins.as_secs_f64(), ends.as_secs_f64());
            eprintln!("    {begins:9.3} to {ends:9.3} {fault:?}");
        }
    }
    violations.len()
}

/// Nothing is left of the clients: no session, no transfer, no port, no process, no descriptor.
fn expect_quiet(lab: &Lab, descriptors: [u64; 2]) {
    let gauges = ["sessions", "transfers", "passive_ports_reserved", "older_processes"];
    for (place, descriptors) in Place::GATEWAYS.into_iter().zip(descriptors) {
        let node = lab.node(place);
        for gauge in gauges {
            eventually(&format!("no {gauge} on {}", place.name()), || {
                (node.metric(&format!("ftpgate_{gauge}")) == Some(0.0)).then_some(())
            });
        }
        eventually(&format!("the descriptors of {} to be closed", place.name()), || {
            (open_descriptors(node.process()) <= descriptors + KEPT).then_some(())
        });
    }
}

/// Each generation of the lease has had one holder.
fn expect_one_holder_at_a_time(lab: &Lab) {
    let mut holders = BTreeMap::new();
    for write in lab.s3.writes() {
        let (generation, holder) = write.holder();
        let first = holders.entry(generation).or_insert_with(|| holder.clone());
        assert_eq!(*first, holder, "two holders in generation {generation}");
    }
}

fn report(
    seed: u64,
    schedule: &[Planned],
    checker: &Checker,
    elapsed: Duration,
    audited: (usize, usize),
) {
    let mut kinds = BTreeMap::<&str, usize>::new();
    for planned in schedule {
        *kinds.entry(planned.fault.name()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let [complete, abandoned, refused, failed] =
        [Outcome::Complete, Outcome::Abandoned, Outcome::Refused, Outcome::Failed]
            .map(|outcome| checker.total(outcome));
    let violations = checker.violations().len();
    record!(
        "chaos, seed {seed}: {} faults in {:.0} s: {}\n{}\
         transfers: {complete} complete, {abandoned} abandoned by their clients, {failed} failed, none of \
         those whole to anybody; {refused} times nothing began; {:.1} GiB; {} lines in the audit logs, \
         {} of them under a wrong clock; {violations} violations",
        schedule.len(),
        elapsed.as_secs_f64(),
        kinds.join(", "),
        checker.report(),
        checker.bytes() as f64 / f64::from(1 << 30),
        audited.0,
        audited.1,
    );
}
