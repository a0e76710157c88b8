//! What subcommands print: tables, sizes and durations for people, JSON for scripts.
//!
//! Names come from clients and servers, who may wish the terminal ill: everything that is printed
//! goes through [`safe`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::observe::log::one_line;

/// As it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// As it should not be.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Something goes on.
pub(super) const BUSY: Style = AnsiColor::Cyan.on_default();
/// To be noticed.
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();
/// Titles.
pub(super) const TITLE: Style = Style::new().bold();
/// Nothing to see.
pub(super) const PLAIN: Style = Style::new();

/// Columns under titles, as wide as what is in them.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// One field of it.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// Text as it came.
    pub(super) fn new(text: &str) -> Self {
        Self { text: safe(text).into_owned(), style: PLAIN, right: false }
    }

    /// Text, or a dash.
    pub(super) fn or_dash(text: Option<&str>) -> Self {
        Self::new(text.filter(|text| !text.is_empty()).unwrap_or("-"))
    }

    /// A number, at the right.
    pub(super) fn number(text: impl ToString) -> Self {
        Self { right: true, ..Self::new(&text.to_string()) }
    }

    pub(super) fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

impl Table {
    /// Without titles.
    pub(super) fn untitled() -> Self {
        Self { rows: Vec::new() }
    }

    /// A column whose title begins with `>` has its title at the right, as its numbers are.
    pub(super) fn new(titles: &[&str]) -> Self {
        let title = |title: &&str| match title.strip_prefix('>') {
            Some(title) => Cell::number(title).style(TITLE),
            None => Cell::new(title).style(TITLE),
        };
        Self { rows: vec![titles.iter().map(title).collect()] }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Its lines. The colours in them are for [`print`] to leave out.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut blanks = 0;
            for (cell, width) in row.iter().zip(&widths) {
                let Cell { text: word, style, right } = cell;
                let padding = width - word.chars().count();
                let (before, after) = if *right { (padding, 0) } else { (0, padding) };
                // None at the end of a line.
                let _ = write!(text, "{:1$}{style}{word}{style:#}", "", blanks + before);
                blanks = after + 2;
            }
            text.push('\n');
        }
        text
    }
}

/// Prints text with colours if the terminal has them, and says whether anybody still reads. Whoever
/// read may have seen enough and closed the pipe: no reason to complain.
pub(super) fn print(text: &str) -> bool {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Prints one line of JSON, in which nothing stands raw that a terminal would obey.
pub(super) fn print_json(value: &Value) -> bool {
    print(&format!("{}\n", one_line(&value.to_string())))
}

/// Text for a terminal: control characters, and those that turn the direction of what stands beside
/// them or cannot be seen, are escaped as in JSON.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    let invisible = |char: char| {
        matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
    };
    let line = one_line(text);
    if !line.contains(invisible) {
        return line;
    }
    line.chars()
        .fold(String::new(), |mut shown, char| {
            match invisible(char) {
                true => drop(write!(shown, "\\u{:04x}", u32::from(char))),
                false => shown.push(char),
            }
            shown
        })
        .into()
}

/// `17 B`, `1.2 KiB`, `35.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut unit) = (bytes as f64, "B");
    for next in UNITS {
        // What would be shown as 1024.0.
        if amount < 1023.95 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

/// `7s`, `3m 12s`, `2h 5m`, `3d 4h`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// The time since then; nothing if that is no time.
pub(super) fn ago(time: &str) -> Option<Duration> {
    let time = humantime::parse_rfc3339(time).ok()?;
    // A clock that was set back meanwhile counts as none.
    Some(SystemTime::now().duration_since(time).unwrap_or_default())
}

/// `0.4 ms`, `12 ms`, `1.50 s`: what a stage of a probe took.
pub(super) fn took(seconds: f64) -> String {
    match seconds * 1000.0 {
        millis if millis < 10.0 => format!("{millis:.1} ms"),
        millis if millis < 1000.0 => format!("{millis:.0} ms"),
        _ => format!("{seconds:.2} s"),
    }
}

/// `1 session`, `2 sessions`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["NAME", ">SIZE", "STATE"]);
        table.row(vec![Cell::new("räksmörgås"), Cell::number(7), Cell::new("ok").style(GOOD)]);
        table.row(vec![Cell::or_dash(None), Cell::number(1234), Cell::or_dash(Some(""))]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "NAME        SIZE  STATE\nräksmörgås     7  ok\n-           1234  -\n");
        assert!(table.render().contains("\u{1b}[32mok\u{1b}[0m"));
    }

    #[test]
    fn sizes_and_durations_are_for_people() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (35 << 20, "35.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (192, "3m 12s"),
            (7500, "2h 5m"),
            (86_400 * 3 + 4 * 3600, "3d 4h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), shown);
        }
        for (seconds, shown) in [(0.000_42, "0.4 ms"), (0.012, "12 ms"), (1.5, "1.50 s")] {
            assert_eq!(took(seconds), shown);
        }
        assert_eq!(
            (count(1, "session"), count(0, "session")),
            ("1 session".into(), "0 sessions".into())
        );
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        for (text, shown) in [
            ("in voice.csv", "in voice.csv"),
            ("a\u{1b}[2J\r\nb\u{7f}\u{9b}", "a\\u001b[2J\\u000d\\u000ab\\u007f\\u009b"),
            ("gpj.\u{202e}exe\u{200b}", "gpj.\\u202eexe\\u200b"),
        ] {
            assert_eq!(safe(text), shown);
            assert_eq!(Cell::new(text).text, shown);
        }
    }

    #[test]
    fn a_time_that_is_none_is_no_age() {
        assert_eq!(ago("yesterday"), None);
        assert_eq!(ago("2999-01-01T00:00:00Z"), Some(Duration::ZERO));
        assert!(ago("2026-01-01T00:00:00.123Z").is_some());
    }
}
