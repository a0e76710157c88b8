//! Tracing set-up, and whose session a line of the log is about.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use tokio::task_local;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, error_span};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat};

/// What the names of its fields in the journal begin with.
const JOURNAL_PREFIX: &str = "FTPGATE";

task_local! {
    /// The session that the running task is, by its number, and its client.
    static SESSION: (u64, SocketAddr);
}

/// Sends this process's log to standard error or the journal. Call it once; a second call changes
/// nothing.
///
/// # Errors
///
/// If it shall go to the journal, and there is none.
pub fn init(config: &Log) -> io::Result<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(&config.level));
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(tells_no_secret));
    let text = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let _ = match config.format {
        LogFormat::Journald => {
            let journal = tracing_journald::layer()?;
            registry
                .with(OfSession(journal.with_field_prefix(Some(JOURNAL_PREFIX.into()))))
                .try_init()
        }
        LogFormat::Json => registry.with(OfSession(text.json().flatten_event(true))).try_init(),
        LogFormat::Text => {
            let text = text.with_ansi(io::stderr().is_terminal()).fmt_fields(TextOfSession);
            registry.with(text).try_init()
        }
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

/// What is logged while `task` runs is about that session. (Not async itself: it would keep room for the
/// task twice.)
pub fn of_session<T>(
    id: u64,
    client: SocketAddr,
    task: impl Future<Output = T>,
) -> impl Future<Output = T> {
    SESSION.scope((id, client), task)
}

/// Has what a session logs within a span of that session, which is there for that line only. One for the
/// session's whole life would take memory as long, and hold it when 5,000 have ended: what tracing keeps of
/// each for the next lies among what they give back.
struct OfSession<L>(L);

/// Writes into a line of text what [`OfSession`] would have there, and makes no span for it.
struct TextOfSession;

impl<S: Subscriber, L: Layer<S>> Layer<S> for OfSession<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // Of the highest level, so that whatever is logged has it.
        let span = SESSION.try_with(|(id, client)| error_span!("session", id, %client));
        let _within = span.as_ref().map(|span| span.enter());
        self.0.on_event(event, context);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(span, values, context);
    }
}

impl<'a> FormatFields<'a> for TextOfSession {
    fn format_fields<R: RecordFields>(&self, mut text: Writer<'a>, fields: R) -> fmt::Result {
        let whose = |(id, client): &_| write!(text, "session{{id={id} client={client}}}: ");
        SESSION.try_with(whose).unwrap_or(Ok(()))?;
        DefaultFields::new().format_fields(text, fields)
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
