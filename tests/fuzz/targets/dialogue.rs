//! Both peers hostile at once, and every data connection event, through the dialogue.
#![no_main]

use ftpgate::ftp::command::{Command, Direction, Verb};
use ftpgate::ftp::dialogue::{
    Action, Ascii, Commands, DataFailure, Dialogue, Outcome, Permit, Security, SessionEnd, Terms, Verdict,
};
use ftpgate::ftp::line::Lines;
use ftpgate::ftp::reply::Replies;
use libfuzzer_sys::fuzz_target;

#[path = "../../../src/ftp/dialogue/judge.rs"]
mod judge;

use judge::{Step, judge};

fuzz_target!(|input: Vec<(u8, Vec<u8>)>| {
    let steps: Vec<Step> = input.into_iter().map(step).collect();
    if let Err(broken) = judge(&steps) {
        panic!("{broken}\n{steps:?}");
    }
});

fn step((kind, bytes): (u8, Vec<u8>)) -> Step {
    let line = |text: &str| format!("{text}\r\n").into_bytes();
    match kind % 46 {
        0 => Step::Client(bytes),
        1 => Step::Upstream(bytes),
        2 => Step::ClientClosed,
        3 => Step::UpstreamClosed,
        4 => Step::Timeout,
        5 => Step::Exhausted,
        6 => Step::Expired,
        7 => Step::DialFailed,
        8 => Step::Failed(DataFailure::Client),
        9 => Step::Failed(DataFailure::Upstream),
        10 | 11 => Step::Opened,
        12 | 13 => Step::Ended,
        14 | 15 => Step::Reserved,
        16 => Step::Client(line("USER a\r\nPASS b\r\nPASV")),
        17 => Step::Upstream(line("331 a\r\n230 b\r\n229 (|||8000|)")),
        18 => Step::Client(line("STOR f")),
        19 => Step::Client(line("RETR f\r\nNOOP")),
        20 => Step::Client(line("ABOR")),
        21 => Step::Upstream(line("226 done")),
        22 => Step::Upstream(line("150 go")),
        23 | 24 => Step::UpstreamLost,
        25 | 26 => Step::UpstreamConnected,
        27 => Step::ReconnectFailed,
        28 => Step::Upstream(line("250 ok")),
        30 => Step::Client(line("REST 9\r\nCWD /a")),
        31 => Step::Upstream(line("350 go\r\n250 ok")),
        32 => Step::Unreachable,
        33 => Step::Secured,
        34 => Step::Client(line("AUTH TLS")),
        35 => Step::Client(line("PBSZ 0\r\nPROT P")),
        36 => Step::Client(line("PORT 127,0,0,1,200,1")),
        37 => Step::Client(line("TYPE A")),
        38 => Step::Failed(DataFailure::NotResumed),
        39 => Step::Client(line("USER limited\r\nPASS b\r\nPASV")),
        40 => Step::Client(line("USER remote\r\nPASS b")),
        41 => Step::Client(line("USER denied\r\nDELE f")),
        42 => Step::Upstream(line("530 no")),
        43 => Step::PenaltyOver { banned: false },
        44 => Step::PenaltyOver { banned: true },
        _ => Step::Upstream(line("426 cut")),
    }
}
