//! Tests against real FTP servers, real clients and hostile peers: one binary, one link.
//!
//! `tests/run` installs what they need. Each test takes its own addresses in 127.0.0.0/8, so that
//! fixed ports such as 2121 and 8192-8200 never meet.

mod harness;

mod truncation;
