//! Sequences of events that nobody thought of, judged.

use proptest::prelude::*;

use super::super::judge::{LINE_LIMIT, Step, judge};
use super::*;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lines = [
        "USER a",
        "USER denied",
        "USER limited",
        "USER remote",
        "PASS b",
        "PASV",
        "EPSV",
        "EPSV ALL",
        "STOR f",
        "RETR f",
        "LIST",
        "ABOR",
        "NOOP",
        "STAT",
        "QUIT",
        "ALLO 50",
        "PWD",
        "CWD /a",
        "CDUP",
        "TYPE I",
        "REST 9",
        "RNFR f",
        "RNTO g",
        "DELE f",
        "ACCT c",
        "SITE UMASK 7",
        "AUTH TLS",
        "PBSZ 0",
        "PROT P",
        "CCC",
        "PORT 127,0,0,1,200,1",
        "EPRT |1|127.0.0.1|51201|",
        "PORT 10,0,0,5,31,64",
        "TYPE A",
        "TYPE I",
        "TYPE L 8",
        "SIZE f",
        "HELP",
        "MODE B",
        "REIN",
        "",
        "FEAT",
        "\u{0}",
        "a\rb",
    ];
    let replies = [
        "150 go",
        "200 ok",
        "211 st",
        "221 bye",
        "225 no",
        "226 done",
        "227 (1,2,3,4,31,64)",
        "229 (|||8000|)",
        "229 bad",
        "230 in",
        "250 done",
        "257 \"/a\"",
        "331 pw",
        "350 go",
        "421 off",
        "425 no",
        "426 cut",
        "500 what",
        "502 no",
        "530 in",
        "550 no",
    ];
    let failures = DataFailure::ALL;
    let line = |text: &str| format!("{text}\r\n").into_bytes();
    let step = prop_oneof![
        12 => proptest::sample::select(lines.to_vec()).prop_map(move |text| Step::Client(line(text))),
        16 => proptest::sample::select(replies.to_vec()).prop_map(move |text| Step::Upstream(line(text))),
        1 => Just(Step::Client(b"x".repeat(LINE_LIMIT + 2))),
        4 => Just(Step::Opened),
        4 => Just(Step::Ended),
        1 => proptest::sample::select(failures.to_vec()).prop_map(Step::Failed),
        1 => Just(Step::DialFailed),
        1 => Just(Step::Expired),
        1 => Just(Step::Unreachable),
        2 => Just(Step::Secured),
        4 => Just(Step::Reserved),
        1 => Just(Step::Exhausted),
        1 => Just(Step::Timeout),
        3 => proptest::bool::weighted(0.2).prop_map(|banned| Step::PenaltyOver { banned }),
        1 => Just(Step::ClientClosed),
        1 => Just(Step::UpstreamClosed),
        2 => Just(Step::UpstreamLost),
        4 => Just(Step::UpstreamConnected),
        1 => Just(Step::ReconnectFailed),
    ];
    // What chance alone seldom puts together: a command and its answer, a passive port, a loss and
    // the way back.
    let turn = |said: &str, answer: &str| {
        let (said, answer) = (Step::Client(line(said)), Step::Upstream(line(answer)));
        [said, answer].to_vec()
    };
    let active = turn("PORT 127,0,0,1,200,1", "229 (|||8000|)");
    let ascii = turn("TYPE A", "200 ok");
    let secured = [
        vec![Step::Client(line("AUTH TLS")), Step::Secured],
        vec![Step::Client(line("PBSZ 0\r\nPROT P"))],
    ]
    .concat();
    let passive = [turn("PASV", "229 (|||8000|)"), vec![Step::Reserved]].concat();
    let login = turn("USER a\r\nPASS b", "331 pw\r\n230 in");
    let limited = turn("USER limited\r\nPASS b", "331 pw\r\n230 in");
    let moved = [
        vec![Step::Client(line("USER remote\r\nPASS b")), Step::UpstreamConnected],
        vec![Step::Upstream(line("331 pw\r\n230 in"))],
    ]
    .concat();
    let guessed = turn("USER a\r\nPASS c", "331 pw\r\n530 no");
    let lost = [Step::UpstreamLost, Step::Client(line("NOOP"))].to_vec();
    let back = [Step::UpstreamConnected, Step::Upstream(line("331 pw\r\n230 in\r\n200 ok"))];
    let resumed = [lost.clone(), back.to_vec()].concat();
    let turns = [
        turn("REST 9", "350 go"),
        turn("RNFR f", "350 go"),
        turn("CWD /a", "250 ok"),
        turn("STOR f", "150 go"),
        passive.clone(),
        active.clone(),
        ascii.clone(),
        limited.clone(),
        guessed.clone(),
        [turn("DELE f", "250 done"), vec![Step::PenaltyOver { banned: false }]].concat(),
        lost,
        back.to_vec(),
        resumed.clone(),
    ];
    let steps = prop_oneof![
        4 => step.prop_map(|step| vec![step]),
        1 => proptest::sample::select(turns.to_vec()),
    ];
    // Most interesting things happen after a login with a passive port.
    let openings = [
        Vec::new(),
        [login.clone(), passive.clone()].concat(),
        [secured, login.clone(), ascii, active].concat(),
        [limited, passive.clone()].concat(),
        [moved.clone(), passive.clone()].concat(),
        [guessed, vec![Step::PenaltyOver { banned: false }], moved].concat(),
        [login, turn("REST 9", "350 go"), resumed, passive].concat(),
    ];
    let opening = proptest::sample::select(openings.to_vec());
    (opening, proptest::collection::vec(steps, 0..60)).prop_map(|(opening, steps)| {
        opening.into_iter().chain(steps.into_iter().flatten()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_told_twice_and_nothing_incomplete_is_told_as_done(steps in steps()) {
        prop_assert_eq!(judge(&steps), Ok(()));
    }
}
