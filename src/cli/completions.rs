//! `ftpgate completions` and `ftpgate man`: what packages put where the shell and man(1) look.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_complete::Shell;

use super::node::{Trouble, finish};
use super::output::print;

/// What `ftpgate completions` takes.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// Whose.
    shell: KnownShell,
}

/// What `ftpgate man` takes.
#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// Write the pages of all subcommands into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints a script for the shell.
pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut command: clap::Command,
) -> ExitCode {
    let shell = match arguments.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ftpgate", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Prints ftpgate(1), or writes it and the pages of all subcommands.
pub(super) fn man(arguments: &ManArguments, command: clap::Command) -> ExitCode {
    let written = match &arguments.out {
        Some(directory) => write(directory, command),
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(command).render(&mut page);
            print(&String::from_utf8_lossy(&page));
            rendered
        }
    };
    let written = written.map(|()| ExitCode::SUCCESS);
    finish(written.map_err(|error| Trouble::Refused(error.to_string())))
}

fn write(directory: &Path, command: clap::Command) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}
