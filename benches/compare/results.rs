//! What was measured, by workload, figure and peer, with a value for each round.

use crate::figures::median;
use crate::peers::Kind;

/// What a number says.
#[derive(Debug, PartialEq)]
pub(crate) struct Figure {
    /// With its unit.
    pub(crate) name: &'static str,
    /// Whether more of it is better.
    pub(crate) more: bool,
}

pub(crate) static THROUGHPUT: Figure = Figure { name: "GiB/s", more: true };
pub(crate) static CPU_GIB: Figure = Figure { name: "CPU s/GiB", more: false };
pub(crate) static MACHINE_GIB: Figure = Figure { name: "whole machine's CPU s/GiB", more: false };
pub(crate) static FILES: Figure = Figure { name: "files/s", more: true };
pub(crate) static CPU_FILE: Figure = Figure { name: "CPU ms/file", more: false };
pub(crate) static SESSIONS: Figure = Figure { name: "sessions/s", more: true };
pub(crate) static CPU_SESSION: Figure = Figure { name: "CPU ms/session", more: false };
pub(crate) static P50: Figure = Figure { name: "p50 us", more: false };
pub(crate) static P99: Figure = Figure { name: "p99 us", more: false };
pub(crate) static ADDED_P50: Figure = Figure { name: "added p50 us", more: false };
pub(crate) static ADDED_P99: Figure = Figure { name: "added p99 us", more: false };
pub(crate) static CROWD: Figure = Figure { name: "idle sessions", more: true };
pub(crate) static MEMORY_SESSION: Figure = Figure { name: "KiB/idle session", more: false };
pub(crate) static START: Figure = Figure { name: "MiB at the start", more: false };
pub(crate) static LEFT: Figure = Figure { name: "left after all ended, of the start", more: false };
pub(crate) static TRANSLATED: Figure = Figure { name: "line ends translated", more: true };

/// One figure of one workload.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) figure: &'static Figure,
    /// Of each round; not a number where a peer failed or has none.
    rounds: Vec<Vec<(Kind, f64)>>,
}

impl Row {
    fn value(round: &[(Kind, f64)], kind: Kind) -> f64 {
        round.iter().find(|(other, _)| *other == kind).map_or(f64::NAN, |&(_, value)| value)
    }

    /// Of every round.
    pub(crate) fn values(&self, kind: Kind) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(move |round| Self::value(round, kind))
    }

    /// Over the rounds in which there is a value.
    pub(crate) fn median(&self, kind: Kind) -> f64 {
        median(self.values(kind).filter(|value| value.is_finite()))
    }

    /// The median of one's ratio to the other in the same round: what disturbs one disturbs both.
    pub(crate) fn ratio(&self, one: Kind, other: Kind) -> f64 {
        let ratios = self.values(one).zip(self.values(other)).map(|(one, other)| one / other);
        median(ratios.filter(|ratio| ratio.is_finite()))
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

/// What one peer showed in one go.
pub(crate) type Values = Vec<(&'static Figure, f64)>;

impl Results {
    /// Adds a value of that round, the first of which is 0.
    pub(crate) fn add(&mut self, round: usize, workload: &'static str, kind: Kind, values: Values) {
        for (figure, value) in values {
            let known =
                self.rows.iter().position(|it| it.workload == workload && it.figure == figure);
            let place = known.unwrap_or_else(|| {
                self.rows.push(Row { workload, figure, rounds: Vec::new() });
                self.rows.len() - 1
            });
            let rounds = &mut self.rows[place].rounds;
            rounds.resize_with(rounds.len().max(round + 1), Vec::new);
            rounds[round].push((kind, value));
        }
    }

    /// Adds what a figure of that round is above that of who has nothing between.
    pub(crate) fn add_difference(
        &mut self,
        round: usize,
        workload: &'static str,
        of: &Figure,
        to: &'static Figure,
    ) {
        let values = self.row(workload, of).and_then(|row| row.rounds.get(round)).cloned();
        let values = values.unwrap_or_default();
        let direct = Row::value(&values, Kind::Direct);
        for (kind, value) in values.into_iter().filter(|(kind, _)| *kind != Kind::Direct) {
            self.add(round, workload, kind, vec![(to, value - direct)]);
        }
    }

    /// Notes that something could not be measured.
    pub(crate) fn fail(&mut self, what: String) {
        eprintln!("  {what}");
        self.failures.push(what);
    }

    pub(crate) fn row(&self, workload: &str, figure: &Figure) -> Option<&Row> {
        self.rows.iter().find(|row| row.workload == workload && row.figure == figure)
    }
}
