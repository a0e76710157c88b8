//! How often the protocol asks for memory: by a command, by a transfer, and for a session that is
//! idle. Each is exact, so that one more is seen. A test binary of its own, as it has an allocator that
//! counts (each thread's by itself).

// These lints spare functions marked #[test], but not what such functions call.
#![allow(missing_docs, clippy::expect_used)]

#[path = "../benches/common/session.rs"]
mod session;

use allocation_counter::{AllocationInfo, measure};
use ftpgate::ftp::Dialogue;

use session::Session;

/// What it takes when it is not the first of its kind, which makes room that stays.
fn counted(mut step: impl FnMut(&mut Session)) -> AllocationInfo {
    let mut session = Session::logged_in();
    step(&mut session);
    let (answers, complete) = (session.answers, session.complete);
    let counted = measure(|| step(&mut session));
    assert!(session.is_idle() && session.answers > answers, "it was not answered");
    assert!(complete == 0 || session.complete == complete + 1, "it was not complete");
    assert_eq!(counted.count_current, 0, "it leaves something behind");
    counted
}

#[test]
fn a_noop_takes_three_allocations() {
    // The client's line, the upstream's, and the reply.
    assert_eq!(counted(Session::noop).count_total, 3);
}

#[test]
fn a_transfer_takes_nine_allocations() {
    // Four of them for PASV, which is EPSV upstream, and both its replies. Then the client's command, the
    // upstream's, what is kept of the transfer, and the upstream's two replies.
    assert_eq!(counted(Session::download).count_total, 9);
    assert_eq!(counted(Session::upload).count_total, 9);
}

#[test]
fn an_idle_session_holds_little() {
    let mut session = None;
    let held = measure(|| session = Some(Session::logged_in()));
    assert!(session.is_some_and(|session| session.is_idle()));
    assert!(held.bytes_current <= 1024, "{} bytes", held.bytes_current);
    assert!(size_of::<Dialogue>() <= 640, "{} bytes", size_of::<Dialogue>());
}
