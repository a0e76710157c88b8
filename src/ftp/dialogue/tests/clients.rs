//! What clients may do that Transfer Family does not take: TLS, TYPE A, active mode.

use super::*;

/// A session before a listener that offers everything, logged in.
fn offered() -> Script {
    let mut script = Script::of(terms());
    script.line("USER ann", &["> USER ann"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
    script
}

/// A session whose client has done its handshake before it logged in.
fn secured(change: impl FnOnce(&mut Security)) -> Script {
    let mut terms = terms();
    change(&mut terms.security);
    let mut script = Script::of(terms);
    script.line("AUTH TLS", &["StartTls(234 Begin the TLS handshake.)"]);
    assert_eq!(script.dialogue.waiting(), Waiting::Handshake);
    assert!(!script.dialogue.wants_line());
    script.event(Dialogue::handle_secured, &[]);
    script.line("USER ann", &["> USER ann"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
    script
}

/// Gives the script a data connection and a transfer, and says how its bytes go.
fn begin(script: &mut Script, command: &str) -> String {
    script.line("EPSV", &["> EPSV"]);
    script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
    script.reserved(8192, &["< 229 Entering Passive Mode (|||8192|)"]);
    script.dialogue.handle_line(Ok(Command::parse(command)));
    script.actions();
    script.dialogue.handle_data_opened();
    script.actions().concat()
}

#[test]
fn tls_is_begun_by_auth_and_covers_data_by_prot() {
    let mut script = secured(|_| ());
    assert_eq!(begin(&mut script, "RETR f"), "Relay(Download)");
    script.event(|dialogue| dialogue.handle_data_ended(1), &[]);
    script.reply("226 ok", &["FinishData", "Audit(RETR f complete 226)", "< 226 ok"]);
    for (line, answer) in [
        ("AUTH TLS", "< 503 TLS is in use already."),
        ("PROT P", "< 503 Use AUTH TLS and PBSZ first."),
        ("PBSZ x", "< 501 PBSZ takes a number; 0 will do."),
        ("PBSZ 0", "< 200 PBSZ=0"),
        ("PROT S", "< 536 TLS knows PROT P and PROT C only."),
        ("PROT X", "< 504 PROT takes P or C."),
        ("PROT P", "< 200 Data connections are protected."),
        ("CCC", "< 534 TLS stays on here."),
        ("MIC x", "< 502 No security mechanism but TLS is known here."),
        ("REIN", "< 502 REIN is not offered within TLS; connect again."),
    ] {
        script.line(line, &[answer]);
    }
    assert_eq!(begin(&mut script, "STOR f"), "Relay(Upload within TLS)");
}

#[test]
fn what_was_said_in_the_clear_does_not_count_in_tls() {
    for line in ["USER evil", "REST 100", "OPTS UTF8 OFF", "PASV", "HOST a", "TYPE A", "XYZZY"] {
        let mut script = Script::of(terms());
        script.dialogue.handle_line(Ok(Command::parse(line)));
        script.actions();
        script.dialogue.handle_reply(reply("530 no"));
        script.actions();
        let refused = ["< 503 AUTH must come first; connect again and begin with it."];
        script.line("AUTH TLS", &refused);
    }
    let mut harmless = Script::of(terms());
    for line in ["FEAT", "NOOP", "HELP", "SYST"] {
        harmless.dialogue.handle_line(Ok(Command::parse(line)));
        harmless.dialogue.handle_reply(reply("200 ok"));
        harmless.actions();
    }
    harmless.line("AUTH SSL", &["StartTls(234 Begin the TLS handshake.)"]);
}

#[test]
fn a_line_in_the_clear_behind_auth_ends_the_session() {
    let why = "< 421 Nothing may come behind AUTH in the clear.";
    let mut queued = Script::of(terms());
    queued.line("NOOP", &["> NOOP"]);
    queued.line("AUTH TLS", &[]);
    queued.line("USER evil", &[]);
    queued.reply("200 ok", &["< 200 ok", why, "Close(PlaintextBehindAuth)"]);

    let mut buffered = Script::of(terms());
    buffered.line("AUTH TLS", &["StartTls(234 Begin the TLS handshake.)"]);
    let event = Dialogue::handle_plaintext_behind_auth;
    buffered.event(event, &[why, "Close(PlaintextBehindAuth)"]);
}

#[test]
fn a_listener_that_demands_tls_takes_no_name_and_no_file_without_it() {
    let mut script = Script::with(|terms| {
        terms.security = Security { offered: true, required: true, ..Security::default() };
    });
    for line in ["USER ann", "PASS x", "PASV", "RETR f", "CWD /", "XYZZY"] {
        script.line(line, &["< 530 Only with TLS: AUTH TLS first."]);
    }
    script.line("FEAT", &["> FEAT"]);
    let none = "< 211-Features:\r\n AUTH TLS\r\n EPSV\r\n PBSZ\r\n PROT\r\n211 End";
    script.reply("502 none", &[none]);

    let mut exposed = secured(|security| security.requires_data = true);
    exposed.line("PBSZ 0", &["< 200 PBSZ=0"]);
    exposed.line("PROT C", &["< 534 Data connections must be protected here (PROT P)."]);
    let refused = "< 521 Data connections must be protected: PROT P first.";
    exposed.line("LIST", &["Audit(LIST  refused 521)", refused]);
    exposed.line("PROT P", &["< 200 Data connections are protected."]);
    assert_eq!(begin(&mut exposed, "LIST"), "Relay(Listing within TLS)");
}

#[test]
fn implicit_tls_protects_data_from_the_start() {
    let mut script = Script::with(|terms| {
        terms.security =
            Security { offered: true, implicit: true, required: true, requires_data: true };
    });
    script.line("USER ann", &["> USER ann"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
    assert_eq!(begin(&mut script, "STOR f"), "Relay(Upload within TLS)");
}

#[test]
fn a_data_connection_of_somebody_else_is_told_as_such_whatever_the_upstream_says() {
    for (failure, why) in [
        (DataFailure::NoTls, "no TLS handshake on it."),
        (DataFailure::NotResumed, "it must resume the TLS session of the control connection."),
    ] {
        for said in ["426 cut", "226 done", "550 no"] {
            let mut script = secured(|_| ());
            script.line("PBSZ 0", &["< 200 PBSZ=0"]);
            script.line("PROT P", &["< 200 Data connections are protected."]);
            begin(&mut script, "STOR f");
            script.reply("150 go", &["< 150 go"]);
            script.event(|dialogue| dialogue.handle_data_failed(failure), &["ResetData"]);
            let told = format!("< 425 Can't open data connection: {why}");
            script.reply(said, &["Audit(STOR f client-failed 425)", &told]);
        }
    }
}

#[test]
fn type_a_is_the_gateways_and_the_upstream_only_sees_type_i() {
    let mut script = offered();
    let ok = "< 200 Type set to A; the gateway translates line ends.";
    for line in ["TYPE A", "type a n"] {
        script.line(line, &["> TYPE I"]);
        script.reply("200 binary", &[ok]);
    }
    for (line, answer) in [
        ("SIZE f", "< 550 SIZE is not to be had in TYPE A; use TYPE I."),
        ("REST 5", "< 504 REST needs TYPE I."),
        ("TYPE A C", "< 504 TYPE A takes no form but N."),
    ] {
        script.line(line, &[answer]);
    }
    assert_eq!(begin(&mut script, "STOR f"), "Relay(Upload in ASCII)");
    script.event(|dialogue| dialogue.handle_data_ended(1), &["FinishData"]);
    script.reply("226 ok", &["ReleaseData", "Audit(STOR f complete 226)", "< 226 ok"]);
    assert_eq!(begin(&mut script, "LIST"), "Relay(Listing)");
    script.event(|dialogue| dialogue.handle_data_ended(1), &[]);
    script.reply("226 ok", &["FinishData", "Audit(LIST  complete 226)", "< 226 ok"]);
    script.line("TYPE L 8", &["> TYPE I"]);
    script.reply("200 binary", &["< 200 binary"]);
    assert_eq!(begin(&mut script, "RETR f"), "Relay(Download)");
}

#[test]
fn type_a_that_cannot_be_had_or_would_move_an_offset_is_refused() {
    let mut script = offered();
    script.line("TYPE A", &["> TYPE I"]);
    script.reply("504 no", &["< 504 no"]);
    script.line("REST 5", &["> REST 5"]);
    script.reply("350 ok", &["< 350 ok"]);
    let refused = "< 503 REST is in effect and needs TYPE I; send REST 0 first.";
    script.line("TYPE A", &[refused]);

    let mut through = Script::logged_in();
    through.line("TYPE A", &["> TYPE A"]);
    through.reply("200 ascii", &["< 200 ascii"]);
    assert_eq!(begin(&mut through, "STOR f"), "Relay(Upload)");
}

#[test]
fn a_client_that_never_says_type_may_be_taken_at_rfc_959s_word() {
    let mut script = Script::with(|terms| terms.ascii = Ascii::TranslateByDefault);
    script.line("USER ann", &["> USER ann"]);
    script.reply("230 in", &["Login(true)", "< 230 in", "> TYPE I"]);
    script.line("EPSV", &[]);
    script.reply("200 binary", &["> EPSV"]);
    script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
    script.reserved(8192, &["< 229 Entering Passive Mode (|||8192|)"]);
    script.line("STOR f", &["TransferStarted(Upload)", "> STOR f"]);
    script.event(Dialogue::handle_data_opened, &["Relay(Upload in ASCII)"]);
    script.event(|dialogue| dialogue.handle_data_ended(1), &["FinishData"]);
    script.reply("226 ok", &["ReleaseData", "Audit(STOR f complete 226)", "< 226 ok"]);
    script.event(Dialogue::handle_upstream_lost, &[]);
    script.line("TYPE I", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("230 in", &["> TYPE I"]);
    script.reply("200 binary", &["Resume { succeeded: true }", "> TYPE I"]);
    script.reply("200 binary", &["< 200 binary"]);
    assert_eq!(begin(&mut script, "STOR f"), "Relay(Upload)");
}

#[test]
fn what_there_is_anyway_is_granted_though_the_upstream_does_not_know_it() {
    let mut script = offered();
    for (line, answer) in
        [("STRU F", "< 200 Structure set to F."), ("MODE S", "< 200 Mode set to S.")]
    {
        script.line(line, &[&format!("> {line}")]);
        script.reply("502 what?", &[answer]);
    }
    script.line("STRU R", &["> STRU R"]);
    script.reply("504 no", &["< 504 no"]);
}

#[test]
fn a_lost_upstream_is_told_type_i_again_and_the_client_stays_in_type_a() {
    let mut script = offered();
    script.line("TYPE A", &["> TYPE I"]);
    script.event(Dialogue::handle_upstream_lost, &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("230 in", &["Resume { succeeded: true }", "> TYPE I"]);
    let ok = "< 200 Type set to A; the gateway translates line ends.";
    script.reply("200 binary", &[ok]);
    script.event(Dialogue::handle_upstream_lost, &[]);
    script.line("NOOP", &["Reconnect"]);
    script.event(|dialogue| dialogue.handle_upstream_connected(false), &["> USER ann"]);
    script.reply("230 in", &["> TYPE I"]);
    script.reply("200 binary", &["Resume { succeeded: true }", "> NOOP"]);
    script.reply("200 ok", &["< 200 ok"]);
    assert_eq!(begin(&mut script, "STOR f"), "Relay(Upload in ASCII)");
}

#[test]
fn a_client_in_active_mode_is_connected_to_when_it_transfers() {
    for (line, answer) in [
        ("PORT 127,0,0,1,200,1", "< 200 PORT command successful."),
        ("EPRT |1|127.0.0.1|51201|", "< 200 EPRT command successful."),
        ("EPRT |1|0.0.0.0|51201|", "< 200 EPRT command successful."),
    ] {
        let mut script = offered();
        script.line(line, &["> EPSV"]);
        script.reply("229 (|||5001|)", &["AwaitTransfer(127.0.0.1:51201, 5001)", answer]);
        script.line("STOR f", &["CallBack"]);
        let started = ["TransferStarted(Upload)", "> STOR f", "Relay(Upload)"];
        script.event(Dialogue::handle_data_opened, &started);
        script.reply("150 go", &["< 150 go"]);
        script.event(|dialogue| dialogue.handle_data_ended(1), &["FinishData"]);
        script.reply("226 ok", &["ReleaseData", "Audit(STOR f complete 226)", "< 226 ok"]);
        let again = "< 425 Use PASV, EPSV, PORT or EPRT first.";
        script.line("STOR f", &["Audit(STOR f refused 425)", again]);
    }
}

#[test]
fn a_client_that_cannot_be_reached_is_told_so_and_the_upstream_is_not_left_waiting() {
    let mut script = offered();
    script.line("PORT 127,0,0,1,200,1", &["> EPSV"]);
    let await_transfer = "AwaitTransfer(127.0.0.1:51201, 5001)";
    script.reply("229 (|||5001|)", &[await_transfer, "< 200 PORT command successful."]);
    let told = "< 425 Can't open data connection: your port cannot be reached.";
    script.line("STOR f", &["CallBack"]);
    let expected = ["ResetData", "Audit(STOR f client-failed 425)", told];
    script.event(Dialogue::handle_client_unreachable, &expected);
    script.line("NOOP", &["> NOOP"]);
}

/// A session whose client is being called for the transfer of that line.
fn calling(line: &str) -> Script {
    let mut script = offered();
    script.line("PORT 127,0,0,1,200,1", &["> EPSV"]);
    let await_transfer = "AwaitTransfer(127.0.0.1:51201, 5001)";
    script.reply("229 (|||5001|)", &[await_transfer, "< 200 PORT command successful."]);
    script.line(line, &["CallBack"]);
    script
}

#[test]
fn an_upstream_that_leaves_while_the_client_is_called_need_not_forget_a_restart() {
    let mut script = offered();
    script.line("REST 9", &["> REST 9"]);
    script.reply("350 go", &["< 350 go"]);
    script.line("PORT 127,0,0,1,200,1", &["> EPSV"]);
    let await_transfer = "AwaitTransfer(127.0.0.1:51201, 5001)";
    script.reply("229 (|||5001|)", &[await_transfer, "< 200 PORT command successful."]);
    script.line("STOR f", &["CallBack"]);
    let why = "The FTP server closed the connection.";
    let expected = [
        "ResetData",
        "Audit(STOR f upstream-failed 426)",
        &format!("< 426 Transfer aborted. {why}"),
        &format!("< 421 {why}"),
        "Close(UpstreamClosed)",
    ];
    let closed = |dialogue: &mut Dialogue| {
        dialogue.handle_upstream_closed(SessionEnd::UpstreamClosed, why);
    };
    script.event(closed, &expected);
}

#[test]
fn a_transfer_for_which_the_client_is_being_called_ends_like_any_other() {
    let mut script = calling("RETR f");
    let aborted = "< 426 Connection closed; transfer aborted.";
    let done = "< 226 ABOR command successful.";
    script.line("ABOR", &["ResetData", "Audit(RETR f aborted 426)", aborted, done]);
    script.line("NOOP", &["> NOOP"]);

    let mut script = calling("STOR f");
    let told = "< 425 Can't open data connection: the FTP server's port cannot be reached.";
    let expected = ["ResetData", "Audit(STOR f upstream-failed 425)", told];
    script.event(Dialogue::handle_dial_failed, &expected);
    script.line("NOOP", &["> NOOP"]);

    let mut script = calling("STOR f");
    let expected = ["ResetData", "Audit(STOR f client-failed -)", "Close(ClientClosed)"];
    script.event(Dialogue::handle_client_closed, &expected);
}

#[test]
fn an_offset_for_a_transfer_that_the_upstream_does_not_hear_of_is_taken_back() {
    let mut script = offered();
    script.line("REST 100", &["> REST 100"]);
    script.reply("350 ok", &["< 350 ok"]);
    let why = "< 425 Use PASV, EPSV, PORT or EPRT first.";
    script.line("STOR f", &["Audit(STOR f refused 425)", why, "> REST 0"]);
    script.line("NOOP", &[]);
    script.reply("350 ok", &["> NOOP"]);
}

#[test]
fn nobody_but_the_client_is_connected_to() {
    let mut script = offered();
    for (line, reason, why) in [
        ("PORT 10,0,0,5,31,64", "ThirdHost", "Only your own address is connected to."),
        ("EPRT |1|10.0.0.5|6000|", "ThirdHost", "Only your own address is connected to."),
        ("PORT 127,0,0,1,0,22", "LowPort", "Ports below 1024 are not connected to."),
        ("PORT 127,0,0,1,3,255", "LowPort", "Ports below 1024 are not connected to."),
    ] {
        let counted = format!("CallbackRefused({reason})");
        script.line(line, &[&counted, &format!("< 504 {why}")]);
    }
    for line in ["PORT 1,2,3,4,5", "PORT 256,0,0,1,31,64", "PORT", "EPRT |1|127.0.0.1|0|", "EPRT x"]
    {
        script.line(line, &["< 501 No address of the form that this command takes."]);
    }
    for line in ["EPRT |2|::1|6000|", "EPRT |3|x|6000|"] {
        script.line(line, &["< 522 Network protocol not supported, use (1)"]);
    }
    // A client on this very machine, whose address is ours too.
    let mut own = Script::with(|terms| {
        (terms.active, terms.client) = (true, terms.own_address);
    });
    own.line("USER ann", &["> USER ann"]);
    own.reply("230 in", &["Login(true)", "< 230 in"]);
    let refused = ["CallbackRefused(Gateway)", "< 504 That port is this gateway's own."];
    own.line("PORT 127,0,0,2,32,3", &refused);
    // An IPv4 client of an IPv6 socket, and an IPv6 client.
    for (client, line) in [
        ("::ffff:127.0.0.1", "PORT 127,0,0,1,200,1"),
        ("::ffff:127.0.0.1", "EPRT |1|127.0.0.1|51201|"),
        ("2001:db8::7", "EPRT |2|2001:db8::7|51201|"),
        ("2001:db8::7", "EPRT |2|::|51201|"),
    ] {
        let mut six = Script::with(|terms| {
            (terms.active, terms.client) = (true, client.parse().unwrap());
        });
        six.line("USER ann", &["> USER ann"]);
        six.reply("230 in", &["Login(true)", "< 230 in"]);
        six.line(line, &["> EPSV"]);
    }
    let mut all = offered();
    all.line("EPSV ALL", &["< 200 EPSV ALL is in effect."]);
    all.line("PORT 127,0,0,1,200,1", &["< 503 EPSV ALL is in effect; use EPSV."]);
}
