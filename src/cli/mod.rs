//! The command line: one file per subcommand. Only this room prints.

mod admin;
mod blocks;
mod check;
mod completions;
#[cfg(feature = "demo")]
mod demo;
mod endpoints;
mod init;
mod node;
mod output;
mod probe;
mod serve;
mod sessions;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// sysexits(3): no node answers.
const EX_UNAVAILABLE: u8 = 69;
/// sysexits(3): the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// What every subcommand's exit code means.
const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   refused or failed: no such session, a probe that failed, an order that cannot be carried out
  2   not understood: see --help
  69  no node answers at the admin socket, or it may not be opened
  78  the configuration is wrong";

/// A highly available FTP gateway in front of AWS Transfer Family.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until SIGTERM, then drain; take over from the one that runs, if one does.
    Serve(ConfigFile),
    /// Say whether a configuration file will do, and if not, what to change.
    Check(ConfigFile),
    /// Write a configuration file, from flags or by asking.
    #[command(after_help = init::EXAMPLES)]
    Init(init::Arguments),
    /// Show the role of a node and why, its pair and its endpoints.
    #[command(after_help = EXIT_CODES)]
    Status(status::Arguments),
    /// List the sessions of a node, or end some.
    #[command(after_help = EXIT_CODES)]
    Sessions(sessions::Arguments),
    /// Show the endpoints of a node, and how long the stages of their probes take.
    #[command(after_help = EXIT_CODES)]
    Endpoints(endpoints::Arguments),
    /// Probe endpoints now, from a node.
    #[command(after_help = EXIT_CODES)]
    Probe(probe::Arguments),
    /// Keep a listener's clients, a client or a user out, from now on and for a while.
    #[command(after_help = EXIT_CODES)]
    Block(blocks::BlockArguments),
    /// Let them in again; a client also out of its ban.
    #[command(after_help = EXIT_CODES)]
    Unblock(blocks::UnblockArguments),
    /// List what is blocked, and who is banned.
    #[command(after_help = EXIT_CODES)]
    Blocks(blocks::ListArguments),
    /// Let the peer take over, then refuse new clients; sessions may finish.
    #[command(after_help = EXIT_CODES)]
    Drain(admin::DrainArguments),
    /// Take clients again after a drain or a failover.
    #[command(after_help = EXIT_CODES)]
    Resume(node::NodeArguments),
    /// Let the peer take over, and go on serving who comes here.
    #[command(after_help = EXIT_CODES)]
    Failover(node::NodeArguments),
    /// Take up a changed configuration file, if it is good; sessions go on.
    #[command(after_help = EXIT_CODES)]
    Reload(node::NodeArguments),
    /// Start the program anew, as it is on disk now, and hand over to it: no client notices.
    #[command(after_help = EXIT_CODES)]
    Upgrade(node::NodeArguments),
    /// Print a script that completes subcommands and options in a shell.
    Completions(completions::CompletionsArguments),
    /// Print the manual page, or write those of all subcommands.
    #[command(hide = true)]
    Man(completions::ManArguments),
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

/// Runs the subcommand of the program, whose version that is.
pub fn main(version: &'static str) -> ExitCode {
    let program = Arguments::command().version(version);
    let given = Arguments::from_arg_matches(&program.clone().get_matches());
    match given.unwrap_or_else(|error| error.exit()).command {
        Command::Serve(file) => serve::serve(&file.config, version),
        Command::Check(file) => check::check(&file.config),
        Command::Init(arguments) => init::init(arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Sessions(arguments) => sessions::sessions(&arguments),
        Command::Endpoints(arguments) => endpoints::endpoints(&arguments),
        Command::Probe(arguments) => probe::probe(&arguments),
        Command::Block(arguments) => blocks::block(&arguments),
        Command::Unblock(arguments) => blocks::unblock(&arguments),
        Command::Blocks(arguments) => blocks::blocks(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments, program),
        Command::Man(arguments) => completions::man(&arguments, program),
        Command::Drain(arguments) => admin::drain(&arguments),
        Command::Resume(arguments) => admin::resume(&arguments),
        Command::Failover(arguments) => admin::fail_over(&arguments),
        Command::Reload(arguments) => admin::reload(&arguments),
        Command::Upgrade(arguments) => admin::upgrade(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::demo(arguments),
    }
}
