//! What ftpgate has to reach: ratios to peers in the same run, medians of all rounds.

use serde_json::{Value, json};

use crate::peers::Kind::{self, Direct, Ftpgate, Haproxy, HaproxyTuned, ModProxy, Nginx};
use crate::results::{
    ADDED_P50, ADDED_P99, CPU_FILE, CPU_GIB, FILES, Figure, LEFT, MEMORY_SESSION, Results,
    SESSIONS, THROUGHPUT,
};

/// How far ftpgate's value may be from another's, as a factor.
struct Ratio {
    figure: &'static Figure,
    to: Kind,
    /// At least if more is better, else at most.
    limit: f64,
}

/// A target and what was found.
pub(crate) struct Outcome {
    pub(crate) text: String,
    /// Not a number if it was not measured.
    found: f64,
    limit: f64,
    at_least: bool,
}

const fn ratio(figure: &'static Figure, to: Kind, limit: f64) -> Ratio {
    Ratio { figure, to, limit }
}

static BULK: [Ratio; 7] = [
    ratio(&CPU_GIB, HaproxyTuned, 1.0),
    ratio(&CPU_GIB, Haproxy, 0.25),
    ratio(&CPU_GIB, Nginx, 0.25),
    ratio(&CPU_GIB, ModProxy, 0.4),
    ratio(&THROUGHPUT, HaproxyTuned, 1.0),
    ratio(&THROUGHPUT, Haproxy, 3.0),
    ratio(&THROUGHPUT, Nginx, 3.0),
];
static UP: [Ratio; 1] = [ratio(&THROUGHPUT, Direct, 0.75)];
static SMALL: [Ratio; 3] =
    [ratio(&FILES, Haproxy, 1.0), ratio(&FILES, HaproxyTuned, 1.0), ratio(&FILES, ModProxy, 3.0)];
static CHURN: [Ratio; 3] = [
    ratio(&SESSIONS, Haproxy, 1.0),
    ratio(&SESSIONS, HaproxyTuned, 1.0),
    ratio(&SESSIONS, ModProxy, 3.0),
];
static NOOP: [Ratio; 4] = [
    ratio(&ADDED_P50, Haproxy, 1.0),
    ratio(&ADDED_P99, Haproxy, 1.0),
    ratio(&ADDED_P50, HaproxyTuned, 1.0),
    ratio(&ADDED_P99, HaproxyTuned, 1.0),
];
static RATIOS: [(&str, &[Ratio]); 9] = [
    ("bulk-up-1", &BULK),
    ("bulk-down-1", &BULK),
    ("bulk-up-4", &BULK),
    ("bulk-down-4", &BULK),
    ("bulk-up-1", &UP),
    ("files-up", &SMALL),
    ("files-down", &SMALL),
    ("churn", &CHURN),
    ("noop", &NOOP),
];
/// KiB of an idle session.
const SESSION_MEMORY: f64 = 6.0;
/// Memory after a crowd, of that before.
const MEMORY_LEFT: f64 = 1.1;
/// What one of 200 transfers may cost, of one of 10.
const GROWTH: f64 = 1.2;

impl Outcome {
    /// Nothing if it was not measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let met = if self.at_least { self.found >= self.limit } else { self.found <= self.limit };
        self.found.is_finite().then_some(met)
    }

    /// As a line of a table.
    pub(crate) fn line(&self) -> String {
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let sign = if self.at_least { "≥" } else { "≤" };
        format!("| {} | {sign} {} | {:.2} | {verdict} |", self.text, self.limit, self.found)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "target": self.text,
            "at_least": self.at_least,
            "limit": self.limit,
            "found": self.found,
            "met": self.is_met(),
        })
    }
}

/// All of them.
pub(crate) fn outcomes(results: &Results) -> Vec<Outcome> {
    let ratios = RATIOS.iter().flat_map(|&(workload, ratios)| {
        ratios.iter().map(move |it| Outcome {
            text: format!("{workload}: {}, to {}", it.figure.name, it.to.name()),
            found: results
                .row(workload, it.figure)
                .map_or(f64::NAN, |row| row.ratio(Ftpgate, it.to)),
            limit: it.limit,
            at_least: it.figure.more,
        })
    });
    let median = |workload, figure| {
        results.row(workload, figure).map_or(f64::NAN, |row| row.median(Ftpgate))
    };
    let at_most =
        |text: &str, found, limit| Outcome { text: text.into(), found, limit, at_least: false };
    let (ten, many) = (median("transfers-10", &CPU_FILE), median("transfers-200", &CPU_FILE));
    ratios
        .chain([
            at_most("crowd: KiB/idle session", median("crowd", &MEMORY_SESSION), SESSION_MEMORY),
            at_most(
                "crowd: memory after all ended, of the start",
                median("crowd", &LEFT),
                MEMORY_LEFT,
            ),
            at_most("CPU of a transfer among 200, of one among 10", many / ten, GROWTH),
        ])
        .collect()
}
