//! One transfer by curl, the same for all, and what it took.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::files::{Files, assert_same};
use crate::harness::servers::PASSWORD;
use crate::{Subject, cpu};

/// Seconds after which a transfer counts as hung.
const TIME_LIMIT: &str = "300";
/// The name of a file while it is uploaded.
const UPLOADED: &str = "uploaded";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// The version and cipher of all TLS here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Suite {
    Tls12,
    Tls13,
}

/// What one transfer took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// All of curl's run, login and handshakes included.
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Up, Self::Down];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Suite {
    /// As curl names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2 / ECDHE-ECDSA-AES256-GCM-SHA384",
            Self::Tls13 => "TLSv1.3 / TLS_AES_256_GCM_SHA384",
        }
    }

    fn options(self) -> [&'static str; 5] {
        match self {
            Self::Tls12 => {
                ["--tlsv1.2", "--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"]
            }
            Self::Tls13 => {
                ["--tlsv1.3", "--tls-max", "1.3", "--tls13-ciphers", "TLS_AES_256_GCM_SHA384"]
            }
        }
    }
}

/// Moves the file, and panics unless all of it has arrived.
pub(crate) fn run(
    subject: &Subject<'_>,
    direction: Direction,
    suite: Suite,
    authority: &Path,
    files: &Files,
) -> Cost {
    let pair = if subject.ascii { &files.text } else { &files.binary };
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "-v", "--max-time", TIME_LIMIT, "--no-ftp-skip-pasv-ip"]);
    curl.args(["-u", &format!("{}:{PASSWORD}", subject.user)]);
    if subject.tls {
        curl.args(["--ssl-reqd", "--cacert"]).arg(authority).args(suite.options());
    }
    if subject.ascii {
        // Behind curl's own TYPE I, so that curl itself translates nothing.
        curl.args(["-Q", "+TYPE A"]);
    }
    let url = |name: &str| format!("ftp://{}/{name}", subject.address);
    match direction {
        Direction::Up => curl.arg("-T").arg(&pair.wire).arg(url(UPLOADED)),
        Direction::Down => {
            let name = pair.stored.file_name().unwrap().to_string_lossy();
            // Without SIZE, which ASCII type has no answer to.
            curl.args(["--ignore-content-length", "-o"]).arg(&files.download).arg(url(&name))
        }
    };
    let before = cpu::used(subject.process);
    let started = Instant::now();
    let output = curl.output().unwrap();
    let elapsed = started.elapsed();
    let cpu = cpu::used(subject.process) - before;
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}, {}: {log}", subject.name, direction.name());
    if subject.tls {
        // The control and the data connection.
        let agreed = format!("SSL connection using {}", suite.name());
        assert_eq!(log.matches(&agreed).count(), 2, "{}: {log}", subject.name);
    }
    let (arrived, expected) = match direction {
        Direction::Up => (files.root.join(UPLOADED), &pair.stored),
        Direction::Down => (files.download.clone(), &pair.wire),
    };
    assert_same(&arrived, expected);
    fs::remove_file(arrived).unwrap();
    Cost { elapsed, cpu }
}
