//! The `ftpgate` command: a thin binary over the library.

use std::process::ExitCode;

/// With the package's revision, if `systemd/build-packages` built it. Here, and not in the library, so
/// that another revision is soon built.
const VERSION: &str = match option_env!("FTPGATE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    ftpgate::cli::main(VERSION)
}
