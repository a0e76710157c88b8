//! One table of everything, what was to be reached, and the same as JSON and as a picture.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::figures::{load, processor};
use crate::peers::Kind;
use crate::plot;
use crate::results::{Results, Row};
use crate::targets::{self, Outcome};
use crate::workload;

pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) results: Results,
}

impl Report {
    /// Prints it, and writes it to `target/compare/`; whether all that was to be reached was.
    pub(crate) fn publish(&self) -> bool {
        let outcomes = targets::outcomes(&self.results);
        println!(
            "medians of {} rounds{}; in brackets the ratio to ftpgate's in the same round; {}; load {}\n",
            self.rounds,
            if self.quick { ", quick: these numbers say little" } else { "" },
            processor(),
            load(),
        );
        self.print_table();
        println!("\n| ftpgate's | target | found | |\n|---|---|---|---|");
        outcomes.iter().for_each(|outcome| println!("{}", outcome.line()));
        if !self.results.failures.is_empty() {
            println!("\nnot measured:");
            self.results.failures.iter().for_each(|failure| println!("- {failure}"));
        }
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/compare"));
        fs::create_dir_all(directory).unwrap();
        let json = serde_json::to_string_pretty(&self.json(&outcomes)).unwrap();
        fs::write(directory.join("results.json"), json).unwrap();
        fs::write(directory.join("results.svg"), plot::draw(&self.results, &self.kinds)).unwrap();
        println!("\nwritten to {}: results.json, results.svg", directory.display());
        outcomes.iter().all(|outcome| outcome.is_met() == Some(true))
    }

    fn print_table(&self) {
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        println!("| | | {} |", names.join(" | "));
        println!("|---|---|{}", "---|".repeat(names.len()));
        let mut last = "";
        for row in &self.results.rows {
            let about = match row.workload {
                same if same == last => String::new(),
                name => format!("{name}: {}", workload::about(name)),
            };
            last = row.workload;
            let cells = self.kinds.iter().map(|&kind| cell(row, kind));
            println!(
                "| {about} | {} | {} |",
                row.figure.name,
                cells.collect::<Vec<_>>().join(" | ")
            );
        }
    }

    fn json(&self, outcomes: &[Outcome]) -> Value {
        let of_peer = |row: &Row, kind: Kind| {
            json!({
                "median": row.median(kind),
                "ratio_to_ftpgate": row.ratio(kind, Kind::Ftpgate),
                "rounds": row.values(kind).collect::<Vec<_>>(),
            })
        };
        let of_row = |row: &Row| {
            let measured = self.kinds.iter().filter(|&&kind| row.median(kind).is_finite());
            let peers: Map<String, Value> =
                measured.map(|&kind| (kind.name().into(), of_peer(row, kind))).collect();
            json!({ "workload": row.workload, "figure": row.figure.name, "peers": peers })
        };
        json!({
            "seconds_since_1970": SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs(),
            "rounds": self.rounds,
            "quick": self.quick,
            "processor": processor(),
            "load": load(),
            "rows": self.results.rows.iter().map(of_row).collect::<Vec<_>>(),
            "targets": outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
            "not_measured": self.results.failures,
        })
    }
}

fn cell(row: &Row, kind: Kind) -> String {
    let median = row.median(kind);
    let ratio = row.ratio(kind, Kind::Ftpgate);
    match (median.is_finite(), kind == Kind::Ftpgate || !ratio.is_finite()) {
        (false, _) => "-".into(),
        (true, true) => short(median),
        (true, false) => format!("{} ({ratio:.2})", short(median)),
    }
}

/// With three digits or, if it is large, without a fraction.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        large if large >= 10.0 => 1,
        large if large >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}
