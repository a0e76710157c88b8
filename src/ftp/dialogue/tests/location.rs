//! Where uploads are, and which files are gone.

use super::*;

/// A session whose whereabouts are told, in the root, behind a 227.
fn located() -> Script {
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

/// An upload from 229 to 226, or what comes in its place; the file that is gone, and the place.
fn upload(script: &mut Script, command: &str, last: &str) -> (Option<Place>, Option<Place>) {
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
    let (mut gone, mut place) = (None, None);
    while let Some(action) = dialogue.poll_action() {
        match action {
            Action::FileGone { from, to: None } => gone = Some(from),
            Action::Audit(end) => place = end.place,
            _ => {}
        }
    }
    (gone, place)
}

#[test]
fn the_place_of_an_upload_is_told_if_its_size_is_known_and_that_of_what_was_there_before() {
    let place = Some(Place { from_home: false, path: b"in/f".to_vec() });
    for (before, command, last, gone, known) in [
        ("NOOP", "STOR f", "226 ok", true, true),
        ("NOOP", "STOR f", "551 no", true, false),
        ("NOOP", "STOR ~f", "226 ok", false, false),
        ("NOOP", "APPE f", "226 ok", true, false),
        ("NOOP", "STOU", "226 ok", false, false),
        ("REST 9", "STOR f", "226 ok", true, false),
        ("TYPE A", "STOR f", "226 ok", true, false),
        ("CWD ~", "STOR f", "226 ok", false, false),
    ] {
        let mut script = located();
        script.dialogue.handle_line(Ok(Command::parse(before)));
        let answer = if before == "REST 9" { "350 go" } else { "200 ok" };
        script.dialogue.handle_reply(reply(answer));
        let told = upload(&mut script, command, last);
        let expected = (place.clone().filter(|_| gone), place.clone().filter(|_| known));
        assert_eq!(told, expected, "{before} {command} {last}");
    }
}

#[test]
fn nobody_is_told_who_does_not_ask() {
    let mut script = Script::logged_in();
    script.line("TYPE I", &["> TYPE I"]);
    script.reply("200 ok", &["< 200 ok"]);
    assert_eq!(upload(&mut script, "STOR /f", "226 ok"), (None, None));
    script.line("DELE /f", &["> DELE /f"]);
    script.reply("250 ok", &["< 250 ok"]);
}
