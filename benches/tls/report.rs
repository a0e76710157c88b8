//! Medians and ratios, as a table and as JSON.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::Subject;
use crate::figures::{load, median, processor};
use crate::transfer::{Cost, Direction, Suite};

/// What the others are compared with.
pub(crate) const VSFTPD: &str = "vsftpd TLS";
pub(crate) const PROFTPD: &str = "proftpd TLS";
pub(crate) const SPLICED: &str = "ftpgate plain, spliced";
pub(crate) const COPIED: &str = "ftpgate plain, copied";

/// All that one subject took in one direction.
pub(crate) struct Measured {
    name: &'static str,
    direction: Direction,
    costs: Vec<Cost>,
}

pub(crate) struct Report {
    pub(crate) suite: Suite,
    pub(crate) mib: u64,
    pub(crate) rounds: u64,
    pub(crate) measured: Vec<Measured>,
}

/// Adds what a transfer took.
pub(crate) fn add(
    measured: &mut Vec<Measured>,
    subject: &Subject<'_>,
    direction: Direction,
    cost: Cost,
) {
    let name = subject.name;
    match measured.iter_mut().find(|it| it.name == name && it.direction == direction) {
        Some(known) => known.costs.push(cost),
        None => measured.push(Measured { name, direction, costs: vec![cost] }),
    }
}

impl Measured {
    fn throughput(&self, mib: u64) -> f64 {
        mib as f64 / median(self.costs.iter().map(|cost| cost.elapsed.as_secs_f64()))
    }

    /// Seconds for each GiB.
    fn cpu(&self, mib: u64) -> f64 {
        median(self.costs.iter().map(|cost| cost.cpu.as_secs_f64())) * 1024.0 / mib as f64
    }
}

impl Report {
    /// Prints the table, and writes the same as JSON to `target/bench-tls.json`.
    pub(crate) fn publish(&self) {
        let rows: Vec<Value> = self.measured.iter().map(|it| self.row(it)).collect();
        println!(
            "{} MiB, medians of {} rounds; {} on control and data connections; load {}\n",
            self.mib,
            self.rounds,
            self.suite.name(),
            load(),
        );
        println!(
            "| | | MiB/s | CPU s/GiB | to vsftpd TLS | to proftpd TLS | to spliced | to copied |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for row in &rows {
            let ratio = |to: &str| format!("{:.2}", row["cpu_ratio"][to].as_f64().unwrap());
            println!(
                "| {} | {} | {:.0} | {:.2} | {} | {} | {} | {} |",
                row["name"].as_str().unwrap(),
                row["direction"].as_str().unwrap(),
                row["mib_per_second"].as_f64().unwrap(),
                row["cpu_seconds_per_gib"].as_f64().unwrap(),
                ratio(VSFTPD),
                ratio(PROFTPD),
                ratio(SPLICED),
                ratio(COPIED),
            );
        }
        let report = json!({
            "seconds_since_1970": SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(),
            "mib": self.mib,
            "rounds": self.rounds,
            "tls": self.suite.name(),
            "load": load(),
            "processor": processor(),
            "rows": rows,
        });
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-tls.json"));
        fs::write(path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
        println!("\nwritten to {}", path.display());
    }

    fn row(&self, it: &Measured) -> Value {
        let to = |name: &str| {
            let is_peer = |other: &&Measured| other.name == name && other.direction == it.direction;
            self.measured.iter().find(is_peer).unwrap()
        };
        let compared = |figure: &dyn Fn(&Measured) -> f64| {
            let ratio = |name: &'static str| (name.to_owned(), figure(it) / figure(to(name)));
            Value::from_iter([VSFTPD, PROFTPD, SPLICED, COPIED].map(ratio))
        };
        let each = |figure: fn(&Cost) -> f64| it.costs.iter().map(figure).collect::<Vec<_>>();
        json!({
            "name": it.name,
            "direction": it.direction.name(),
            "mib_per_second": it.throughput(self.mib),
            "cpu_seconds_per_gib": it.cpu(self.mib),
            "cpu_ratio": compared(&|it| it.cpu(self.mib)),
            "throughput_ratio": compared(&|it| it.throughput(self.mib)),
            "elapsed_seconds": each(|cost| cost.elapsed.as_secs_f64()),
            "cpu_seconds": each(|cost| cost.cpu.as_secs_f64()),
        })
    }
}
