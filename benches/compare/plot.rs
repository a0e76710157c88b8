//! The main figures as bars: a panel for each, as SVG.

use std::fmt::Write;

use crate::peers::Kind;
use crate::report::short;
use crate::results::{
    ADDED_P50, ADDED_P99, CPU_GIB, FILES, Figure, MEMORY_SESSION, Results, Row, SESSIONS,
    THROUGHPUT,
};

/// In pixels, as all that follow.
const BAR: usize = 18;
const TITLE: usize = 34;
const NAMES: usize = 110;
const BARS: usize = 230;
const PANEL: usize = NAMES + BARS + 80;
const COLUMNS: usize = 2;

static PANELS: [(&str, &Figure); 14] = [
    ("bulk-up-1", &CPU_GIB),
    ("bulk-up-1", &THROUGHPUT),
    ("bulk-down-1", &CPU_GIB),
    ("bulk-down-1", &THROUGHPUT),
    ("bulk-up-4", &CPU_GIB),
    ("bulk-up-4", &THROUGHPUT),
    ("bulk-down-4", &CPU_GIB),
    ("bulk-down-4", &THROUGHPUT),
    ("files-up", &FILES),
    ("files-down", &FILES),
    ("noop", &ADDED_P50),
    ("noop", &ADDED_P99),
    ("churn", &SESSIONS),
    ("crowd", &MEMORY_SESSION),
];

/// What was measured of it.
pub(crate) fn draw(results: &Results, kinds: &[Kind]) -> String {
    let rows = PANELS.iter().filter_map(|&(workload, figure)| results.row(workload, figure));
    let rows: Vec<&Row> = rows.collect();
    let (width, height) = (PANEL * COLUMNS, panel_height(kinds) * rows.len().div_ceil(COLUMNS));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (number, row) in rows.into_iter().enumerate() {
        let (x, y) = (number % COLUMNS * PANEL, number / COLUMNS * panel_height(kinds));
        panel(&mut svg, row, kinds, x, y);
    }
    svg + "</svg>\n"
}

fn panel_height(kinds: &[Kind]) -> usize {
    TITLE + BAR * kinds.len() + BAR
}

fn panel(svg: &mut String, row: &Row, kinds: &[Kind], x: usize, y: usize) {
    let better = if row.figure.more { "more is better" } else { "less is better" };
    let title = format!("{}: {} ({better})", row.workload, row.figure.name);
    let (name_end, bar) = (x + NAMES - 6, x + NAMES);
    let mut add = |text: String| writeln!(svg, "{text}").unwrap();
    add(format!("<text x=\"{bar}\" y=\"{}\" font-weight=\"bold\">{title}</text>", y + 22));
    let medians: Vec<f64> = kinds.iter().map(|&kind| row.median(kind)).collect();
    let most =
        medians.iter().copied().filter(|it| it.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
    for (line, (kind, median)) in kinds.iter().zip(medians).enumerate() {
        let top = y + TITLE + BAR * line;
        let text = top + BAR - 5;
        add(format!(
            "<text x=\"{name_end}\" y=\"{text}\" text-anchor=\"end\">{}</text>",
            kind.name()
        ));
        let (length, label) = match median.is_finite() {
            true => ((median / most).max(0.0) * BARS as f64, short(median)),
            false => (0.0, "-".into()),
        };
        let colour = if *kind == Kind::Ftpgate { "#d9480f" } else { "#868e96" };
        let high = BAR - 4;
        add(format!(
            "<rect x=\"{bar}\" y=\"{}\" width=\"{length:.1}\" height=\"{high}\" fill=\"{colour}\"/>",
            top + 2
        ));
        add(format!("<text x=\"{:.1}\" y=\"{text}\">{label}</text>", bar as f64 + length + 5.0));
    }
}
