//! A long time under a steady load, with nothing wrong anywhere: what a gateway has does not grow.
//!
//! Half a minute; `FTPGATE_SOAK_SECONDS` says otherwise.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::network::Place;
use super::traffic::checker::{Checker, Outcome};
use super::traffic::load::{Load, World};
use super::{Lab, Mode, Setup, TTL, environment, record};
use crate::harness::certificates::Authority;
use crate::harness::eventually;

const SEED: u64 = 130_742;
const SECONDS: u64 = 30;
/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The ports of each endpoint, which unlike Transfer Family's has one host behind them, and of gateways.
const PASSIVE: &str = "8192-8999";
const PORTS: &str = "8192-8299";
/// What is looked at. The first is in bytes.
const LOOKED_AT: [&str; 3] = ["process_resident_memory_bytes", "process_open_fds", "ftpgate_tasks"];
/// More of [`LOOKED_AT`] than before the load: connections to AWS that are kept, and what goes with them.
const KEPT: f64 = 8.0;
/// Growth of memory over the whole time that is none, of the mean. The others go with the sessions of
/// the moment; what of them is left shows when all have ended.
const FLAT: f64 = 0.1;

/// What was seen of one gateway: seconds since the beginning, and [`LOOKED_AT`].
type Looks = Vec<(f64, [f64; 3])>;

#[test]
fn a_steady_load_leaves_nothing_behind() {
    let lasts = Duration::from_secs(environment("FTPGATE_SOAK_SECONDS", SECONDS));
    let authority = Authority::new();
    let addresses = Place::GATEWAYS.map(|place| place.address().to_string());
    let certificate = authority.issue(&addresses.each_ref().map(String::as_str));
    let tls = certificate.settings();
    let edit = |_: &_, text: String| {
        let text = text
            .replace("address = \"0.0.0.0:21\"", "address = \"0.0.0.0:21\"\ntls = \"optional\"")
            .replace("ports = \"8192-8200\"", &format!("ports = \"{PORTS}\""));
        format!(
            "{text}\n[tls]\n{tls}\n[cloudwatch]\nnamespace = \"ftpgate\"\nload_balancer = \"ftp\"\n"
        )
    };
    let setup = Setup { passive: PASSIVE, edit: &edit, ..Setup::default() };
    let lab = Lab::with_setup(Mode::LeaseRecord, TTL, &setup);
    lab.wait_until_whole();
    let before = Place::GATEWAYS.map(|place| look(&lab, place));
    let checker = Arc::new(Checker::of_calm(SEED, &lab.root()));
    let world = World { client: Arc::clone(&lab.client), authority };
    let load = Load::start(SEED, lab.host(Place::Client), world, Arc::clone(&checker));
    let mut seen = [Looks::new(), Looks::new()];
    let began = Instant::now();
    while began.elapsed() < lasts {
        for (place, looks) in Place::GATEWAYS.into_iter().zip(&mut seen) {
            looks.push((began.elapsed().as_secs_f64(), look(&lab, place)));
        }
        checker.look_again(false);
        sleep(PAUSE);
    }
    load.stop();
    checker.look_again(true);
    let [complete, abandoned, refused, failed, violations] = [
        Outcome::Complete,
        Outcome::Abandoned,
        Outcome::Refused,
        Outcome::Failed,
        Outcome::Violation,
    ]
    .map(|outcome| checker.total(outcome));
    record!(
        "soak of {:.0} s: {complete} transfers complete, {abandoned} abandoned by their clients, {failed} \
         failed, {refused} not begun, {violations} violations, {:.1} GiB",
        began.elapsed().as_secs_f64(),
        checker.bytes() as f64 / f64::from(1 << 30),
    );
    eprintln!("{}", checker.report());
    let kept = lab.keep_logs("soak");
    let told = checker.violations().join("\n");
    assert_eq!([refused, failed, violations], [0; 3], "the logs are in {}\n{told}", kept.display());
    assert!(complete > 5 * lasts.as_secs(), "so few prove little");
    for (place, looks) in Place::GATEWAYS.into_iter().zip(&seen) {
        for (index, name) in LOOKED_AT.into_iter().enumerate() {
            // The first sixth fills caches and pools.
            let points: Vec<_> =
                looks[looks.len() / 6..].iter().map(|(at, values)| (*at, values[index])).collect();
            let (mean, slope) = line(&points);
            let most = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            let unit = if index == 0 { f64::from(1 << 20) } else { 1.0 };
            record!(
                "{:9} {name:30} mean {:8.1}, most {:8.1}, slope {:+8.2} an hour",
                place.name(),
                mean / unit,
                most / unit,
                slope * 3600.0 / unit,
            );
            let grown = slope * lasts.as_secs_f64();
            assert!(index != 0 || grown < FLAT * mean, "{} grows", place.name());
        }
    }
    for (place, before) in Place::GATEWAYS.into_iter().zip(before) {
        eventually(&format!("{} to have what it had", place.name()), || {
            let [_, descriptors, tasks] = look(&lab, place);
            (descriptors <= before[1] + KEPT && tasks <= before[2] + KEPT).then_some(())
        });
    }
}

fn look(lab: &Lab, place: Place) -> [f64; 3] {
    lab.node(place).metrics(LOOKED_AT).expect("metrics")
}

/// The mean of the values, and how much they grow in one unit of time: least squares.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (time, value) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(at, _)| (at - time).powi(2)).sum();
    let together: f64 = points.iter().map(|(at, of)| (at - time) * (of - value)).sum();
    (value, together / spread)
}
