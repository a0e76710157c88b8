//! `ftpgate check`: is this configuration fit to serve?

use std::path::Path;
use std::process::ExitCode;

use humantime::format_duration;

use super::EX_CONFIG;
use super::output::count;
use crate::config::{Access, AuditArchive, Config, EndpointAddress, UpstreamTls, VerifyDirectory};
use crate::tls::{Acceptor, Connector, TrustError};

/// Where servers begin with TLS (RFC 4217 does not say so, but everybody does it).
const IMPLICIT_PORT: u16 = 990;

/// Reads the file and the certificate, binds nothing, and says what it means or what is wrong.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer")]
pub(super) fn check(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprint!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    if let Some(Err(error)) = config.tls.as_ref().map(Acceptor::load) {
        eprintln!("error: {}: {error}", path.display());
        return ExitCode::from(EX_CONFIG);
    }
    let tls = match config.upstream.tls.as_ref().map(|tls| upstream_tls(&config, tls)).transpose() {
        Ok(told) => told.unwrap_or_default(),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    println!("{}: ok", path.display());
    for listener in &config.listeners {
        println!("listens on: {}", listener.address);
    }
    println!("passive ports: {}-{}", config.passive.ports.start(), config.passive.ports.end());
    for endpoint in &config.upstream.endpoints {
        println!("endpoint: {}", endpoint.address);
    }
    print!("{tls}{}{}", access(&config), proof(&config));
    ExitCode::SUCCESS
}

/// What the rules come to, if there are any.
fn access(config: &Config) -> String {
    let Access { allows_others, rules, bans } = &config.access;
    let mut told = String::new();
    if !rules.is_empty() || !allows_others {
        let others = if *allows_others { "allowed" } else { "denied" };
        told += &format!("access: {}, all others {others}\n", count(rules.len(), "rule"));
    }
    if let Some(bans) = bans {
        let (window, duration) = (format_duration(bans.window), format_duration(bans.duration));
        told += &format!(
            "bans: {} in {window}, for {duration}\n",
            count(bans.failures as usize, "refused login")
        );
    }
    told
}

/// Where audit lines and uploads are kept or looked for, if they are.
fn proof(config: &Config) -> String {
    let mut told = String::new();
    if let Some(archive) = config.audit.as_ref().and_then(|audit| audit.archive.as_ref()) {
        let AuditArchive { bucket, prefix, spool, .. } = archive;
        told += &format!("audit archive: s3://{bucket}/{prefix}, spool: {}\n", spool.display());
    }
    for directory in config.verify.iter().flat_map(|verify| &verify.directories) {
        let VerifyDirectory { path, bucket, prefix } = directory;
        told += &format!("verifies: {path} is s3://{bucket}/{prefix}\n");
    }
    told
}

/// What TLS with the upstream means; the authorities are read.
fn upstream_tls(config: &Config, tls: &UpstreamTls) -> Result<String, TrustError> {
    let roots = Connector::load(tls)?.roots();
    let from = match &tls.ca {
        Some(path) => path.display().to_string(),
        None => "this system".into(),
    };
    let name = tls.server_name.as_deref().unwrap_or("the endpoint's own");
    let mode = if tls.implicit { "implicit" } else { "explicit" };
    let mut told = format!("upstream TLS: {mode}, name: {name}, authorities of {from}: {roots}\n");
    for endpoint in &config.upstream.endpoints {
        let port = match &endpoint.address {
            EndpointAddress::Fixed(address) => address.port(),
            EndpointAddress::Name { port, .. } => *port,
        };
        if tls.implicit && port == 21 || !tls.implicit && port == IMPLICIT_PORT {
            told += &format!(
                "note: {} is a port for {} TLS at most servers\n",
                endpoint.address,
                if tls.implicit { "explicit" } else { "implicit" }
            );
        }
    }
    Ok(told)
}
