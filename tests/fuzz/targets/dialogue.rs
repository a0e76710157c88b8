//! Both peers hostile at once, and every event of the data connections, through the dialogue.
//!
//! Each line of the input is what happens next, by its first byte:
//!
//! | | |
//! |---|---|
//! | `>`, `]`, `)` | the client sends the rest, with CRLF, LF or nothing behind it |
//! | `<`, `[`, `(` | the upstream likewise |
//! | anything else | each byte of the line is an event, as [`event`] has it |
#![no_main]

use ftpgate::ftp::command::{Command, Direction, Verb};
use ftpgate::ftp::dialogue::{
    Action, Ascii, Commands, DataFailure, Dialogue, Outcome, Permit, Security, SessionEnd, Terms,
    Verdict,
};
use ftpgate::ftp::line::Lines;
use ftpgate::ftp::reply::Replies;
use libfuzzer_sys::fuzz_target;

#[path = "../../../src/ftp/dialogue/judge/mod.rs"]
mod judge;

use judge::{Step, judge};

fuzz_target!(|input: &[u8]| {
    let steps: Vec<Step> = input.split(|&byte| byte == b'\n').flat_map(steps).collect();
    if let Err(broken) = judge(&steps) {
        panic!("{broken}\n{steps:?}");
    }
});

fn steps(line: &[u8]) -> Vec<Step> {
    match line {
        [b'>', text @ ..] => vec![Step::Client([text, b"\r\n"].concat())],
        [b']', text @ ..] => vec![Step::Client([text, b"\n"].concat())],
        [b')', text @ ..] => vec![Step::Client(text.to_vec())],
        [b'<', text @ ..] => vec![Step::Upstream([text, b"\r\n"].concat())],
        [b'[', text @ ..] => vec![Step::Upstream([text, b"\n"].concat())],
        [b'(', text @ ..] => vec![Step::Upstream(text.to_vec())],
        events => events.iter().copied().filter_map(event).collect(),
    }
}

fn event(byte: u8) -> Option<Step> {
    Some(match byte {
        b'r' => Step::Reserved,
        b'x' => Step::Exhausted,
        b'y' => Step::Expired,
        b'h' => Step::Unreachable,
        b'd' => Step::DialFailed,
        b'o' => Step::Opened,
        b'e' => Step::Ended,
        b'0'..=b'5' => Step::Failed(*DataFailure::ALL.get(usize::from(byte - b'0'))?),
        b'c' => Step::ClientClosed,
        b'u' => Step::UpstreamClosed,
        b'l' => Step::UpstreamLost,
        b'n' => Step::UpstreamConnected,
        b'f' => Step::ReconnectFailed,
        b's' => Step::Secured,
        b't' => Step::Timeout,
        b'p' => Step::PenaltyOver { banned: false },
        b'b' => Step::PenaltyOver { banned: true },
        _ => return None,
    })
}
