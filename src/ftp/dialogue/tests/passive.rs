//! PASV and EPSV, and what the upstream says to them.

use super::*;

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
