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
    /// Whether it is one measured value less another, which noise may leave next to nothing of.
    difference: bool,
}

const fn more(name: &'static str) -> Figure {
    Figure { name, more: true, difference: false }
}

const fn less(name: &'static str) -> Figure {
    Figure { name, more: false, difference: false }
}

const fn added(name: &'static str) -> Figure {
    Figure { name, more: false, difference: true }
}

pub(crate) static THROUGHPUT: Figure = more("GiB/s");
pub(crate) static CPU_GIB: Figure = less("CPU s/GiB");
pub(crate) static MACHINE_GIB: Figure = less("whole machine's CPU s/GiB");
pub(crate) static FILES: Figure = more("files/s");
pub(crate) static CPU_FILE: Figure = less("CPU ms/file");
pub(crate) static SESSIONS: Figure = more("sessions/s");
pub(crate) static CPU_SESSION: Figure = less("CPU ms/session");
pub(crate) static P50: Figure = less("p50 us");
pub(crate) static P99: Figure = less("p99 us");
pub(crate) static ADDED_P50: Figure = added("added p50 us");
pub(crate) static ADDED_P99: Figure = added("added p99 us");
pub(crate) static CROWD: Figure = more("idle sessions");
pub(crate) static MEMORY_SESSION: Figure = less("KiB/idle session");
pub(crate) static START: Figure = less("MiB at the start");
pub(crate) static LEFT: Figure = less("left after all ended, of the start");
pub(crate) static TRANSLATED: Figure = more("line ends translated");

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
    /// Of differences, the ratio of their medians, if the other's says anything.
    pub(crate) fn ratio(&self, one: Kind, other: Kind) -> f64 {
        if self.figure.difference {
            let base = self.median(other);
            return if base > 0.0 { self.median(one) / base } else { f64::NAN };
        }
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
