//! What servers say that no good server does, and what their clients hear of it.

use std::time::Duration;

use super::case::Case;
use super::client::Step;
use crate::harness::canned::Answer::{self, Do, Leave, Say};
use crate::harness::canned::{Act, CONTENT};

const LONG: &[u8] = &[b'x'; 64 * 1024];
/// 64 KiB of replies, and one reply of 64 KiB.
const MANY: &[u8] = &repeated(b"200 xxxxxxxxxx\r\n");
const ONE: &[u8] = &one(*b"200 ");
const WAITS: &[u8] = &repeated(b"150 xxxxxxxxxx\r\n");
/// As many times 64 KiB as nobody should take.
const MUCH: usize = 1024;
/// An EPSV that is none, so that PASV is asked.
const NO_EPSV: Answer = Say(b"502 no\r\n");
/// How long nothing may move, or be said, before the server is given up.
const IDLE: (&str, &str) = ("timeouts", "data_idle = \"300ms\"");
const SILENT: (&str, &str) = ("timeouts", "reply = \"1s\"");
/// So that each line of a flood is not one of the log, too.
const QUIET: (&str, &str) = ("log", "level = \"info\"");

const fn repeated(line: &[u8; 16]) -> [u8; 64 * 1024] {
    let (mut lines, mut at) = ([0; 64 * 1024], 0);
    while at < lines.len() {
        lines[at] = line[at % line.len()];
        at += 1;
    }
    lines
}

const fn one(code: [u8; 4]) -> [u8; 64 * 1024] {
    let mut line = [b'x'; 64 * 1024];
    [line[0], line[1], line[2], line[3]] = code;
    (line[64 * 1024 - 2], line[64 * 1024 - 1]) = (b'\r', b'\n');
    line
}

/// Each needs a gateway of its own.
pub(super) fn cases() -> Vec<Case> {
    let all = [banners(), ports(), extended_ports(), transfers(), replies(), floods()];
    all.into_iter().flatten().collect()
}

/// What greets a client, and who is not.
fn banners() -> Vec<Case> {
    let refused = |name: &str, banner| {
        Case::new(name, [Step::Hear(421), Step::End])
            .stranger()
            .banner(banner)
            .set("upstream", "banner_timeout = \"300ms\"")
            .never_told("evil")
    };
    vec![
        refused("no banner", b""),
        refused("banner 120, and no more", b"120 evil\r\n"),
        refused("banner 421", b"421 evil\r\n"),
        refused("banner of several lines that never ends", b"220-evil\r\n220-evil\r\n"),
        refused("banner of another protocol", b"SSH-2.0-evil\r\n"),
        Case::new("banner of several lines, with 227", [Step::Hear(220)])
            .stranger()
            .banner(b"220-227 (10,0,0,5,0,22)\r\n227 (10,0,0,5,0,22)\r\n220 in\r\n"),
    ]
}

/// A listing by PASV.
fn listing() -> Vec<Step> {
    let mut steps = asked("LIST");
    steps.extend([Step::Hear(150), Step::Get(CONTENT), Step::Hear(226)]);
    steps
}

/// PASV, the data connection, and a command.
fn asked(command: &str) -> Vec<Step> {
    let command: &'static [u8] = match command {
        "LIST" => b"LIST\r\n",
        "RETR" => b"RETR f\r\n",
        _ => b"STOR f\r\n",
    };
    vec![Step::Say(b"PASV\r\n"), Step::Promised, Step::Open, Step::Say(command)]
}

/// Where a 227 leads.
fn ports() -> Vec<Case> {
    let announces = |name: &str, steps: Vec<Step>, answer| {
        Case::new(name, steps).on("EPSV", NO_EPSV).on("PASV", Say(answer))
    };
    let followed = |name: &str, answer| announces(name, listing(), answer).never_told("10,0,0,5");
    let refused = |name: &str, code, answer| {
        let steps = [Step::Say(b"PASV\r\n"), Step::Hear(code), Step::Say(b"LIST\r\n")];
        announces(name, [&steps[..], &[Step::Hear(425)]].concat(), answer)
    };
    vec![
        followed("227 with another host", b"227 ok (10,0,0,5,{high,low})\r\n"),
        followed("227 with 0.0.0.0", b"227 ok (0,0,0,0,{high,low})\r\n"),
        followed("227 without parentheses", b"227 ok 10,0,0,5,{high,low}\r\n"),
        followed("227 byte by byte", b"227 ok (10,0,0,5,{high,low})\r\n").in_pieces(),
        followed(
            "227 of several lines, with another before",
            b"227-(10,0,0,5,0,22)\r\n227 (0,0,0,0,{high,low})\r\n",
        ),
        followed("227 with two addresses", b"227 (0,0,0,0,{high,low}) (10,0,0,5,0,22)\r\n"),
        refused(
            "227 with two addresses, the first evil",
            425,
            b"227 (10,0,0,5,0,22) (0,0,0,0,{high,low})\r\n",
        )
        .never_told("10,0,0,5"),
        refused("227 with port 22", 425, b"227 ok (0,0,0,0,0,22)\r\n"),
        refused("227 with a port out of range", 425, b"227 ok (0,0,0,0,{high,low})\r\n")
            .set("upstream", "passive_ports = \"2000-2999\""),
        refused("227 with port 0", 227, b"227 ok (1,2,3,4,0,0)\r\n"),
        refused("227 with a number over 255", 227, b"227 ok (1,2,3,4,5,600)\r\n"),
        refused("227 with five numbers", 227, b"227 ok (1,2,3,4,5)\r\n"),
        Case::new(
            "227 that nobody asked for",
            [Step::Say(b"SITE x\r\n"), Step::Hear(200), Step::Say(b"LIST\r\n"), Step::Hear(425)],
        )
        .on("SITE", Say(b"200 ok\r\n227 ok (10,0,0,5,{high,low})\r\n"))
        .never_told("10,0,0,5"),
        Case::new("227 for LIST", [asked("LIST"), vec![Step::Robbed, Step::Hear(426)]].concat())
            .on("LIST", Say(b"227 ok (10,0,0,5,{high,low})\r\n"))
            .set(IDLE.0, IDLE.1)
            .never_told("10,0,0,5"),
    ]
}

/// Where a 229 leads; where it leads nowhere, PASV is asked.
fn extended_ports() -> Vec<Case> {
    let followed = |name: &str, answer| {
        Case::new(name, listing()).on("EPSV", Say(answer)).never_told("10.0.0.5")
    };
    vec![
        followed("229 with an address", b"229 ok (|1|10.0.0.5|{port}|)\r\n"),
        followed("229 with several delimiters", b"229 ok (|!|{port}|)\r\n"),
        followed("229 with port 1000000", b"229 ok (|||1000000|)\r\n"),
        followed("229 with port 0", b"229 ok (|||0|)\r\n"),
        followed("229 that is not closed", b"229 ok (|||22\r\n"),
        followed("227 for EPSV", b"227 ok (10,0,0,5,0,22)\r\n"),
        Case::new(
            "229 to a port where nobody listens",
            [asked("LIST"), vec![Step::Hear(425)]].concat(),
        )
        .on("EPSV", Say(b"229 ok (|||1025|)\r\n"))
        .on("LIST", Say(b"425 nobody came\r\n")),
    ]
}

/// Data connections and the replies to them.
fn transfers() -> Vec<Case> {
    const BEGIN: Act = Act::Say(b"150 here\r\n");
    const DONE: Act = Act::Say(b"226 done\r\n");
    const CUT: Act = Act::Say(b"426 cut\r\n");
    const CONTENTS: Act = Act::Send(CONTENT, 1);
    const LATE: Act = Act::Wait(Duration::from_secs(2));
    let retr = |name: &str, acts, steps: &[Step]| {
        Case::new(name, [&asked("RETR")[..], steps].concat())
            .on("RETR", Do(acts))
            .on("PWD", Say(b"257 \"/\"\r\n"))
    };
    // What comes after it is not shifted.
    let (pwd, at) = (Step::Say(b"PWD\r\n"), Step::Hear(257));
    let whole = [Step::Hear(150), Step::Get(CONTENT), Step::Hear(226), pwd.clone(), at.clone()];
    let cut = [Step::Hear(150), Step::Robbed, Step::Hear(426), pwd, at];
    vec![
        retr("226 before the data", &[BEGIN, DONE, Act::Accept, CONTENTS, Act::Fin], &whole),
        retr(
            "226 without 150, before the data",
            &[DONE, Act::Accept, CONTENTS, Act::Fin],
            &whole[1..],
        ),
        retr("226 twice", &[BEGIN, Act::Accept, CONTENTS, Act::Fin, DONE, DONE], &whole),
        retr("226 after 2 s", &[BEGIN, Act::Accept, CONTENTS, Act::Fin, LATE, DONE], &whole),
        retr("426 and 226", &[BEGIN, Act::Accept, CONTENTS, Act::Reset, CUT, DONE], &cut),
        retr("data accepted and reset", &[BEGIN, Act::Accept, Act::Reset, CUT], &cut),
        retr("data reset, and 226", &[BEGIN, Act::Accept, CONTENTS, Act::Reset, DONE], &cut),
        retr("control closed while data runs", &[BEGIN, Act::Accept, CONTENTS, Act::Leave], &cut),
        retr("150 and no data", &[BEGIN], &cut).set(IDLE.0, IDLE.1),
        retr("neither 150 nor data", &[], &cut[1..]).set(IDLE.0, IDLE.1),
        retr("226 and no data", &[BEGIN, DONE], &cut).set(IDLE.0, IDLE.1),
        retr(
            "data, FIN, and no 226",
            &[BEGIN, Act::Accept, CONTENTS, Act::Fin],
            &[Step::Hear(150), Step::Hear(426), Step::Hear(421), Step::Robbed, Step::End],
        )
        .set(SILENT.0, SILENT.1),
        Case::new(
            "64 MiB for a server that reads nothing",
            [&asked("STOR")[..], &[Step::Hear(150), Step::Put(LONG, MUCH), Step::Hear(426)]]
                .concat(),
        )
        .on("STOR", Do(&[BEGIN, Act::Accept]))
        .set(IDLE.0, IDLE.1),
    ]
}

/// What is no reply, or hardly.
fn replies() -> Vec<Case> {
    let said = |name: &str, answer, code| {
        Case::new(name, [Step::Say(b"SITE x\r\n"), Step::Hear(code)]).on("SITE", answer)
    };
    let ends = |name: &str, answer| {
        let steps = [Step::Say(b"SITE x\r\n"), Step::Hear(421), Step::End];
        Case::new(name, steps).on("SITE", answer).never_told("evil")
    };
    vec![
        ends("a line that is no reply", Say(b"evil\r\n")),
        ends("a code of 999", Say(b"999 evil\r\n")),
        ends("a code of four digits", Say(b"2000 evil\r\n")),
        ends("an empty line", Say(b"\r\n")),
        ends("several lines that end with another code", Say(b"211-evil\r\n212 evil\r\n"))
            .set(SILENT.0, SILENT.1),
        ends("no reply", Say(b"")).set(SILENT.0, SILENT.1),
        said("FIN for a reply", Leave, 451),
        said("421 unasked, and the control connection stays", Say(b"200 ok\r\n421 bye\r\n"), 200)
            .then([Step::Hear(421), Step::End]),
        said("NUL, CR and ESC in a reply", Say(b"200 a\0b\rc\x1b[2J\r\n"), 200),
        said(
            "a reply line of 64 KiB",
            Do(&[Act::Say(b"200 "), Act::Pour(LONG, 1), Act::Say(b"\r\n")]),
            200,
        ),
        said(
            "150 a hundred times, and 200",
            Do(&[Act::Pour(b"150 wait\r\n", 100), Act::Say(b"200 ok\r\n")]),
            150,
        )
        .then(vec![Step::Hear(150); 99])
        .then([Step::Hear(200)]),
    ]
}

/// Too much of something.
fn floods() -> Vec<Case> {
    let flood = |name: &str, acts, steps: &[Step]| {
        Case::new(name, [&[Step::Say(b"SITE x\r\n")][..], steps].concat())
            .on("SITE", Do(acts))
            .set(QUIET.0, QUIET.1)
    };
    let ended = [Step::Hear(421), Step::End];
    // One of those to nothing may be taken for the answer to the client's next command.
    let heard = |bytes| [Step::Hear(200), Step::Sent(bytes)];
    vec![
        flood("64 MiB of a line without end", &[Act::Say(b"200 "), Act::Pour(LONG, MUCH)], &ended),
        flood(
            "64 MiB of a reply without end",
            &[Act::Say(b"211-\r\n"), Act::Pour(MANY, MUCH)],
            &ended,
        ),
        flood("260,000 replies to nothing, 4 MiB", &[Act::Pour(MANY, 64)], &heard(4 << 20)),
        flood("1,024 replies to nothing, 64 MiB", &[Act::Pour(ONE, MUCH)], &heard(64 << 20)),
        flood(
            "64 MiB of 150s for a client that does not read",
            &[Act::Pour(WAITS, MUCH)],
            &[Step::Stuck(64 << 20), Step::Break],
        ),
    ]
}
