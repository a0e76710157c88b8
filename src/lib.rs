//! ftpgate: a highly available FTP gateway in front of AWS Transfer Family.
//!
//! # The rooms
//!
//! A room knows only the rooms below it in this list.
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`] | one file per subcommand; the only place that prints |
//! | `demo` | `ftpgate demo`: endpoints, gateways and a self-test in one process (feature `demo`) |
//! | [`http`] | health, metrics and the status page over HTTP, read-only; the admin API on a Unix socket |
//! | [`handover`] | a new process of this node takes over from the one that runs |
//! | [`ha`] | the pair: the role of this node, the lease between the nodes, what steers clients to the active one |
//! | [`gateway`] | listeners, the session driver, the passive port pool, transfers, the relay, drain |
//! | [`upstream`] | the endpoints behind the gateway: finding, watching, choosing and reaching them |
//! | [`probe`] | one probe of one endpoint: connect, banner, login, list, round trip |
//! | [`verify`] | whether uploads that got 226 are in their buckets |
//! | [`archive`] | the audit log's way to S3, over a spool on disk |
//! | [`aws`] | thin adapters to AWS |
//! | [`dns`] | names and their addresses |
//! | [`outbound`] | connections to the upstream, from a chosen local address, and the first words on them |
//! | [`tls`] | one TLS connection without its socket; the certificate of this node; whom it trusts upstream |
//! | [`systemd`] | what it is told, and the sockets that it has opened |
//! | [`observe`] | metrics, their last hour, recent events, the audit log, tracing set-up |
//! | [`config`] | the TOML file: its shape, its checks, its error messages |
//! | [`ftp`] | the protocol without I/O: lines, commands, replies, host-ports, the dialogue |
//! | `lock`, `rfc3339` | what all of them do in the same way |
//!
//! # The life of a session
//!
//! [`gateway`] accepts a control connection (a trusted balancer must first say whose it is), checks
//! the rules and the limits, and asks [`upstream`] for an endpoint that answers with a banner. From
//! then on one task owns both control connections. It feeds client lines, upstream replies, data
//! connection events and timers to [`ftp::Dialogue`], which answers with actions; the task performs them and decides nothing.
//! At USER the rules are asked again, and say what this user may do and where.
//! PASV and EPSV reserve a port of the shared pool; the client's data connection is matched to
//! its session there, the upstream's data port is dialled, and the relay moves the bytes. When the
//! upstream connection is lost, the dialogue asks for another one at the client's next command and
//! replays there what the session has set.
//!
//! # What does not exist here
//!
//! - Nothing under [`ftp`] does I/O, awaits, or reads a clock.
//! - No path turns an aborted transfer into a clean end: data sockets are armed to reset from
//!   birth and only a transfer that both sides have proven complete is closed with FIN.
//! - No password reaches a log, a metric or the audit trail.
//! - No lock is held across an await, and no queue is unbounded.

// Unlike the others that find panics, these lints know no tests.
#![cfg_attr(
    test,
    allow(clippy::string_slice, clippy::unchecked_time_subtraction, clippy::unreachable)
)]

pub mod archive;
pub mod aws;
pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dns;
pub mod ftp;
pub mod gateway;
pub mod ha;
pub mod handover;
pub mod http;
mod lock;
pub mod observe;
pub mod outbound;
pub mod probe;
mod rfc3339;
pub mod systemd;
pub mod tls;
pub mod upstream;
pub mod verify;
