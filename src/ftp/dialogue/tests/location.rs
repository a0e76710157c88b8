//! Where uploads are, and which files are gone.

use super::*;

/// A session in TYPE I, in a directory, that tells where its files are.
fn in_directory() -> Script {
    let mut script = Script::with(|terms| terms.locate = true);
    script.line("USER ann", &["> USER ann"]);
    script.reply("331 password", &["< 331 password"]);
    script.line("PASS x", &["> PASS x"]);
    script.reply("230 in", &["Login(true)", "< 230 in"]);
    script.line("CWD /in", &["> CWD /in"]);
    script.reply("250 there", &["< 250 there"]);
    script.line("TYPE I", &["> TYPE I"]);
    script.reply("200 ok", &["< 200 ok"]);
    script
}

/// An upload from 229 to 226, or what comes in its place: where it is, and whether it is as it was sent.
fn upload(script: &mut Script, command: &str, last: &str) -> (Option<Place>, bool) {
    let dialogue = &mut script.dialogue;
    let line = |dialogue: &mut Dialogue, line: &str| dialogue.handle_line(Ok(Command::parse(line)));
    line(dialogue, "PASV");
    dialogue.handle_reply(reply("229 ok (|||5001|)"));
    dialogue.handle_port_reserved(([127, 0, 0, 2], 8192).into());
    line(dialogue, command);
    dialogue.handle_reply(reply("150 go"));
    dialogue.handle_data_opened();
    dialogue.handle_data_ended(40);
    dialogue.handle_reply(reply(last));
    let (mut place, mut as_sent) = (None, false);
    while let Some(action) = dialogue.poll_action() {
        match action {
            Action::UploadStarted(started) => place = Some(started),
            Action::Audit(end) => as_sent = end.as_sent,
            _ => {}
        }
    }
    (place, as_sent)
}

#[test]
fn it_is_told_where_an_upload_is_and_whether_it_is_as_it_was_sent() {
    let place = Some(Place { from_home: false, path: b"in/f".to_vec() });
    for (before, command, last, located, as_sent) in [
        ("NOOP", "STOR f", "226 ok", true, true),
        ("NOOP", "STOR f", "551 no", true, false),
        ("NOOP", "STOR ~f", "226 ok", false, true),
        ("NOOP", "APPE f", "226 ok", true, false),
        ("NOOP", "STOU", "226 ok", false, false),
        ("REST 9", "STOR f", "226 ok", true, false),
        ("TYPE A", "STOR f", "226 ok", true, false),
        ("CWD ~", "STOR f", "226 ok", false, true),
    ] {
        let mut script = in_directory();
        script.dialogue.handle_line(Ok(Command::parse(before)));
        let answer = if before == "REST 9" { "350 go" } else { "200 ok" };
        script.dialogue.handle_reply(reply(answer));
        let told = upload(&mut script, command, last);
        let expected = (place.clone().filter(|_| located), as_sent);
        assert_eq!(told, expected, "{before} {command} {last}");
    }
}

#[test]
fn nobody_is_told_who_does_not_ask() {
    let mut script = Script::logged_in();
    script.line("TYPE I", &["> TYPE I"]);
    script.reply("200 ok", &["< 200 ok"]);
    assert_eq!(upload(&mut script, "STOR /f", "226 ok"), (None, false));
    script.line("DELE /f", &["> DELE /f"]);
    script.reply("250 ok", &["< 250 ok"]);
}
