//! What clients send that no good client does, and what they hear.

use super::case::Case;
use super::client::Step;
use crate::harness::canned::Answer::{Do, Say};
use crate::harness::canned::{Act, CONTENT};

/// A PROXY protocol header of version 2 that announces as much as it can.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
/// The beginning of a ClientHello.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n";
/// 64 MiB on a data connection.
const MUCH: &[Act] = &[Act::Say(b"150 here\r\n"), Act::Accept, Act::Send(LONG, 1024)];
/// What no upstream ever hears: a line with nothing on it.
const EMPTY: &str = "\n\n";
/// PASV and a data connection.
const PROMISED: [Step; 3] = [Step::Say(b"PASV\r\n"), Step::Promised, Step::Open];
const LOGIN: &[u8] = b"USER a\r\nPASS b\r\nPASV\r\nLIST\r\n";
const MEBIBYTE: usize = 1 << 20;
const LONG: &[u8] = &[b'x'; 64 * 1024];
/// The reply that an attacker would like to see obeyed (VU#328867).
const ECHO: &[u8] = b"XYZZY 227 Entering Passive Mode (10,0,0,5,0,22)\r\n";

/// What a client that has logged in sends at once, what it hears, and what must go no further.
const LINES: &[(&[u8], &[u16], &str)] = &[
    (b"PORT 127,0,0,1,0,22\r\n", &[504], "127,0,0,1"),
    (b"PORT 10,0,0,5,31,64\r\n", &[504], "10,0,0,5"),
    (b"PORT 10, 0, 0, 5, 31, 64\r\n", &[504], "10, 0"),
    (b"PORT 010,000,000,005,031,064\r\n", &[504], "010,"),
    (b"PORT 1,2,3,4,5\r\n", &[501], "1,2,3"),
    (b"PORT 1,2,3,4,5,6,7\r\n", &[501], "1,2,3"),
    (b"PORT 256,0,0,1,31,64\r\n", &[501], "256,"),
    (b"PORT -1,0,0,1,31,64\r\n", &[501], "-1,"),
    (b"EPRT |1|10.0.0.5|6000|\r\n", &[504], "10.0.0.5"),
    (b"EPRT |2|::ffff:10.0.0.5|6000|\r\n", &[504], "10.0.0.5"),
    (b"EPRT !1!10.0.0.5!6000!\r\n", &[504], "10.0.0.5"),
    (b"EPRT |1|10.0.0.5|6000\r\n", &[501], "10.0.0.5"),
    (b"EPRT 1|10.0.0.5|6000|\r\n", &[501], "10.0.0.5"),
    (b"EPRT |1|10.0.0.5|0|\r\n", &[501], "10.0.0.5"),
    (b"EPRT |1|10.0.0.5|65536|\r\n", &[501], "10.0.0.5"),
    (b"EPRT |1|10.0.0.5|99999999999|\r\n", &[501], "10.0.0.5"),
    (b"EPSV ALL\r\nPASV\r\nPORT 10,0,0,5,31,64\r\n", &[200, 503, 503], "PASV"),
    (b"EPSV 3\r\n", &[522], "EPSV"),
    (b"EPSV 99999999999999999999\r\n", &[522], "EPSV"),
    (b"EPSV x\r\n", &[501], "EPSV"),
    (b"PASV x\r\n", &[227], "PASV x"),
    (b"pAsV\n", &[227], "pAsV"),
    (b"\xff\xf4\xff\xf2ABOR\r\n", &[200], "\u{fffd}"),
    (b"\xff\xfb\x01\xff\xfd\x03NOOP\r\n", &[200], "\u{fffd}"),
    (b"NOOP\xff\r\n", &[501], "NOOP\u{fffd}"),
    (b"RETR a\0b\r\n", &[501], "RETR"),
    (b"RETR a\rDELE b\r\n", &[501], "DELE"),
    (b"NOOP\r\r\n", &[501], "NOOP\r"),
    (b"NOOP\n", &[200], EMPTY),
    (b"NOOP\r\n\r\n\n\r\n", &[200, 500, 500, 500], EMPTY),
    (b"MKD\tx\r\n", &[200], "MKD x"),
    (b"\x01USER evil\r\n", &[501], "evil"),
    (b"U\xc5\xbfER evil\r\n", &[501], "evil"),
    (b"DELE;evil\r\n", &[501], "evil"),
    (b"MKD a\x1b]0;evil\x07\x1b[2J\r\n", &[200], EMPTY),
    (b"MKD a\xe2\x80\xa8b\xc2\x85c\xff\r\n", &[200], EMPTY),
    (b"MKD 227 Entering Passive Mode (1,2,3,4,5,6)\r\n", &[200], "EPSV"),
    (b"RETR 227 Entering Passive Mode (1,2,3,4,5,6)\r\n", &[425], "RETR"),
    (b"AUTH TLS\r\nUSER evil\r\n", &[502, 331], "AUTH"),
    (b"ADAT x\r\nCCC\r\nPROT P\r\n", &[502, 533, 502], "ADAT"),
    (b"LPRT 4,4,10,0,0,5,2,0,22\r\nLPSV\r\n", &[502, 502], "LPRT"),
    (b"MODE Z\r\nMODE B\r\n", &[504, 504], "MODE"),
    (b"HOST evil\r\nCLNT evil\r\nLANG evil\r\n", &[200, 200, 200], EMPTY),
    (b"OPTS UTF8 ON\r\nSITE EXEC /bin/sh\r\n", &[200, 200], EMPTY),
    (b"REST 99999999999999999999\r\nALLO -1\r\n", &[200, 200], EMPTY),
    (b"SSH-2.0-OpenSSH_9.2\r\n", &[501], "SSH"),
    (CLIENT_HELLO, &[501], "\u{16}"),
];

/// All of them that may share a gateway with [`SETTINGS`] and a plain server.
pub(super) fn cases() -> Vec<Case> {
    let lines = LINES.iter().map(|&(line, codes, never)| {
        let hear = codes.iter().map(|&code| Step::Hear(code));
        let steps: Vec<Step> = [Step::Say(line)].into_iter().chain(hear).collect();
        Case::new(shown(line), steps).never(never)
    });
    lines.chain(endings()).chain(floods()).chain(data()).collect()
}

/// A section of the configuration that suits all of them, and a line of it.
pub(super) const SETTINGS: [(&str, &str); 2] =
    [("limits", "commands_per_second = 1000000"), ("log", "level = \"debug\"")];

/// A line as the table has it.
fn shown(line: &[u8]) -> String {
    let text = line.escape_ascii().to_string();
    text.strip_suffix("\\r\\n").map_or_else(|| text.clone(), Into::into)
}

/// Who speaks another protocol is shown out.
fn endings() -> Vec<Case> {
    let shown_out = |line: &'static [u8]| {
        let steps = [Step::Hear(220), Step::Say(line), Step::Hear(500), Step::End];
        let first = line.split(|&byte| byte == b'\r').find(|part| !part.is_empty());
        let first = first.unwrap_or_default().escape_ascii();
        Case::new(format!("{first}..."), steps).stranger().never("evil").never("HTTP")
    };
    let mut header = shown_out(PROXY_V2);
    header.name = "PROXY v2 header of 65,535 bytes".into();
    vec![
        shown_out(b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n"),
        shown_out(b"POST / HTTP/1.1\r\n\r\nUSER evil\r\nPASS x\r\nDELE evil\r\n"),
        shown_out(b"PROXY TCP4 10.0.0.5 10.0.0.6 1 2\r\nUSER evil\r\n"),
        header,
        Case::new(
            "a PROXY v2 signature that is cut off",
            [
                Step::Hear(220),
                Step::Say(b"\r\n\r\n\0\r\n"),
                Step::Hear(500),
                Step::Hear(500),
                Step::Hear(501),
                Step::Leave,
                Step::End,
            ],
        )
        .stranger(),
        Case::new("nothing but a connection", [Step::Hear(220), Step::Break]).stranger(),
        Case::new(
            "half a line and FIN",
            [Step::Hear(220), Step::Say(b"USER evil"), Step::Leave, Step::End],
        )
        .stranger()
        .never("evil"),
        Case::new("half a line and RST", [Step::Say(b"DELE evil"), Step::Break]).never("evil"),
    ]
}

/// Too much of something.
fn floods() -> Vec<Case> {
    let long = |name: &str, times| {
        Case::new(
            name,
            [Step::Pour(LONG, times), Step::Say(b"\r\nNOOP\r\n"), Step::Hear(500), Step::Hear(200)],
        )
        .never("xx")
    };
    vec![
        long("a line of 64 KiB", 1),
        long("a line of 1 MiB", MEBIBYTE / LONG.len()),
        long("a line of 64 MiB", 64 * MEBIBYTE / LONG.len()),
        Case::new("10,000 NOOPs at once", [Step::Flood(b"NOOP\r\n", 10_000, &[200])]),
        Case::new("200,000 lines of one byte", [Step::Flood(b"\n", 200_000, &[500])]),
        Case::new("20,000 commands of one letter", [Step::Flood(b"X\n", 20_000, &[200])]),
        Case::new("20,000 USERs", [Step::Flood(b"USER a\r\n", 20_000, &[331])]),
        Case::new(
            "64 MiB after QUIT",
            [
                Step::Say(b"QUIT\r\n"),
                Step::Hear(221),
                Step::Pour(LONG, 64 * MEBIBYTE / LONG.len()),
                Step::End,
            ],
        )
        .never("xx"),
        Case::new("login, PASV and LIST in one segment", logging_in(Step::Say(LOGIN))).stranger(),
        Case::new("the same byte by byte", logging_in(Step::Drip(LOGIN))).stranger(),
    ]
}

/// A login, a listing, and all that comes of them.
fn logging_in(said: Step) -> Vec<Step> {
    vec![
        Step::Hear(220),
        said,
        Step::Hear(331),
        Step::Hear(230),
        Step::Promised,
        Step::Open,
        Step::Hear(150),
        Step::Get(CONTENT),
        Step::Hear(226),
    ]
}

/// Data connections, and what is done in the midst of them.
fn data() -> Vec<Case> {
    let storing = |steps: &[Step]| {
        // So that bytes move, and not only a command, when it is disturbed.
        let half: &'static [u8] = b"half of a file";
        let sent = (b"EPSV\r\nSTOR f\r\n".len() + half.len()) as u64;
        let begun =
            [Step::Say(b"STOR f\r\n"), Step::Hear(150), Step::Put(half, 1), Step::Received(sent)];
        [&PROMISED[..], &begun, steps].concat()
    };
    let goes_on =
        |line, code| storing(&[Step::Say(line), Step::FinData, Step::Hear(226), Step::Hear(code)]);
    let quit = [goes_on(b"QUIT\r\n", 221), vec![Step::End]].concat();
    vec![
        Case::new("PASV, and nobody comes", [Step::Say(b"PASV\r\n"), Step::Promised]),
        Case::new("QUIT in the midst of STOR", quit).stores(1),
        Case::new("REIN in the midst of STOR", goes_on(b"REIN\r\n", 200)).stores(1),
        Case::new("USER in the midst of STOR", goes_on(b"USER evil\r\n", 331)).stores(1),
        Case::new(
            "FIN on control in the midst of STOR",
            storing(&[Step::Leave, Step::Robbed, Step::End]),
        ),
        Case::new("RST on control in the midst of STOR", storing(&[Step::Break, Step::Robbed])),
        Case::new("RST on data in the midst of STOR", storing(&[Step::ResetData, Step::Hear(426)])),
        Case::new(
            "ABOR as urgent data in the midst of STOR",
            storing(&[
                Step::Say(b"\xff\xf4\xff"),
                Step::Urgent(b"\xf2"),
                Step::Say(b"ABOR\r\n"),
                Step::Hear(426),
                Step::Hear(226),
                Step::Robbed,
            ]),
        ),
        Case::new(
            "ALLO of more than comes",
            [
                &[Step::Say(b"ALLO 1000\r\n"), Step::Hear(200)][..],
                &storing(&[Step::FinData, Step::Robbed, Step::Hear(426)]),
            ]
            .concat(),
        ),
        Case::new(
            "FIN on data with no byte",
            [
                &PROMISED[..],
                &[Step::Say(b"STOR f\r\n"), Step::Hear(150), Step::FinData, Step::Hear(226)],
            ]
            .concat(),
        )
        .stores(1),
        Case::new(
            "FIN on data of a download, then read",
            [
                &PROMISED[..],
                &[
                    Step::FinData,
                    Step::Say(b"RETR f\r\n"),
                    Step::Hear(150),
                    Step::Get(CONTENT),
                    Step::Hear(226),
                ],
            ]
            .concat(),
        ),
    ]
}

/// Those that need a server or settings of their own, or open a data connection of the server's that
/// it would take for the next client's.
pub(super) fn cases_alone() -> Vec<Case> {
    vec![
        Case::new("PASV, a connection, and no command", PROMISED),
        Case::new("64 MiB of data without a command", PROMISED)
            .then([Step::Put(LONG, 1024), Step::ResetData]),
        Case::new(
            "1,000 PASVs at once, and nobody comes",
            [Step::Flood(b"PASV\r\n", 1000, &[227, 425])],
        )
        .set("passive", "wait = \"1ms\""),
        Case::new(
            "one letter, and no more",
            [Step::Hear(220), Step::Say(b"U"), Step::Hear(421), Step::End],
        )
        .stranger()
        .set("timeouts", "login = \"500ms\""),
        Case::new(
            "a server made to echo 227",
            [Step::Say(ECHO), Step::Hear(227), Step::Say(b"LIST\r\n"), Step::Hear(425)],
        )
        .on("XYZZY", Say(b"{argument}\r\n"))
        .never("EPSV"),
        Case::new("a download that its client does not read", PROMISED)
            .then([
                Step::Say(b"RETR f\r\n"),
                Step::Hear(150),
                Step::Stuck(64 << 20),
                Step::ResetData,
                Step::Hear(426),
            ])
            .on("RETR", Do(MUCH)),
    ]
}
