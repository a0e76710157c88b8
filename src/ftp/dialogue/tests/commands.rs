//! Commands in their turn, and the ends of a session.

use super::*;

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
    script.dialogue.handle_line(Ok(Command::parse(long)));
    assert_eq!(script.actions().last().unwrap(), "Close(ProtocolError)");
}
