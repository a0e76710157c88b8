//! The command line: one file per subcommand. Only this room prints.

mod admin;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// sysexits(3): the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// A highly available FTP gateway in front of AWS Transfer Family.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until SIGTERM, then drain.
    Serve(ConfigFile),
    /// Say whether a configuration file will do, and if not, what to change.
    Check(ConfigFile),
    /// Let the peer take over, then refuse new clients; sessions may finish.
    Drain(admin::DrainArguments),
    /// Take clients again after a drain or a failover.
    Resume(admin::Arguments),
    /// Let the peer take over, and go on serving who comes here.
    Failover(admin::Arguments),
    /// Run two gateways before two embedded FTP servers on this machine, to try ftpgate out.
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "/etc/ftpgate/ftpgate.toml"
    )]
    config: PathBuf,
}

/// Runs the subcommand.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(file) => serve::serve(&file.config),
        Command::Check(file) => check::check(&file.config),
        Command::Drain(arguments) => admin::drain(&arguments),
        Command::Resume(arguments) => admin::resume(&arguments),
        Command::Failover(arguments) => admin::fail_over(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::demo(arguments),
    }
}
