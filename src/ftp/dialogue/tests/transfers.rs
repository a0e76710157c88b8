//! Transfers, from their command to their last word.

use super::*;

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
