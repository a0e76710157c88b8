//! The log in each of its formats: each line that a session logs says whose it is. `"journald"` is with a
//! real systemd-journald in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::address;
use crate::harness::canned::CannedServer;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;

/// Starts a journal, has one client come and go, and prints what the journal holds of that session.
const SCRIPT: &str = r#"
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald & journal=$!
until [ -S /run/systemd/journal/socket ]; do sleep 0.05; done
"$1" serve --config "$2" & gateway=$!
until curl --silent --fail --output /run/livez "http://$3:9121/livez"; do sleep 0.05; done
curl --silent --head "ftp://$3:2121/" >&2
kill $gateway
wait $gateway
journalctl --sync
journalctl --output json FTPGATE_ID=1
kill $journal
"#;

/// A file for a gateway before that server that logs to the journal.
fn configuration(server: &CannedServer, own: &str, directory: &Path) -> PathBuf {
    let file = directory.join("ftpgate.toml");
    let text = format!(
        "[[listener]]\naddress = \"{own}:2121\"\n[[upstream.endpoint]]\naddress = \"{}\"\n\
         [http]\naddress = \"{own}:9121\"\n[admin]\nenabled = false\n[log]\nformat = \"journald\"\n",
        server.address
    );
    fs::write(&file, text).unwrap();
    file
}

/// A gateway's log in that format, of which two clients have said where they are, and each has come and gone.
fn of_two_sessions(format: &str) -> (Vec<String>, [String; 2]) {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address)
        .set("log", "level = \"info\"")
        .set("log", format)
        .start();
    let mut clients = [Ftp::connect(gateway.address), Ftp::connect(gateway.address)];
    for client in &mut clients {
        client.log_in_as("anyone");
    }
    let whose = clients.each_ref().map(|it| it.stream().local_addr().unwrap().to_string());
    for mut client in clients {
        client.command("QUIT").expect(&[221]);
        assert!(client.is_closed());
    }
    gateway.sigterm();
    gateway.logs("drained");
    (gateway.log().lines().map(str::to_owned).collect(), whose)
}

#[test]
fn a_line_of_text_says_whose_session_it_is_about_and_no_other_line_does() {
    let (lines, whose) = of_two_sessions("format = \"text\"");
    for (id, client) in (1..).zip(whose) {
        let span = format!(" session{{id={id} client={client}}}: ");
        let of_it: Vec<&str> =
            lines.iter().filter_map(|line| Some(line.split_once(&span)?.1)).collect();
        let [login, ended] = of_it[..] else { panic!("{lines:#?}") };
        assert!(login.starts_with("login accepted=true user=anyone endpoint=127."), "{login}");
        assert_eq!(ended, "ended reason=\"quit\"");
    }
    let drained = lines.iter().find(|line| line.ends_with("drained")).unwrap();
    assert!(!drained.contains("session{"), "{drained}");
}

#[test]
fn a_line_of_json_has_the_session_in_its_span() {
    let (lines, whose) = of_two_sessions("format = \"json\"");
    let lines: Vec<Value> = lines.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    for (id, client) in (1..).zip(whose) {
        let of_it: Vec<&Value> = lines.iter().filter(|it| it["span"]["id"] == id).collect();
        let told: Vec<&str> = of_it.iter().map(|it| it["message"].as_str().unwrap()).collect();
        assert_eq!(told, ["login", "ended"]);
        for line in of_it {
            assert_eq!(line["span"]["client"], client);
            assert_eq!(line["spans"].as_array().unwrap().len(), 1);
        }
    }
    assert!(lines.iter().any(|it| it["message"] == "drained" && it["span"].is_null()));
}

#[test]
fn a_log_of_warnings_only_says_whose_they_are() {
    for format in ["text", "json"] {
        let server = CannedServer::script().start();
        let gateway = Gateway::to_address(server.address)
            .set("log", "level = \"warn,ftpgate::cli=info\"")
            .set("log", &format!("format = \"{format}\""))
            .start();
        server.stop();
        let client = Ftp::knock(gateway.address);
        let address = client.stream().local_addr().unwrap();
        gateway.logs(&match format {
            "text" => format!("session{{id=1 client={address}}}: "),
            _ => format!("\"span\":{{\"client\":\"{address}\",\"id\":1,"),
        });
    }
}

#[test]
fn a_session_is_found_in_the_journal_by_its_number() {
    let (directory, own) = (tempfile::tempdir().unwrap(), address::unused().to_string());
    let server = CannedServer::script().start();
    let file = configuration(&server, &own, directory.path());
    let output = Command::new("timeout")
        .args(["--kill-after=1", "60", "unshare", "--mount", "sh", "-c", SCRIPT, "sh"])
        .arg(env!("CARGO_BIN_EXE_ftpgate"))
        .arg(&file)
        .arg(&own)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let entries: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |message: &str, field: &str, value: &str| {
        entries.iter().any(|entry| entry["MESSAGE"] == message && entry[field] == value)
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(has("login", "FTPGATE_ACCEPTED", "true"), "{told}{complaints}");
    assert!(has("ended", "FTPGATE_REASON", "quit"), "{told}{complaints}");
    for entry in &entries {
        assert!(entry["FTPGATE_CLIENT"].as_str().unwrap().starts_with("127."), "{entry}");
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "ftpgate");
    }
}

#[test]
fn without_a_journal_a_node_that_shall_log_to_it_says_what_to_do() {
    let (directory, own) = (tempfile::tempdir().unwrap(), address::unused().to_string());
    let server = CannedServer::script().start();
    let file = configuration(&server, &own, directory.path());
    let output = Command::new("timeout")
        .args(["--kill-after=1", "30", "unshare", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /run && exec \"$1\" serve --config \"$2\"")
        .args(["sh", env!("CARGO_BIN_EXE_ftpgate")])
        .arg(&file)
        .output()
        .unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaints}");
    assert!(complaints.contains("run under systemd, or write log.format"), "{complaints}");
}
