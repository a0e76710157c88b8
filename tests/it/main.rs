//! The gateway as a whole: the built binary between real FTP servers and real FTP clients.
//!
//! `tests/run` installs those. Every server and every gateway gets a loopback address of its own,
//! so tests run in parallel with fixed ports; tests wait for events, never for time to pass.

// These lints spare functions marked #[test], but not what such functions call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::panic_in_result_fn,
    clippy::string_slice,
    clippy::unchecked_time_subtraction,
    clippy::unreachable,
    clippy::print_stderr
)]

mod access;
mod active;
mod admin;
mod archive;
mod ascii;
mod choice;
mod discovery;
mod drain;
mod endpoint_loss;
mod ftps;
mod handover;
mod harness;
mod health;
mod hostile;
mod iam;
mod init;
mod instance_metadata;
mod interop;
mod ipv6;
mod lab;
mod limits;
mod logs;
mod matrix;
mod operate;
mod orders;
mod packages;
mod pool;
mod probe;
mod protocol;
mod proxy_protocol;
mod regressions;
mod reload;
mod resume;
mod round_trip;
mod secrets;
mod security;
mod start;
mod status_page;
mod topology;
mod truncation;
mod upstream;
mod upstream_tls;
mod verify;
mod watching;
