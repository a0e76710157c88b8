//! Tracing set-up.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// What the names of its fields in the journal begin with.
const JOURNAL_PREFIX: &str = "FTPGATE";

/// Sends this process's log to standard error or the journal. Call it once; a second call changes
/// nothing.
///
/// # Errors
///
/// If it shall go to the journal, and there is none.
pub fn init(config: &Log) -> io::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(&config.level));
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(tells_no_secret));
    let text = fmt::layer().with_writer(io::stderr).with_target(false);
    let _ = match config.format {
        LogFormat::Journald => {
            let journal = tracing_journald::layer()?;
            registry.with(journal.with_field_prefix(Some(JOURNAL_PREFIX.into()))).try_init()
        }
        LogFormat::Json => registry.with(text.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(text.with_ansi(io::stderr().is_terminal())).try_init(),
    };
    Ok(LogLevel(handle))
}

/// What changes the level of the log.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<Targets, Registry>);

impl LogLevel {
    /// From now on that much is logged.
    pub fn set(&self, level: &str) {
        // Fails only if there is no log any more.
        let _ = self.0.reload(filter(level));
    }
}

/// Checked when the configuration was read.
fn filter(level: &str) -> Targets {
    level.parse().unwrap_or_default()
}

/// At its trace level the AWS SDK shows whole requests, with the instance metadata service's token
/// in them.
fn tells_no_secret(event: &Metadata<'_>) -> bool {
    *event.level() != Level::TRACE || !event.target().starts_with("aws_")
}

/// A client's text for a line of a log: whatever could end the line, move the cursor or colour the
/// terminal that shows it is escaped as in JSON, `\u001b`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    let unsafe_in_a_line =
        |char: char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}');
    if !text.contains(unsafe_in_a_line) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .fold(String::with_capacity(text.len() + 16), |mut line, char| {
            if unsafe_in_a_line(char) {
                // Each of them is in the basic plane: four digits do.
                line.push_str(&format!("\\u{:04x}", u32::from(char)));
            } else {
                line.push(char);
            }
            line
        })
        .into()
}
