//! `log.format = "journald"`, with a real systemd-journald in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::address;
use crate::harness::canned::CannedServer;

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
