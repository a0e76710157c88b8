//! The dialogue by script, and by chance.

mod chance;
mod clients;
mod permit;
mod resume;

use std::collections::HashMap;
use std::net::SocketAddr;

use super::judge::terms;
use super::*;

/// A dialogue under test. What it wants done is written as one line an action: `>` to the
/// upstream, `<` to the client, anything else by its name.
struct Script {
    dialogue: Dialogue,
    /// What the driver says of some users.
    verdicts: HashMap<&'static [u8], Verdict>,
}

impl Script {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// A listener that offers nothing but passive mode, and what `change` says.
    fn with(change: impl FnOnce(&mut Terms)) -> Self {
        let security = Security::default();
        let ascii = Ascii::PassThrough;
        let mut terms = Terms { security, active: false, ascii, ..terms() };
        change(&mut terms);
        Self::of(terms)
    }

    /// A session on these terms.
    fn of(terms: Terms) -> Self {
        Self { dialogue: Dialogue::new(terms), verdicts: HashMap::new() }
    }

    /// A session that has logged in.
    fn logged_in() -> Self {
        let mut script = Self::new();
        script.line("USER ann", &["> USER ann"]);
        script.reply("331 password", &["< 331 password"]);
        script.line("PASS x", &["> PASS x"]);
        script.reply("230 in", &["Login(true)", "< 230 in"]);
        script
    }

    /// The same, with a 227 given.
    fn passive() -> Self {
        let mut script = Self::logged_in();
        script.line("PASV", &["> EPSV"]);
        script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
        script.reserved(8192, &["< 227 Entering Passive Mode (127,0,0,2,32,0)"]);
        script
    }

    /// The same, with both data connections open and a transfer command in flight.
    fn transferring(command: &str, direction: &str) -> Self {
        let mut script = Self::passive();
        let (started, relay) =
            (format!("TransferStarted({direction})"), format!("Relay({direction})"));
        script.line(command, &[&started, &format!("> {command}")]);
        script.reply("150 go", &["< 150 go"]);
        script.event(Dialogue::handle_data_opened, &[&relay]);
        script
    }

    fn event(&mut self, event: impl FnOnce(&mut Dialogue), expected: &[&str]) {
        event(&mut self.dialogue);
        assert_eq!(self.actions(), expected);
    }

    fn line(&mut self, line: &str, expected: &[&str]) {
        self.event(|dialogue| dialogue.handle_line(Ok(line.as_bytes())), expected);
    }

    fn reply(&mut self, text: &str, expected: &[&str]) {
        self.event(|dialogue| dialogue.handle_reply(reply(text)), expected);
    }

    fn reserved(&mut self, port: u16, expected: &[&str]) {
        let address = SocketAddr::from(([127, 0, 0, 2], port));
        self.event(|dialogue| dialogue.handle_port_reserved(address), expected);
    }

    /// All users are as the test has them judged, or permitted.
    fn actions(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        while let Some(action) = self.dialogue.poll_action() {
            match action {
                Action::Judge { user } => {
                    let judged = self.verdicts.get(&*user).cloned();
                    self.dialogue.handle_verdict(judged.unwrap_or(Verdict::Permitted(None)));
                }
                action => actions.push(describe(&action)),
            }
        }
        actions
    }
}

fn reply(text: &str) -> Reply {
    Reply::from_bytes(text[..3].parse().unwrap(), format!("{text}\r\n").into_bytes())
}

fn describe(action: &Action) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match action {
        Action::ToClient(bytes) => format!("< {}", text(bytes)),
        Action::ToUpstream(bytes) => format!("> {}", text(bytes)),
        Action::Audit(end) => {
            let reply = end.reply.map_or_else(|| "-".into(), |code| code.to_string());
            format!(
                "Audit({} {} {} {reply})",
                end.verb.as_str(),
                text(&end.path),
                end.outcome.as_str()
            )
        }
        Action::ReservePort(target) => format!("ReservePort({})", target.port),
        Action::Relay(course) => {
            let (ascii, private) = (course.ascii, course.private);
            let extra = [(ascii, " in ASCII"), (private, " within TLS")];
            let extra: String = extra.iter().filter(|it| it.0).map(|it| it.1).collect();
            format!("Relay({:?}{extra})", course.direction)
        }
        Action::StartTls(bytes) => format!("StartTls({})", text(bytes)),
        Action::AwaitTransfer { to, target } => format!("AwaitTransfer({to}, {})", target.port),
        Action::Login { accepted } => format!("Login({accepted})"),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_upload_is_finished_only_after_its_eof_and_told_only_after_its_226() {
    let mut script = Script::transferring("STOR a b.txt", "Upload");
    script.event(|dialogue| dialogue.handle_data_ended(10), &["FinishData"]);
    script.reply("226 done", &["ReleaseData", "Audit(STOR a b.txt complete 226)", "< 226 done"]);
}

#[test]
fn a_download_gets_its_fin_only_with_the_upstreams_226() {
    let mut script = Script::transferring("RETR f", "Download");
    script.event(|dialogue| dialogue.handle_data_ended(10), &[]);
    script.reply("226 done", &["FinishData", "Audit(RETR f complete 226)", "< 226 done"]);

    let mut early = Script::transferring("RETR f", "Download");
    early.reply("226 done", &[]);
    early.event(
        |dialogue| dialogue.handle_data_ended(10),
        &["FinishData", "Audit(RETR f complete 226)", "< 226 done"],
    );
}

#[test]
fn a_transfer_that_failed_is_never_told_as_done() {
    for (failure, outcome) in [
        (DataFailure::Client, "client-failed"),
        (DataFailure::Idle, "gateway-failed"),
        (DataFailure::Upstream, "upstream-failed"),
    ] {
        let mut script = Script::transferring("STOR f", "Upload");
        script.event(|dialogue| dialogue.handle_data_failed(failure), &["ResetData"]);
        script.reply(
            "226 done",
            &[
                &format!("Audit(STOR f {outcome} 426)"),
                "< 426 Connection closed; transfer aborted.",
            ],
        );

        let mut honest = Script::transferring("RETR f", "Download");
        honest.event(|dialogue| dialogue.handle_data_failed(failure), &["ResetData"]);
        honest.reply("451 disk", &[&format!("Audit(RETR f {outcome} 451)"), "< 451 disk"]);
    }
}

#[test]
fn an_upload_whose_client_is_gone_is_reset() {
    let mut before = Script::transferring("STOR f", "Upload");
    before.event(
        Dialogue::handle_client_closed,
        &["ResetData", "Audit(STOR f client-failed -)", "Close(ClientClosed)"],
    );
    let mut quit = Script::transferring("STOR f", "Upload");
    quit.line("QUIT", &[]);
    quit.event(Dialogue::handle_client_closed, &[]);
    quit.event(|dialogue| dialogue.handle_data_ended(3), &["FinishData"]);
    quit.reply("226 done", &["ReleaseData", "Audit(STOR f complete 226)", "< 226 done", "> QUIT"]);
    quit.reply("221 bye", &["< 221 bye", "Close(Quit)"]);
}

#[test]
fn an_upload_shorter_than_announced_is_reset() {
    let mut script = Script::logged_in();
    script.line("ALLO 100", &["> ALLO 100"]);
    script.reply("202 no need", &["< 202 no need"]);
    script.line("EPSV", &["> EPSV"]);
    script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
    script.reserved(8192, &["< 229 Entering Passive Mode (|||8192|)"]);
    script.line("STOR f", &["TransferStarted(Upload)", "> STOR f"]);
    script.event(Dialogue::handle_data_opened, &["Relay(Upload)"]);
    script.event(|dialogue| dialogue.handle_data_ended(99), &["ResetData"]);
    script.reply("426 cut", &["Audit(STOR f client-failed 426)", "< 426 cut"]);
}

#[test]
fn a_resumed_upload_brings_only_the_rest_of_what_was_announced() {
    for (bytes, action) in [(60, "FinishData"), (59, "ResetData")] {
        let mut script = Script::passive();
        script.line("ALLO 100", &["> ALLO 100"]);
        script.reply("202 no need", &["< 202 no need"]);
        script.line("REST 40", &["> REST 40"]);
        script.reply("350 from there", &["< 350 from there"]);
        script.line("STOR f", &["TransferStarted(Upload)", "> STOR f"]);
        script.event(Dialogue::handle_data_opened, &["Relay(Upload)"]);
        script.event(|dialogue| dialogue.handle_data_ended(bytes), &[action]);
    }
}

#[test]
fn abor_resets_what_is_on_its_way_and_both_replies_come() {
    let mut script = Script::transferring("STOR f", "Upload");
    script.line("ABOR", &["ResetData"]);
    script.reply(
        "426 aborted",
        &["Audit(STOR f aborted 426)", "< 426 aborted", "< 226 ABOR command successful."],
    );

    // Nothing moves yet: the upstream may be waiting for a connection and deaf to ABOR.
    let mut waiting = Script::passive();
    waiting.line("RETR f", &["TransferStarted(Download)", "> RETR f"]);
    waiting.line("ABOR", &["RefuseData"]);
    assert_eq!(waiting.dialogue.waiting(), Waiting::Settle);
    waiting.event(Dialogue::handle_data_refused, &[]);
    assert_eq!(waiting.dialogue.waiting(), Waiting::Nudge);
    waiting.reply(
        "426 aborted",
        &[
            "ResetData",
            "Audit(RETR f aborted 426)",
            "< 426 aborted",
            "< 226 ABOR command successful.",
        ],
    );

    // An upload's connection must not be made up, but may come yet.
    for comes in [false, true] {
        let mut waiting = Script::passive();
        waiting.line("STOR f", &["TransferStarted(Upload)", "> STOR f"]);
        waiting.line("ABOR", &["> ABOR"]);
        if comes {
            waiting.event(Dialogue::handle_data_opened, &["ResetData"]);
        }
        let mut told = vec!["Audit(STOR f aborted 426)", "< 426 aborted"];
        if !comes {
            told.insert(0, "ResetData");
        }
        waiting.reply("426 aborted", &told);
        waiting.reply("226 abor ok", &["< 226 abor ok"]);
    }

    // The client closes its data connection before it says ABOR.
    let mut closed = Script::transferring("RETR f", "Download");
    closed.event(|dialogue| dialogue.handle_data_failed(DataFailure::Client), &["ResetData"]);
    closed.line("ABOR", &[]);
    closed.reply(
        "426 cut",
        &["Audit(RETR f client-failed 426)", "< 426 cut", "< 226 ABOR command successful."],
    );

    let mut idle = Script::logged_in();
    idle.line("ABOR", &["> ABOR"]);
    idle.reply("225 nothing to abort", &["< 225 nothing to abort"]);

    // All bytes and the FIN are with the upstream: nothing can be called back.
    let mut late = Script::transferring("STOR f", "Upload");
    late.event(|dialogue| dialogue.handle_data_ended(10), &["FinishData"]);
    late.line("ABOR", &["> ABOR"]);
    late.reply("226 stored", &["ReleaseData", "Audit(STOR f complete 226)", "< 226 stored"]);
    late.reply("226 abor ok", &["< 226 abor ok"]);
}

#[test]
fn an_upstream_that_forgets_to_answer_a_broken_transfer_is_asked_by_noop() {
    let mut script = Script::transferring("RETR f", "Download");
    script.event(|dialogue| dialogue.handle_data_failed(DataFailure::Client), &["ResetData"]);
    assert_eq!(script.dialogue.waiting(), Waiting::Nudge);
    script.event(|dialogue| dialogue.handle_timeout(Waiting::Nudge), &["> NOOP"]);
    script.reply(
        "200 here",
        &["Audit(RETR f client-failed 426)", "< 426 Connection closed; transfer aborted."],
    );
    assert!(script.dialogue.is_idle());
    // It had not forgotten, it was slow, and answered NOOP at once as proftpd does.
    script.line("PWD", &["> PWD"]);
    script.reply("426 cut", &[]);
    script.reply("257 here", &["< 257 here"]);

    let mut slow = Script::transferring("RETR f", "Download");
    slow.event(|dialogue| dialogue.handle_data_failed(DataFailure::Client), &["ResetData"]);
    slow.event(|dialogue| dialogue.handle_timeout(Waiting::Nudge), &["> NOOP"]);
    assert_eq!(slow.dialogue.waiting(), Waiting::Settle);
    slow.reply("426 cut", &["Audit(RETR f client-failed 426)", "< 426 cut"]);
    slow.line("PWD", &[]);
    slow.reply("200 here", &["> PWD"]);
}

#[test]
fn noop_and_stat_overtake_a_transfer_and_others_wait() {
    let mut script = Script::transferring("RETR f", "Download");
    script.line("NOOP", &["> NOOP"]);
    script.reply("200 noop", &["< 200 noop"]);
    script.line("STAT", &["> STAT"]);
    // One at a time; and the failure of a STAT of a path could be taken for the transfer's.
    for waits in ["NOOP", "PWD", "STAT nothing"] {
        script.line(waits, &[]);
    }
    script.event(|dialogue| dialogue.handle_data_ended(1), &[]);
    script.reply("226 done", &["FinishData", "Audit(RETR f complete 226)", "< 226 done"]);
    script.reply("211 status", &["< 211 status", "> NOOP"]);
    script.reply("200 noop", &["< 200 noop", "> PWD"]);
    script.reply("257 here", &["< 257 here", "> STAT nothing"]);
    script.reply("450 no such file", &["< 450 no such file"]);
}

#[test]
fn replies_behind_a_held_226_wait_with_it() {
    let mut script = Script::transferring("RETR f", "Download");
    script.line("NOOP", &["> NOOP"]);
    script.reply("226 done", &[]);
    script.reply("200 noop", &[]);
    script.reply("226 again, unasked", &[]);
    script.event(
        |dialogue| dialogue.handle_data_ended(1),
        &["FinishData", "Audit(RETR f complete 226)", "< 226 done", "< 200 noop"],
    );
    assert!(script.dialogue.is_idle());
}

#[test]
fn a_refused_transfer_uses_up_its_port() {
    let mut script = Script::passive();
    script.line("RETR nothing", &["TransferStarted(Download)", "> RETR nothing"]);
    script.reply(
        "550 no such file",
        &["ResetData", "Audit(RETR nothing refused 550)", "< 550 no such file"],
    );
    script.line("RETR f", &["Audit(RETR f refused 425)", "< 425 Use PASV or EPSV first."]);
}

#[test]
fn an_upstream_that_refuses_a_transfer_and_closes_its_port_is_heard() {
    let mut script = Script::passive();
    script.line("STOR no/such", &["TransferStarted(Upload)", "> STOR no/such"]);
    script.event(Dialogue::handle_dial_failed, &["ResetData"]);
    assert_eq!(script.dialogue.waiting(), Waiting::Settle);
    script.reply("550 no", &["Audit(STOR no/such refused 550)", "< 550 no"]);
}

#[test]
fn an_upstream_that_goes_ends_the_transfer_and_the_session() {
    let mut script = Script::transferring("STOR f", "Upload");
    script.event(
        |dialogue| dialogue.handle_upstream_closed(SessionEnd::UpstreamClosed, "It left."),
        &[
            "ResetData",
            "Audit(STOR f upstream-failed 426)",
            "< 426 Transfer aborted. It left.",
            "< 421 It left.",
            "Close(UpstreamClosed)",
        ],
    );
    let mut told = Script::logged_in();
    told.reply("421 shutting down", &["< 421 shutting down", "Close(UpstreamClosed)"]);
}

#[test]
fn epsv_falls_back_to_pasv_once_and_remembers() {
    let mut script = Script::logged_in();
    script.line("EPSV", &["> EPSV"]);
    script.reply("502 no EPSV", &["> PASV"]);
    script.reply("227 ok (0,0,0,0,31,64)", &["ReservePort(8000)"]);
    script.reserved(8200, &["< 229 Entering Passive Mode (|||8200|)"]);
    script.line("PASV", &["ResetData", "> PASV"]);
    script.reply("227 ok (10,9,9,9,31,65)", &["ReservePort(8001)"]);
}

#[test]
fn a_malformed_227_is_relayed_and_no_port_reserved() {
    let mut script = Script::logged_in();
    script.line("PASV", &["> EPSV"]);
    script.reply("500 what", &["> PASV"]);
    script.reply(
        "227 Entering Passive Mode (1,2,3,4,5,600)",
        &["< 227 Entering Passive Mode (1,2,3,4,5,600)"],
    );
    let mut inner = Script::logged_in();
    inner.line("NOOP", &["> NOOP"]);
    inner.reply(
        "227 Entering Passive Mode (1,2,3,4,5,6)",
        &["< 227 Entering Passive Mode (1,2,3,4,5,6)"],
    );
}

#[test]
fn a_port_that_the_upstream_may_not_use_is_not_dialled() {
    let mut script = Script::logged_in();
    script.line("EPSV", &["> EPSV"]);
    script
        .reply("229 ok (|||22|)", &["< 425 The FTP server announced a port that it may not use."]);
}

#[test]
fn an_upstream_without_a_free_port_is_asked_again_a_few_times() {
    let mut script = Script::logged_in();
    script.line("PASV", &["> EPSV"]);
    for attempt in 1..=6 {
        script.reply("425 Can't open passive connection.", &[]);
        let waiting = Waiting::Retry { attempt };
        assert_eq!(script.dialogue.waiting(), waiting);
        script.event(|dialogue| dialogue.handle_timeout(waiting), &["> EPSV"]);
    }
    script.reply("425 Can't open passive connection.", &["< 425 Can't open passive connection."]);
}

#[test]
fn epsv_arguments_and_epsv_all_are_as_rfc_2428_says() {
    let mut script = Script::logged_in();
    script.line("EPSV 2", &["< 522 Network protocol not supported, use (1)"]);
    script.line("EPSV 3", &["< 522 Network protocol not supported, use (1)"]);
    script.line("EPSV x", &["< 501 EPSV takes 1, 2 or ALL."]);
    script.line("EPSV ALL", &["< 200 EPSV ALL is in effect."]);
    script.line("PASV", &["< 503 EPSV ALL is in effect; use EPSV."]);
    script.line("EPSV 1", &["> EPSV"]);
    let mut six = Script::with(|terms| (terms.client_ipv6, terms.passive_ipv4) = (true, false));
    six.line("PASV", &["< 425 PASV needs IPv4; use EPSV."]);
    six.line("EPSV 2", &["> EPSV"]);
}

#[test]
fn what_is_not_offered_is_answered_here_and_never_sent_on() {
    let mut script = Script::logged_in();
    for (line, answer) in [
        ("AUTH TLS", "< 502 TLS is not offered here."),
        ("PROT P", "< 502 TLS is not offered here."),
        ("PORT 127,0,0,1,0,22", "< 502 Active mode is not offered here; use PASV or EPSV."),
        ("EPRT |1|127.0.0.1|6000|", "< 502 Active mode is not offered here; use PASV or EPSV."),
        ("MODE Z", "< 504 Only stream mode (MODE S) is offered here."),
        ("RETR a\rDELE b", "< 501 Not forwarded: a carriage return inside the line."),
        ("RETR a\0", "< 501 Not forwarded: a NUL inside the line."),
        ("", "< 500 Empty command line."),
    ] {
        script.line(line, &[answer]);
    }
    script.line("GET / HTTP/1.1", &["< 500 This is an FTP gateway.", "Close(ProtocolError)"]);
}

#[test]
fn pipelined_commands_keep_their_order() {
    let mut script = Script::new();
    script.line("USER ann", &["> USER ann"]);
    for line in ["PASS x", "AUTH TLS", "PWD"] {
        script.line(line, &[]);
    }
    script.reply("331 password", &["< 331 password", "> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in", "< 502 TLS is not offered here.", "> PWD"]);
    script.reply("257 /", &["< 257 /"]);
}

#[test]
fn a_second_pasv_takes_back_the_first() {
    let mut script = Script::passive();
    script.line("PASV", &["ResetData", "> EPSV"]);
}

#[test]
fn a_data_connection_may_come_before_the_command() {
    let mut script = Script::passive();
    script.event(Dialogue::handle_data_opened, &[]);
    script.line("LIST", &["TransferStarted(Listing)", "> LIST", "Relay(Listing)"]);
}

#[test]
fn a_transfer_that_nobody_comes_to_is_answered_and_the_upstreams_word_swallowed() {
    for event in [
        Dialogue::handle_reservation_expired,
        (|dialogue| dialogue.handle_timeout(Waiting::DataConnect)) as fn(&mut Dialogue),
    ] {
        for (command, direction, action, after) in [
            ("STOR f", "Upload", "ResetData", &["> PWD"][..]),
            ("LIST f", "Listing", "RefuseData", &["ResetData", "> PWD"]),
        ] {
            let mut script = Script::passive();
            let started = format!("TransferStarted({direction})");
            script.line(command, &[&started, &format!("> {command}")]);
            let audit = format!("Audit({command} client-failed 425)");
            let told = "< 425 Can't open data connection: nobody came to it in time.";
            script.event(event, &[action, &audit, told]);
            script.line("PWD", &[]);
            assert_eq!(script.dialogue.waiting(), Waiting::Settle);
            script.reply("150 late", &[]);
            script.reply("425 late", after);
            script.reply("257 /", &["< 257 /"]);
        }
    }
}

#[test]
fn time_outs_say_421() {
    let cases = [
        (Waiting::Command, "< 421 Idle for too long.", "Close(IdleTimeout)"),
        (Waiting::Login, "< 421 No login in time.", "Close(LoginTimeout)"),
        (Waiting::Reply, "< 421 The FTP server does not answer.", "Close(ReplyTimeout)"),
    ];
    for (waiting, reply, close) in cases {
        Script::new().event(|dialogue| dialogue.handle_timeout(waiting), &[reply, close]);
    }
    let mut script = Script::transferring("STOR f", "Upload");
    script.event(
        Dialogue::handle_drain,
        &[
            "ResetData",
            "Audit(STOR f gateway-failed 426)",
            "< 426 Transfer aborted. This gateway is stopping; please connect again.",
            "< 421 This gateway is stopping; please connect again.",
            "Close(Drained)",
        ],
    );
    let mut script = Script::transferring("STOR f", "Upload");
    let running = script.dialogue.transfer().unwrap();
    assert_eq!((running.verb, running.path), (Verb::Stor, &b"f"[..]));
    script.event(
        Dialogue::handle_kill,
        &[
            "ResetData",
            "Audit(STOR f gateway-failed 426)",
            "< 426 Transfer aborted. This session was ended by the operator.",
            "< 421 This session was ended by the operator.",
            "Close(Killed)",
        ],
    );
    assert_eq!(script.dialogue.transfer(), None);
}

#[test]
fn a_features_reply_and_a_rein_change_what_they_should() {
    let mut script = Script::logged_in();
    script.line("FEAT", &["> FEAT"]);
    script.reply(
        "211-Features\r\n MODE Z\r\n SIZE\r\n211 End",
        &["< 211-Features\r\n SIZE\r\n EPSV\r\n211 End"],
    );
    script.line("REIN", &["> REIN"]);
    script.reply("220 again", &["< 220 again"]);
    assert_eq!(script.dialogue.waiting(), Waiting::Login);
}

#[test]
fn a_client_that_floods_a_transfer_with_commands_is_told_and_left() {
    let mut script = Script::transferring("RETR f", "Download");
    for _ in 0..TRANSFER_QUEUE_LIMIT {
        script.line("PWD", &[]);
    }
    script.line(
        "PWD",
        &[
            "ResetData",
            "Audit(RETR f upstream-failed 426)",
            "< 426 Transfer aborted. Too many commands at once.",
            "< 421 Too many commands at once.",
            "Close(ProtocolError)",
        ],
    );
}

#[test]
fn a_client_that_floods_a_transfer_with_long_commands_is_left_sooner() {
    let mut script = Script::transferring("RETR f", "Download");
    let long = format!("SITE {}", "x".repeat(4000));
    for _ in 0..16 {
        script.line(&long, &[]);
    }
    script.dialogue.handle_line(Ok(long.as_bytes()));
    assert_eq!(script.actions().last().unwrap(), "Close(ProtocolError)");
}
