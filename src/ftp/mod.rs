//! The FTP protocol without I/O: no sockets, no tasks, no clock, no names.
//!
//! | file | what it holds |
//! |---|---|
//! | [`mod@line`] | bytes to lines, bounded; telnet sequences inside them |
//! | [`command`] | a client's line as verb and argument |
//! | [`reply`] | an upstream's reply, kept byte for byte |
//! | [`hostport`] | the address spellings of 227, 229, PORT and EPRT |
//! | [`feat`] | what a FEAT reply may claim behind this gateway |
//! | [`ascii`] | line ends of files in ASCII type |
//! | [`dialogue`] | the session state machine |
//!
//! Everything here is deterministic, so that property tests and fuzzing can own it.

pub mod ascii;
pub mod command;
pub mod dialogue;
pub mod feat;
pub mod hostport;
pub mod line;
pub mod reply;

pub use command::{Command, Direction, Verb};
pub use dialogue::{Action, Dialogue, Outcome, Place, SessionEnd};
pub use reply::Reply;
