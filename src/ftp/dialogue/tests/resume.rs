//! Sessions whose upstream connection is lost.

use super::*;

/// A logged-in session with a directory and settings.
fn settled() -> Script {
    let mut script = Script::logged_in();
    for (line, reply) in [
        ("OPTS UTF8 ON", "200 ok"),
        ("TYPE A", "200 ok"),
        ("TYPE I", "200 ok"),
        ("CWD old", "250 ok"),
        ("CWD /new", "250 ok"),
        ("CWD no", "550 no"),
        ("CWD sub", "250 ok"),
        ("CDUP", "250 ok"),
        ("SITE UMASK 077", "200 ok"),
        ("SITE CHMOD 600 x", "200 ok"),
    ] {
        script.line(line, &[&format!("> {line}")]);
        script.reply(reply, &[&format!("< {reply}")]);
    }
    script
}

/// The replay of [`settled`], up to its last reply.
fn replay(script: &mut Script) {
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("331 password", &["> PASS x"]);
    script.reply("230 in", &["> OPTS UTF8 ON"]);
    script.reply("200 ok", &["> TYPE I"]);
    script.reply("200 ok", &["> SITE UMASK 077"]);
    script.reply("200 ok", &["> CWD /new"]);
    script.reply("250 ok", &["> CWD sub"]);
    script.reply("250 ok", &["> CDUP"]);
}

fn lose(script: &mut Script, expected: &[&str]) {
    script.event(Dialogue::handle_upstream_lost, expected);
}

#[test]
fn an_idle_session_goes_on_where_it_was_once_its_client_speaks_again() {
    let mut script = settled();
    lose(&mut script, &[]);
    assert_eq!(script.dialogue.waiting(), Waiting::Command, "nobody needs an upstream now");
    script.line("SIZE f", &["Reconnect"]);
    assert_eq!(script.dialogue.waiting(), Waiting::Resume);
    script.line("NOOP", &[]);
    replay(&mut script);
    script.reply("250 ok", &["Resume { succeeded: true }", "> SIZE f"]);
    script.reply("213 7", &["< 213 7", "> NOOP"]);
    script.reply("200 ok", &["< 200 ok"]);
}

#[test]
fn a_command_in_flight_is_sent_again_only_if_that_does_no_harm() {
    let mut script = settled();
    script.line("CWD further", &["> CWD further"]);
    lose(&mut script, &["Reconnect"]);
    replay(&mut script);
    script.reply("250 ok", &["Resume { succeeded: true }", "> CWD further"]);
    script.reply("250 ok", &["< 250 ok"]);

    for harmful in ["DELE f", "RNTO g", "MKD d", "SITE EXEC x", "XYZZY"] {
        let mut script = settled();
        script.line(harmful, &[&format!("> {harmful}")]);
        lose(
            &mut script,
            &[
                "< 451 The connection to the FTP server was lost; it is not known whether this command took effect.",
            ],
        );
        script.line("QUIT", &["< 221 Goodbye.", "Close(Quit)"]);
    }
}

#[test]
fn a_login_goes_on_from_where_it_was() {
    let mut script = Script::new();
    script.line("USER ann", &["> USER ann"]);
    script.reply("331 password", &["< 331 password"]);
    lose(&mut script, &[]);
    script.line("PASS x", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("331 password", &["Resume { succeeded: true }", "> PASS x"]);
    // Once more, with the password on its way.
    lose(&mut script, &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("331 password", &["Resume { succeeded: true }", "> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
}

#[test]
fn who_was_refused_gets_no_new_connection_to_guess_on() {
    let mut script = Script::new();
    script.line("USER ann", &["> USER ann"]);
    script.reply("331 password", &["< 331 password"]);
    script.line("PASS wrong", &["> PASS wrong"]);
    script.reply("530 no", &["Login(false)", "< 530 no"]);
    lose(&mut script, &["< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"]);
}

#[test]
fn what_cannot_be_replayed_is_told_and_never_passes_for_something_else() {
    let mut script = settled();
    script.line("REST 100", &["> REST 100"]);
    script.reply("350 go", &["< 350 go"]);
    lose(&mut script, &[]);
    script.line("PASV", &["Reconnect"]);
    replay(&mut script);
    script.reply("250 ok", &["Resume { succeeded: true }", "> EPSV"]);
    script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
    script.reserved(8192, &["< 227 Entering Passive Mode (127,0,0,2,32,0)"]);
    script.line(
        "STOR f",
        &[
            "Audit(STOR f refused 451)",
            "< 451 The connection to the FTP server was lost after REST; send REST again.",
        ],
    );
    script.line("REST 100", &["> REST 100"]);
    script.reply("350 go", &["< 350 go"]);
    script.line("STOR f", &["TransferStarted(Upload)", "> STOR f"]);

    let mut script = settled();
    script.line("RNFR a", &["> RNFR a"]);
    script.reply("350 go", &["< 350 go"]);
    lose(&mut script, &[]);
    script.line(
        "RNTO b",
        &["< 503 The connection to the FTP server was lost after RNFR; send RNFR again."],
    );

    let mut script = Script::passive();
    lose(&mut script, &["ResetData"]);
    script.line("STOR f", &["Audit(STOR f refused 425)", "< 425 Use PASV or EPSV first."]);
}

#[test]
fn a_transfer_in_flight_ends_in_426_and_the_session_goes_on() {
    let mut script = Script::transferring("STOR f", "Upload");
    lose(
        &mut script,
        &[
            "ResetData",
            "Audit(STOR f upstream-failed 426)",
            "< 426 Transfer aborted. The connection to the FTP server was lost.",
        ],
    );
    script.line("PWD", &["Reconnect"]);

    // All bytes of a download may be there still, and the upstream's 226 is.
    let mut script = Script::transferring("RETR f", "Download");
    script.reply("226 done", &[]);
    lose(&mut script, &[]);
    script.event(
        |dialogue| dialogue.handle_data_ended(7),
        &["FinishData", "Audit(RETR f complete 226)", "< 226 done"],
    );
}

#[test]
fn a_replay_that_is_refused_ends_the_session_and_one_that_is_cut_is_tried_again() {
    let refused = |at: usize, why: &str| {
        let mut script = settled();
        lose(&mut script, &[]);
        script.line("PWD", &["Reconnect"]);
        script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
        let replies = [("331 password", "> PASS x"), ("230 in", "> OPTS UTF8 ON")];
        for (reply, next) in replies.iter().take(at) {
            script.reply(reply, &[next]);
        }
        script.reply(
            "530 no",
            &["Resume { succeeded: false }", &format!("< 421 {why}"), "Close(UpstreamClosed)"],
        );
    };
    refused(0, "The FTP server no longer accepts the login of this session.");
    refused(1, "The FTP server no longer accepts the login of this session.");
    refused(2, "The FTP server no longer accepts the settings of this session.");

    let mut script = settled();
    lose(&mut script, &[]);
    script.line("PWD", &["Reconnect"]);
    for _ in 0..2 {
        script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
        lose(&mut script, &["Reconnect"]);
    }
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply(
        "421 full",
        &[
            "Resume { succeeded: false }",
            "< 421 The FTP server closed the connection.",
            "Close(UpstreamClosed)",
        ],
    );
}

#[test]
fn a_command_that_kills_every_server_ends_the_session_and_one_answer_makes_good() {
    let mut script = settled();
    for _ in 0..2 {
        lose(&mut script, &[]);
        script.line("SIZE f", &["Reconnect"]);
        for _ in 0..2 {
            replay(&mut script);
            script.reply("250 ok", &["Resume { succeeded: true }", "> SIZE f"]);
            lose(&mut script, &["Reconnect"]);
        }
        replay(&mut script);
        script.reply("250 ok", &["Resume { succeeded: true }", "> SIZE f"]);
        script.reply("213 7", &["< 213 7"]);
    }
    script.line("SIZE g", &["> SIZE g"]);
    for _ in 0..3 {
        lose(&mut script, &["Reconnect"]);
        replay(&mut script);
        script.reply("250 ok", &["Resume { succeeded: true }", "> SIZE g"]);
    }
    lose(
        &mut script,
        &[
            "Resume { succeeded: false }",
            "< 421 The FTP server closed the connection.",
            "Close(UpstreamClosed)",
        ],
    );
}

#[test]
fn a_long_walk_through_directories_is_shortened_by_asking_where_it_led() {
    let mut script = Script::logged_in();
    for step in 1..=33 {
        script.line("CWD on", &["> CWD on"]);
        let shown: &[&str] = if step == 33 { &["> PWD", "< 250 ok"] } else { &["< 250 ok"] };
        script.reply("250 ok", shown);
    }
    script.line("NOOP", &[]);
    script.reply("257 \"/a \"\"b\"\"\" here", &["> NOOP"]);
    script.reply("200 ok", &["< 200 ok"]);
    lose(&mut script, &[]);
    script.line("PWD", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("331 password", &["> PASS x"]);
    script.reply("230 in", &["> CWD /a \"b\""]);
    script.reply("250 ok", &["Resume { succeeded: true }", "> PWD"]);
}

#[test]
fn without_resume_a_lost_upstream_ends_the_session() {
    let mut script = Script::with(|terms| terms.resume = false);
    lose(&mut script, &["< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"]);
}

#[test]
fn no_secret_is_shown() {
    let mut script = settled();
    lose(&mut script, &[]);
    script.line("NOOP", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    let shown = format!("{:?}", script.dialogue);
    assert!(!shown.contains("PASS") && !shown.contains("120"), "{shown}");
}

/// What another upstream is told until it has said yes to all of it, each line answered with `good`
/// but PASS and what logs in.
fn replayed(script: &mut Script) -> Vec<String> {
    script.dialogue.handle_upstream_connected(false);
    let mut told = Vec::new();
    loop {
        let actions = script.actions();
        let resumed = actions.iter().any(|action| action == "Resume { succeeded: true }");
        if resumed || actions.is_empty() {
            assert!(resumed, "the replay stopped after {told:?}");
            return told;
        }
        told.extend(actions.iter().map(|action| action.trim_start_matches("> ").to_owned()));
        let verb = told.last().map(|line| line.split(' ').next().unwrap_or_default());
        script.dialogue.handle_reply(reply(match verb {
            Some("USER") => "331 password",
            Some("PASS") => "230 in",
            _ => "200 ok",
        }));
    }
}

#[test]
fn words_on_the_login_after_it_neither_pile_up_nor_take_its_place() {
    let mut script = Script::logged_in();
    for (line, answer) in [
        ("PASS wrong", "202 already logged in"),
        ("PASS wrong", "230 already logged in"),
        ("PASS wrong", "503 already logged in"),
        ("ACCT one", "230 account noted"),
        ("ACCT two", "230 account noted"),
    ] {
        script.line(line, &[&format!("> {line}")]);
        script.dialogue.handle_reply(reply(answer));
        let actions = script.actions();
        assert_eq!(actions.last(), Some(&format!("< {answer}")));
        if line.starts_with("PASS") {
            assert_eq!(actions[0], "> PWD");
            script.reply("257 \"/in\" is it", &[]);
        }
    }
    lose(&mut script, &[]);
    script.line("SIZE f", &["Reconnect"]);
    assert_eq!(replayed(&mut script), ["USER ann", "PASS x", "ACCT two", "CWD /in"]);
}

#[test]
fn a_second_login_is_asked_where_it_is() {
    let mut script = Script::logged_in();
    script.line("CWD /in", &["> CWD /in"]);
    script.reply("250 ok", &["< 250 ok"]);
    script.line("USER ann", &["> USER ann"]);
    script.reply("331 any password will do", &["< 331 any password will do"]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("230 in", &["> PWD", "Login(true)", "< 230 in"]);
    // Until that is known, going on could mean to store a file in the wrong place.
    let mut early = Script::logged_in();
    early.line("USER ann", &["> USER ann"]);
    early.reply("331 any password will do", &["< 331 any password will do"]);
    early.line("PASS x", &["> PASS x"]);
    early.reply("230 in", &["> PWD", "Login(true)", "< 230 in"]);
    lose(&mut early, &["< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"]);

    script.reply("257 \"/in\" is it", &[]);
    lose(&mut script, &[]);
    script.line("SIZE f", &["Reconnect"]);
    assert_eq!(replayed(&mut script), ["USER ann", "PASS x", "CWD /in"]);
}

#[test]
fn a_user_who_is_logged_in_already_stays_so_and_one_who_was_refused_does_not() {
    let mut script = Script::logged_in();
    script.line("USER ann", &["> USER ann"]);
    script.reply("230 already logged in", &["> PWD", "Login(true)", "< 230 already logged in"]);
    script.reply("257 \"/in\" is it", &[]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("503 already logged in", &["> PWD", "Login(false)", "< 503 already logged in"]);
    script.reply("257 \"/in\" is it", &[]);
    lose(&mut script, &[]);
    script.line("SIZE f", &["Reconnect"]);
    assert_eq!(replayed(&mut script), ["USER ann", "PASS x", "CWD /in"]);

    // Apache FtpServer says yes and logs it out.
    let mut script = Script::logged_in();
    script.line("PASS x", &["> PASS x"]);
    script.reply("202 already logged in", &["> PWD", "Login(true)", "< 202 already logged in"]);
    script.reply("530 access denied", &[]);
    lose(&mut script, &["< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"]);

    let mut script = Script::logged_in();
    script.line("USER bob", &["> USER bob"]);
    script.reply("530 no other user", &["< 530 no other user"]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("230 already logged in", &["Login(true)", "< 230 already logged in"]);
    lose(&mut script, &["< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"]);
}

#[test]
fn a_restart_that_only_the_upstream_understood_is_not_lost_silently() {
    for argument in ["5abc", "99999999999999999999"] {
        let mut script = Script::passive();
        script.line(&format!("REST {argument}"), &[&format!("> REST {argument}")]);
        script.reply("350 go", &["< 350 go"]);
        lose(&mut script, &["ResetData"]);
        script.line(
            "STOR f",
            &[
                "Audit(STOR f refused 451)",
                "< 451 The connection to the FTP server was lost after REST; send REST again.",
            ],
        );
    }
}

#[test]
fn what_is_remembered_is_bounded_in_bytes_too() {
    let mut script = Script::logged_in();
    let far = format!("CWD {}", "x/".repeat(1500));
    script.line(&far, &[&format!("> {far}")]);
    script.reply("250 ok", &["< 250 ok"]);
    script.line(&far, &[&format!("> {far}")]);
    script.reply("250 ok", &["> PWD", "< 250 ok"]);
    script.reply("257 \"/far\" is it", &[]);
    let long = format!("OPTS MLST {}", "type;".repeat(500));
    script.line(&long, &[&format!("> {long}")]);
    script.reply("200 ok", &["< 200 ok"]);
    lose(&mut script, &["< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"]);
}

#[test]
fn a_replay_that_meets_nonsense_counts_as_failed() {
    let mut script = settled();
    lose(&mut script, &[]);
    script.line("PWD", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.event(
        |dialogue| dialogue.handle_upstream_closed(SessionEnd::ProtocolError, "Nonsense."),
        &["Resume { succeeded: false }", "< 421 Nonsense.", "Close(ProtocolError)"],
    );
}

#[test]
fn what_waits_to_be_sent_shows_no_secret() {
    let mut script = Script::new();
    script.line("USER ann", &["> USER ann"]);
    script.reply("331 password", &["< 331 password"]);
    script.dialogue.handle_line(Ok(Command::parse("PASS sekret")));
    let shown = format!("{:?}", script.dialogue);
    let bytes = format!("{:?}", b"sekret").trim_matches(['[', ']']).to_owned();
    assert!(!shown.contains("sekret") && !shown.contains(&bytes), "{shown}");
}
