//! Tracing set-up.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

/// Sends this process's log to standard error. Call it once; a second call changes nothing.
pub fn init(config: &Log) {
    // Checked when the configuration was read.
    let filter: Targets = config.level.parse().unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    let text = fmt::layer().with_writer(io::stderr).with_target(false);
    let _ = match config.format {
        LogFormat::Json => registry.with(text.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(text.with_ansi(io::stderr().is_terminal())).try_init(),
    };
}
