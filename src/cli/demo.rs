//! `ftpgate demo`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::{Log, LogFormat};
use crate::demo::{self, Event, Options, Overview, PASSWORD, Step, USER};
use crate::observe::log;

/// What `ftpgate demo` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Move files through both gateways, compare them by SHA-256, and exit.
    #[arg(long)]
    self_test: bool,
    /// Serve this directory, made if need be, instead of a temporary one.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Control port of gateways and endpoints.
    #[arg(long, default_value_t = Options::default().port)]
    port: u16,
    /// Port of the status page, health and metrics.
    #[arg(long, default_value_t = Options::default().http_port, value_name = "PORT")]
    http_port: u16,
    /// Passive ports of each gateway.
    #[arg(long, default_value = "8192-8200", value_name = "FIRST-LAST", value_parser = port_range)]
    passive_ports: RangeInclusive<u16>,
}

/// Runs until it is interrupted, or until the self-test is over; a step that failed is a failure.
#[expect(clippy::print_stderr, reason = "a command's answer")]
pub(super) fn demo(arguments: Arguments) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let options = Options {
        directory: arguments.directory,
        port: arguments.port,
        http_port: arguments.http_port,
        passive_ports: arguments.passive_ports,
    };
    // The gateways' warnings; what else they log would hide what is told here.
    log::init(&Log { level: "ftpgate=warn".into(), format: LogFormat::Text })?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    // Whoever reads this may have seen enough and closed the pipe: no reason to stop.
    let mut tell = |event| drop(std::io::stdout().write_all(text(event).as_bytes()));
    runtime.block_on(async {
        match arguments.self_test {
            true => demo::self_test(&options, &mut tell).await,
            false => demo::run(&options, &mut tell).await,
        }
    })
}

fn text(event: Event) -> String {
    match event {
        Event::Ready(overview) => overview_text(&overview),
        Event::Step(Step { name, took, failure: None }) => {
            format!("ok   {:7.3} s  {name}\n", took.as_secs_f32())
        }
        Event::Step(Step { name, took, failure: Some(failure) }) => {
            format!("FAIL {:7.3} s  {name}\n                {failure}\n", took.as_secs_f32())
        }
        Event::Summary { steps, failed: 0, took } => format!(
            "{steps} steps in {:.1} s, all right: each file came back with the SHA-256 it went in with.\n",
            took.as_secs_f32()
        ),
        Event::Summary { steps, failed, took } => {
            format!("{failed} of {steps} steps failed, in {:.1} s.\n", took.as_secs_f32())
        }
    }
}

fn overview_text(overview: &Overview) -> String {
    let mut text = String::from("Two gateways before two FTP endpoints over one directory:\n\n");
    for zone in &overview.zones {
        let _ = writeln!(
            text,
            "  {}  ftp://{}  prefers the endpoint {}; status page http://{}/",
            zone.gateway, zone.control, zone.endpoint, zone.http
        );
    }
    let _ = writeln!(text, "  directory  {}", overview.directory.display());
    let _ = writeln!(text, "  user {USER}, password {PASSWORD}");
    let [first, .., last] = overview.zones.as_slice() else { return text };
    let (to, from, http) = (first.control, last.control, first.http);
    let (host, port) = (to.ip(), to.port());
    let _ = write!(
        text,
        "
Send a file through the one, fetch it through the other:

  curl -T README.md ftp://{USER}:{PASSWORD}@{to}/
  curl ftp://{USER}:{PASSWORD}@{from}/README.md
  curl ftp://{USER}:{PASSWORD}@{from}/

Or with a client that asks:

  lftp -u {USER},{PASSWORD} -p {port} {host}
  ftp -p {host} {port}

What a gateway says of itself (and here, below, of each transfer):

  curl http://{http}/readyz
  curl http://{http}/metrics

Ctrl-C ends it.
"
    );
    text
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err("expected FIRST-LAST, such as 8192-8200".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_first_and_last() {
        for (text, range) in [
            ("8192-8200", Some(8192..=8200)),
            ("9000", Some(9000..=9000)),
            ("8200-8192", None),
            ("0-9", None),
            ("8192-", None),
            ("8192-82000", None),
        ] {
            assert_eq!(port_range(text).ok(), range, "{text}");
        }
    }
}
