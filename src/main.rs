//! The `ftpgate` command: a thin binary over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftpgate::cli::main()
}
