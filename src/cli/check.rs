//! `ftpgate check`: is this configuration fit to serve?

use std::path::Path;
use std::process::ExitCode;

use super::EX_CONFIG;
use crate::config::Config;
use crate::tls::Acceptor;

/// Reads the file and the certificate, binds nothing, and says what it means or what is wrong.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer")]
pub(super) fn check(path: &Path) -> ExitCode {
    match Config::load(path) {
        Ok(config) => {
            if let Some(Err(error)) = config.tls.as_ref().map(Acceptor::load) {
                eprintln!("error: {}: {error}", path.display());
                return ExitCode::from(EX_CONFIG);
            }
            println!("{}: ok", path.display());
            for listener in &config.listeners {
                println!("listens on: {}", listener.address);
            }
            println!(
                "passive ports: {}-{}",
                config.passive.ports.start(),
                config.passive.ports.end()
            );
            for endpoint in &config.upstream.endpoints {
                println!("endpoint: {}", endpoint.address);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("{error}");
            ExitCode::from(EX_CONFIG)
        }
    }
}
