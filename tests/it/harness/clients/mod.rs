//! FTP clients as people have them, one short run per operation.

pub(crate) mod curl;
mod ftplib;
mod lftp;
mod tnftp;

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seconds that one run may take; a client that hangs is a failure, not a wait.
const TIME_LIMIT: &str = "60";

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Curl,
    Ftplib,
    Lftp,
    Tnftp,
}

/// How it asks for a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Eprt,
    Epsv,
    Pasv,
    Port,
}

/// Whether it speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls<'a> {
    Off,
    /// By AUTH TLS, with data protected, trusting this authority's certificate.
    Explicit(&'a Path),
    /// From the first byte.
    Implicit(&'a Path),
}

/// What it is to do, with paths relative to the login directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation<'a> {
    Append {
        local: &'a Path,
        remote: &'a str,
    },
    Delete(&'a str),
    Download {
        remote: &'a str,
        local: &'a Path,
    },
    /// With the trailing slash left out.
    List(&'a str),
    MakeDirectory(&'a str),
    Mlsd(&'a str),
    Nlst(&'a str),
    RemoveDirectory(&'a str),
    Rename {
        from: &'a str,
        to: &'a str,
    },
    /// Completes what is there of `local`.
    Resume {
        remote: &'a str,
        local: &'a Path,
    },
    Upload {
        local: &'a Path,
        remote: &'a str,
    },
}

/// Where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) user: &'a str,
    pub(crate) mode: Mode,
    /// In TYPE A; uploads and downloads only.
    pub(crate) ascii: bool,
    pub(crate) tls: Tls<'a>,
}

impl<'a> Target<'a> {
    /// In the clear, and in TYPE I.
    pub(crate) fn new(address: SocketAddr, user: &'a str, mode: Mode) -> Self {
        Self { address, user, mode, ascii: false, tls: Tls::Off }
    }

    /// In active mode with TLS.
    fn is_private_callback(self) -> bool {
        self.tls != Tls::Off && matches!(self.mode, Mode::Port | Mode::Eprt)
    }
}

impl Tls<'_> {
    /// The certificate that is trusted.
    fn authority(self) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Explicit(path) | Self::Implicit(path) => Some(path.display().to_string()),
        }
    }

    fn scheme(self) -> &'static str {
        if matches!(self, Self::Implicit(_)) { "ftps" } else { "ftp" }
    }
}

impl Client {
    pub(crate) const ALL: [Self; 4] = [Self::Curl, Self::Lftp, Self::Tnftp, Self::Ftplib];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Ftplib => "ftplib",
            Self::Lftp => "lftp",
            Self::Tnftp => "tnftp",
        }
    }

    /// Whether it has that mode with that kind of address, and TLS if asked for.
    pub(crate) fn can(self, target: Target<'_>) -> bool {
        let ipv6 = target.address.is_ipv6();
        match (self, target.mode) {
            // It knows no TLS.
            (Self::Tnftp, _) if target.tls != Tls::Off => false,
            // These are for IPv4 only.
            (_, Mode::Pasv | Mode::Port) => !ipv6,
            // It says EPRT with IPv6 only.
            (Self::Lftp, Mode::Eprt) => ipv6,
            _ => true,
        }
    }

    /// Runs the operation in a process of its own: what it printed, or how it failed.
    pub(crate) fn run(
        self,
        target: Target<'_>,
        operation: Operation<'_>,
    ) -> Result<String, String> {
        let scratch = tempfile::tempdir().unwrap();
        let (mut command, script) = match self {
            Self::Curl if target.is_private_callback() => {
                (curl::libcurl(target, operation), curl::LIBCURL.into())
            }
            Self::Curl => (curl::curl(target, operation), String::new()),
            Self::Ftplib => (ftplib::ftplib(target, operation), ftplib::FTPLIB.into()),
            Self::Lftp => (limited("lftp"), lftp::script(target, operation)),
            Self::Tnftp => (tnftp::tnftp(), tnftp::script(target, operation)),
        };
        let input = scratch.path().join("script");
        std::fs::write(&input, script).unwrap();
        // Neither the user's settings nor a proxy may interfere.
        command.env("HOME", scratch.path()).env("LC_ALL", "C.UTF-8");
        ["ftp_proxy", "FTP_PROXY", "all_proxy", "ALL_PROXY"].iter().for_each(|name| {
            command.env_remove(name);
        });
        let output = command.stdin(Stdio::from(File::open(&input).unwrap())).output().unwrap();
        let printed = [&output.stdout[..], &output.stderr[..]]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .concat();
        let refused = match (self, operation) {
            // Its exit code says nothing about commands that it read.
            (Self::Tnftp, _) => {
                printed.lines().any(|line| tnftp::code(line).is_some_and(|code| code >= 400))
            }
            // It makes do with LIST when there is no MLSD.
            (Self::Lftp, Operation::Mlsd(_)) => !printed.contains("---> MLSD"),
            _ => false,
        };
        if output.status.success() && !refused {
            Ok(printed)
        } else {
            Err(format!("{}: {printed}", output.status))
        }
    }
}

fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", TIME_LIMIT, program]);
    command
}
