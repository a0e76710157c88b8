//! What rules permit: users, commands, endpoints, transfers, and guesses at passwords.

use std::sync::Arc;

use super::*;

fn permit(rule: usize, commands: Commands, limits_transfers: bool) -> Option<Arc<Permit>> {
    Some(Arc::new(Permit { rule, name: format!("rule-{rule}"), commands, limits_transfers }))
}

fn verbs(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// Users who log in under a rule, and one who may not.
fn script() -> Script {
    script_with(|terms| terms.penalties = true)
}

fn script_with(change: impl FnOnce(&mut Terms)) -> Script {
    let mut script = Script::with(change);
    let reader = Commands::Without(verbs(&["DELE", "STAT", "STOR", "MLSD", "RMD"]));
    script.verdicts = HashMap::from([
        (&b"reader"[..], Verdict::Permitted(permit(1, reader, false))),
        (b"writer", Verdict::Permitted(permit(2, Commands::All, false))),
        (b"limited", Verdict::Permitted(permit(3, Commands::All, true))),
        (b"remote", Verdict::Elsewhere(permit(4, Commands::All, false))),
        (b"mallory", Verdict::Denied("Not you.".into())),
    ]);
    script
}

fn log_in(script: &mut Script, user: &str) {
    script.line(&format!("USER {user}"), &[&format!("> USER {user}")]);
    script.reply("331 password", &["< 331 password"]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
}

const DENIED: &str = "CommandDenied { rule: 1 }";

#[test]
fn a_list_of_commands_holds_in_every_spelling_and_leaves_what_a_session_is_made_of() {
    let permits = |commands: &Commands, line: &str| {
        commands.permit(&Command::parse(line.as_bytes()).unwrap())
    };
    let without = Commands::Without(verbs(&["DELE", "RMD", "SITE"]));
    for denied in
        ["DELE f", "dele f", "DeLe\tf", "XRMD d", "XDELE f", "site chmod 600 f", "  DELE f"]
    {
        assert!(!permits(&without, denied), "{denied}");
    }
    assert!(permits(&without, "DELETE f") && permits(&without, "XCUP"));
    let only = Commands::Only(verbs(&["STOR", "CWD"]));
    for line in
        ["STOR f", "XCWD d", "USER a", "PASS b", "QUIT", "PASV", "TYPE I", "REST 3", "AUTH TLS"]
    {
        assert!(permits(&only, line), "{line}");
    }
    for line in ["RETR f", "LIST", "STAT f", "SITE HELP", "XMKD d", "NEVERHEARD"] {
        assert!(!permits(&only, line), "{line}");
    }
    assert!(permits(&only, "GET / HTTP/1.1") && permits(&Commands::All, "DELE f"));
}

#[test]
fn a_denied_command_is_answered_in_its_place_and_never_goes_upstream() {
    let mut script = script();
    script.line("USER reader", &["> USER reader"]);
    for line in ["PASS x", "PWD", "dele f", "XRMD d", "MLSD", "SYST"] {
        script.line(line, &[]);
    }
    script.reply("331 password", &["< 331 password", "> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in", "> PWD"]);
    script.reply(
        "257 \"/\"",
        &[
            "< 257 \"/\"",
            DENIED,
            "< 550 DELE is not allowed by rule rule-1.",
            DENIED,
            "< 550 XRMD is not allowed by rule rule-1.",
            DENIED,
            "Audit(MLSD  refused 502)",
            "< 502 MLSD is not allowed by rule rule-1.",
            "> SYST",
        ],
    );
}

#[test]
fn a_denied_command_does_not_overtake_a_transfer() {
    let mut script = script();
    log_in(&mut script, "reader");
    script.line("PASV", &["> EPSV"]);
    script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
    script.reserved(8192, &["< 227 Entering Passive Mode (127,0,0,2,32,0)"]);
    script.line("RETR f", &["TransferStarted(Download)", "> RETR f"]);
    script.line("STAT", &[]);
    script.reply(
        "550 no",
        &[
            "ResetData",
            "Audit(RETR f refused 550)",
            "< 550 no",
            DENIED,
            "< 550 STAT is not allowed by rule rule-1.",
        ],
    );
}

#[test]
fn a_denied_user_is_told_so_and_the_upstream_hears_nothing() {
    let mut script = script();
    script.line("USER mallory", &["< 530 Not you."]);
    assert!(script.dialogue.user().is_empty());
    log_in(&mut script, "reader");
    // Who is logged in stays so.
    script.line("USER mallory", &["< 530 Not you."]);
    assert_eq!(script.dialogue.user(), b"reader");
    script.line("DELE f", &[DENIED, "< 550 DELE is not allowed by rule rule-1."]);
}

#[test]
fn another_user_widens_nothing_before_the_upstream_has_taken_the_login() {
    let mut script = script_with(|terms| terms.resume = false);
    log_in(&mut script, "reader");
    let denied = [DENIED, "< 550 DELE is not allowed by rule rule-1."];
    script.line("USER writer", &["> USER writer"]);
    assert_eq!(script.dialogue.rules().collect::<Vec<_>>(), [1, 2]);
    script.reply("331 password", &["< 331 password"]);
    script.line("DELE f", &denied);
    // vsftpd refuses another USER, and takes the PASS behind it.
    script.line("USER writer", &["> USER writer"]);
    script.reply("530 Can't change from this user.", &["< 530 Can't change from this user."]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("230 already", &["Login(true)", "< 230 already"]);
    script.line("DELE f", &denied);
    // Some take any USER of who is logged in for the same.
    script.line("USER writer", &["> USER writer"]);
    script.reply("230 already", &["Login(true)", "< 230 already"]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("202 no need", &["Login(true)", "< 202 no need"]);
    script.line("DELE f", &denied);
    log_in(&mut script, "writer");
    script.line("DELE f", &["> DELE f"]);
    assert_eq!(script.dialogue.rules().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_user_whom_the_upstream_refuses_takes_nobody_out_of_a_rule() {
    for nobody in ["USER", "USER stranger"] {
        let mut script = script_with(|terms| terms.resume = false);
        script.line("USER reader", &["> USER reader"]);
        script.reply("331 password", &["< 331 password"]);
        // ProFTPD still waits for the password of the one before.
        script.line(nobody, &[&format!("> {nobody}")]);
        script.reply("501 no", &["< 501 no"]);
        assert_eq!(script.dialogue.user(), b"reader");
        script.line("PASS x", &["> PASS x"]);
        script.reply("230 in", &["Login(true)", "< 230 in"]);
        script.line("DELE f", &[DENIED, "< 550 DELE is not allowed by rule rule-1."]);
        // Nor does it rename who is logged in.
        script.line(nobody, &[&format!("> {nobody}")]);
        script.reply("501 no", &["< 501 no"]);
        assert_eq!(script.dialogue.user(), b"reader");
        assert_eq!(script.dialogue.standing_rule(), Some(1));
    }
}

#[test]
fn who_is_logged_in_without_a_rule_takes_no_place_of_who_asks_to_be() {
    let mut script = script_with(|terms| terms.resume = false);
    log_in(&mut script, "stranger");
    script.line("USER reader", &["> USER reader"]);
    script.reply("331 password", &["< 331 password"]);
    assert_eq!(script.dialogue.standing_rule(), None);
    script.line("PASS x", &["> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
    assert_eq!(script.dialogue.standing_rule(), Some(1));
}

#[test]
fn what_a_client_may_before_its_user_is_known_comes_back_with_rein() {
    let commands = Commands::Without(verbs(&["SYST"]));
    let mut script = Script::with(|terms| terms.permit = permit(7, commands, false));
    script.verdicts.insert(b"writer", Verdict::Permitted(permit(2, Commands::All, false)));
    let denied = ["CommandDenied { rule: 7 }", "< 550 SYST is not allowed by rule rule-7."];
    script.line("SYST", &denied);
    log_in(&mut script, "writer");
    script.line("SYST", &["> SYST"]);
    script.reply("215 UNIX", &["< 215 UNIX"]);
    script.line("REIN", &["> REIN"]);
    script.reply("220 again", &["< 220 again"]);
    script.line("SYST", &denied);
}

#[test]
fn a_user_who_is_served_elsewhere_is_taken_there_with_what_was_said_before() {
    let mut script = script();
    script.line("CLNT x", &["> CLNT x"]);
    script.reply("200 ok", &["< 200 ok"]);
    script.line("USER someone", &["> USER someone"]);
    script.reply("331 password", &["< 331 password"]);
    script.line("USER remote", &["Reconnect"]);
    script.line("PASS x", &[]);
    assert_eq!(script.dialogue.latest_rule(), Some(4));
    script.verdicts.insert(b"remote", Verdict::Permitted(permit(4, Commands::All, false)));
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> CLNT x"]);
    script.reply("200 ok", &["Moved { succeeded: true }", "> USER remote"]);
    script.reply("331 password", &["< 331 password", "> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
    // Lost, it goes on like any other.
    script.event(Dialogue::handle_upstream_lost, &[]);
    script.line("PWD", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER remote"]);
    script.reply("331 password", &["> PASS x"]);
    script.reply("230 in", &["> CLNT x"]);
    script.reply("200 ok", &["Resume { succeeded: true }", "> PWD"]);
}

#[test]
fn a_user_who_cannot_be_taken_elsewhere_is_asked_to_connect_again() {
    const AGAIN: &str = "< 421 Please connect again to log in as this user.";
    let mut logged_in = script();
    log_in(&mut logged_in, "reader");
    logged_in.line("USER remote", &["< 530 Log in as this user in a new connection."]);
    assert_eq!(logged_in.dialogue.user(), b"reader");

    let mut guessed = script();
    guessed.line("USER someone", &["> USER someone"]);
    guessed.reply("331 password", &["< 331 password"]);
    guessed.line("PASS x", &["> PASS x"]);
    guessed.reply("530 no", &["Login(false)", "Penalise"]);
    guessed.event(|dialogue| dialogue.handle_penalty_over(false), &["< 530 no"]);
    guessed.line("USER remote", &[AGAIN, "Close(Moved)"]);

    let mut restless = script();
    for _ in 0..3 {
        restless.line("USER remote", &["Reconnect"]);
        restless.verdicts.insert(b"remote", Verdict::Permitted(None));
        restless.event(
            |dialogue| dialogue.handle_upstream_connected(false),
            &["Moved { succeeded: true }", "> USER remote"],
        );
        restless.reply("331 password", &["< 331 password"]);
        restless.verdicts.insert(b"remote", Verdict::Elsewhere(None));
    }
    restless.line("USER remote", &[AGAIN, "Close(Moved)"]);

    let mut nowhere = script();
    nowhere.line("USER remote", &["Reconnect"]);
    nowhere.event(
        Dialogue::handle_reconnect_failed,
        &[
            "Moved { succeeded: false }",
            "< 421 No FTP server can be reached now; try again later.",
            "Close(UpstreamClosed)",
        ],
    );
}

#[test]
fn a_transfer_of_a_rule_that_limits_them_is_asked_for_once_it_can_begin() {
    let mut script = script();
    log_in(&mut script, "limited");
    script.line("RETR f", &["Audit(RETR f refused 425)", "< 425 Use PASV or EPSV first."]);
    script.line("PASV", &["> EPSV"]);
    script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
    script.reserved(8192, &["< 227 Entering Passive Mode (127,0,0,2,32,0)"]);
    script.line("RETR f", &["AskTransfer"]);
    script.line("PWD", &[]);
    script.event(
        |dialogue| dialogue.handle_transfer_verdict(false),
        &[
            "Audit(RETR f refused 450)",
            "< 450 Rule rule-3 allows no more transfers at once; try again later.",
            "> PWD",
        ],
    );
    script.reply("257 \"/\"", &["< 257 \"/\""]);
    // The port that it has been given is still good.
    script.line("RETR f", &["AskTransfer"]);
    script.event(
        |dialogue| dialogue.handle_transfer_verdict(true),
        &["TransferStarted(Download)", "> RETR f"],
    );
}

#[test]
fn a_refused_login_is_told_when_its_time_has_come_or_the_session_ends() {
    let guess = || {
        let mut script = script();
        script.line("USER someone", &["> USER someone"]);
        script.reply("331 password", &["< 331 password"]);
        script.line("PASS x", &["> PASS x"]);
        script.reply("530 no", &["Login(false)", "Penalise"]);
        script.line("USER other", &[]);
        assert_eq!(script.dialogue.waiting(), Waiting::Login);
        script
    };
    let mut patient = guess();
    patient.event(|dialogue| dialogue.handle_penalty_over(false), &["< 530 no", "> USER other"]);
    let mut banned = guess();
    banned.event(
        |dialogue| dialogue.handle_penalty_over(true),
        &["< 530 no", "< 421 Too many failed logins; try again later.", "Close(Banned)"],
    );
    let mut lost = guess();
    lost.event(
        Dialogue::handle_upstream_lost,
        &["< 530 no", "< 421 The FTP server closed the connection.", "Close(UpstreamClosed)"],
    );
    let mut dismissed = guess();
    dismissed.reply("421 off", &["< 530 no", "< 421 off", "Close(UpstreamClosed)"]);
}
