//! `ftpgate init`: what it writes passes `ftpgate check`, and whatever is wrong writes nothing.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::aws::{Moto, REGION, names, nobody};

/// The alternative to an address that somebody would have to be at.
const LEASE: &str =
    "--ha lease --peer 127.0.0.2:9121 --name gw.example.internal --lease-bucket my-gateways";

/// A directory in which a file may be written.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(TempDir::with_prefix("ftpgate-init-").unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("ftpgate.toml")
    }

    /// What is in the file, which `check` takes and which is alone in its directory.
    fn written(&self) -> String {
        let file = self.file();
        let check = ftpgate(&["check", "--config", file.to_str().unwrap()], nobody());
        assert_eq!(check.0, 0, "{}", check.2);
        assert_eq!(names(self.0.path()), ["ftpgate.toml"]);
        fs::read_to_string(file).unwrap()
    }

    /// Runs it without a terminal: exit code, standard output, standard error.
    fn init(&self, arguments: &str) -> (i32, String, String) {
        self.init_with(arguments, nobody())
    }

    /// The same with AWS at that address.
    fn init_with(&self, arguments: &str, aws: SocketAddr) -> (i32, String, String) {
        let file = self.file();
        let mut all = vec!["init", "--output", file.to_str().unwrap()];
        all.extend(arguments.split_whitespace());
        ftpgate(&all, aws)
    }

    /// Answers its questions on a terminal: the exit code and what the terminal shows.
    fn answer(&self, arguments: &str, answers: &[&str], aws: SocketAddr) -> (i32, String) {
        let line = format!(
            "exec {} init --output {} {arguments}",
            env!("CARGO_BIN_EXE_ftpgate"),
            self.file().display()
        );
        let mut command = Command::new("timeout");
        command.args([
            "--kill-after=1",
            "60",
            "script",
            "--quiet",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ]);
        let mut terminal = in_aws(&mut command, aws)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut keyboard = terminal.stdin.take().unwrap();
        for answer in answers {
            writeln!(keyboard, "{answer}").unwrap();
        }
        drop(keyboard);
        let output = terminal.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

/// With credentials, and everything of AWS at one address.
fn in_aws(command: &mut Command, aws: SocketAddr) -> &mut Command {
    command
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "of-the-tests")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-tests")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL", format!("http://{aws}"))
}

fn ftpgate(arguments: &[&str], aws: SocketAddr) -> (i32, String, String) {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "60", env!("CARGO_BIN_EXE_ftpgate")]).args(arguments);
    let output = in_aws(&mut command, aws).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no {line}:\n{text}");
    }
}

#[test]
fn flags_make_a_configuration_for_every_kind_of_node() {
    let endpoints = "--endpoint 10.2.3.10=ap-northeast-1a --endpoint ftp.example.internal:2121";
    let overlay = format!("{LEASE} --overlay-ip 10.99.0.1 --route-table rtb-1 --route-table rtb-2");
    let record = format!("{LEASE} --route53-zone Z1 --address 10.2.1.10");
    let guessed = format!("{LEASE} --route53-zone Z1");
    let cases: [(&str, &[&str]); 7] = [
        (
            "",
            &[
                "address = \"10.2.3.10\"",
                "zone = \"ap-northeast-1a\"",
                "address = \"ftp.example.internal:2121\"",
            ],
        ),
        ("--zone auto --listen 10.2.1.10:21", &["zone = \"auto\"", "address = \"10.2.1.10:21\""]),
        (LEASE, &["mode = \"lease\"", "bucket = \"my-gateways\"", "address = \"0.0.0.0:9121\""]),
        (&overlay, &["address = \"10.99.0.1\"", "route_tables = [\"rtb-1\", \"rtb-2\"]"]),
        (&record, &["zone_id = \"Z1\"", "addresses = [\"10.2.1.10\"]"]),
        // From there this machine reaches a peer at 127.0.0.2.
        (&guessed, &["addresses = [\"127.0.0.1\"]"]),
        (
            "--ha dns --peer 10.2.2.10:9122 --name gw.example.internal",
            &[
                "mode = \"dns\"",
                "address = \"0.0.0.0:9122\"",
                "load_balancer = \"gw.example.internal\"",
            ],
        ),
    ];
    for (flags, lines) in cases {
        let scratch = Scratch::new();
        let (code, told, complaint) = scratch.init(&format!("{endpoints} {flags}"));
        assert_eq!((code, &*complaint), (0, ""), "{flags}");
        assert!(told.contains("next: ftpgate serve --config "), "{told}");
        let text = scratch.written();
        has(&text, lines);
        assert_eq!(text.contains("[ha]"), !flags.is_empty() && flags.contains("--ha"), "{text}");
        // The same, printed.
        let (code, printed, _) = scratch.init(&format!("{endpoints} {flags} --output -"));
        assert_ne!(code, 0, "clap takes --output once");
        assert_eq!(printed, "");
        let mut all: Vec<&str> = vec!["init", "--output", "-"];
        all.extend(endpoints.split(' ').chain(flags.split_whitespace()));
        assert_eq!(ftpgate(&all, nobody()), (0, text, String::new()));
    }
}

#[test]
fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
    let scratch = Scratch::new();
    fs::write(scratch.file(), "theirs").unwrap();
    let (code, _, complaint) = scratch.init("--endpoint 10.2.3.10");
    assert_eq!(code, 1);
    assert!(complaint.contains("is there already: --force replaces it"), "{complaint}");
    assert_eq!(fs::read_to_string(scratch.file()).unwrap(), "theirs");
    // Not even a bad one with --force.
    assert_eq!(scratch.init("--endpoint 10.2.3.10:0 --force").0, 78);
    assert_eq!(fs::read_to_string(scratch.file()).unwrap(), "theirs");
    // Nor is anybody asked in vain.
    let (code, shown) = scratch.answer("", &["10.2.3.10"], nobody());
    assert_eq!(code, 1, "{shown}");
    assert!(!shown.contains("An endpoint"), "{shown}");
    assert_eq!(scratch.init("--endpoint 10.2.3.10 --force").0, 0);
    has(&scratch.written(), &["address = \"10.2.3.10\""]);
    // A link that leads nowhere is something, too.
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("/nowhere/at/all", scratch.file()).unwrap();
    assert_eq!(scratch.init("--endpoint 10.2.3.10").0, 1);
}

#[test]
fn everybody_may_read_the_file_whatever_the_umask() {
    let scratch = Scratch::new();
    let script = "umask 077; exec \"$0\" init --endpoint 10.2.3.10 --output \"$1\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_ftpgate")]).arg(scratch.file());
    assert!(shell.status().unwrap().success());
    assert_eq!(fs::metadata(scratch.file()).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn what_is_wrong_or_missing_is_told_and_nothing_is_written() {
    let lease = format!("--endpoint 10.2.3.10 {LEASE}");
    let both = format!("{lease} --route53-zone Z1 --overlay-ip 10.99.0.1 --route-table rtb-1");
    let no_table = format!("{lease} --overlay-ip 10.99.0.1");
    let no_overlay = format!("{lease} --route-table rtb-1");
    let bad_table = format!("{no_table} --route-table subnet-1");
    let unknown_own = "--endpoint 10.2.3.10 --ha lease --peer [fd00::1]:9121 --name gw.example \
                       --lease-bucket my-gateways --route53-zone Z1";
    let cases: [(&str, i32, &str); 20] = [
        ("", 2, "there is no endpoint: give --endpoint ADDRESS[=ZONE]"),
        ("--endpoint", 2, "a value is required"),
        ("--endpoint 10.2.3.10 --transfer-server s-1", 2, "cannot be used with"),
        ("--endpoint 10.2.3.10 --ha three", 2, "possible values: none, lease, dns"),
        ("--endpoint 10.2.3.10 --ha lease --lease-bucket my-gateways", 2, "--peer"),
        ("--endpoint 10.2.3.10 --ha lease --peer 127.0.0.2:9121", 2, "--lease-bucket"),
        ("--endpoint 10.2.3.10 --ha dns --peer 127.0.0.2:9121", 2, "--name"),
        (
            "--endpoint 10.2.3.10 --ha lease --peer 127.0.0.2:9121 --lease-bucket b-1 --route53-zone Z1",
            2,
            "--name",
        ),
        ("--endpoint 10.2.3.10 --peer 127.0.0.2:9121", 2, "give --ha lease or --ha dns"),
        ("--endpoint 10.2.3.10 --ha none --lease-bucket my-gateways", 2, "give --ha lease"),
        (
            "--endpoint 10.2.3.10 --ha dns --peer 127.0.0.2:9121 --name gw.example --route53-zone Z1",
            2,
            "--route53-zone is for a pair of another kind: give --ha lease",
        ),
        (&both, 2, "cannot be used with"),
        (&no_table, 2, "--route-table"),
        (&no_overlay, 2, "--overlay-ip"),
        (&bad_table, 78, "these are no route tables"),
        (unknown_own, 2, "give --address"),
        ("--endpoint 10.2.3.10:0", 78, "hint: "),
        ("--endpoint 10.2.3.10 --endpoint 10.2.3.10:21", 78, "hint: "),
        ("--endpoint 10.2.3.10 --listen 21", 78, "is no address with a port"),
        (
            "--endpoint 10.2.3.10 --ha dns --peer gateway-c --name gw.example",
            78,
            "is no address of the other node",
        ),
    ];
    let scratch = Scratch::new();
    for (flags, expected, told) in cases {
        let (code, printed, complaint) = scratch.init(flags);
        assert_eq!((code, &*printed), (expected, ""), "{flags}: {complaint}");
        assert!(complaint.contains(told), "{flags}: {complaint}");
        assert_eq!(names(scratch.0.path()), [""; 0], "{flags}");
    }
    let nowhere = scratch.0.path().join("none/ftpgate.toml");
    let all = ["init", "--endpoint", "10.2.3.10", "--output", nowhere.to_str().unwrap()];
    let (code, _, complaint) = ftpgate(&all, nobody());
    assert_eq!(code, 1);
    assert!(complaint.contains("there is no such directory: make it first"), "{complaint}");
}

#[test]
fn the_endpoints_of_a_transfer_server_come_from_aws() {
    let moto = Moto::start();
    let (server, addresses) = moto.create_server(&["SFTP", "FTP"], true);
    let (secure, _) = moto.create_server(&["SFTP", "FTPS"], true);
    let (public, _) = moto.create_server(&["FTP"], false);
    let scratch = Scratch::new();
    let missing = "s-fedcba98765432100".to_owned();
    for (server, aws, told) in [
        (&missing, moto.address, "there is no such server in this account and region"),
        (&secure, moto.address, "speaks SFTP and FTPS, and no FTP: add FTP to its protocols"),
        (&public, moto.address, "has no endpoint in a VPC"),
        (&server, nobody(), "Transfer cannot be asked: "),
    ] {
        let (code, _, complaint) = scratch.init_with(&format!("--transfer-server {server}"), aws);
        assert_eq!(code, 1, "{complaint}");
        assert!(complaint.contains(told), "{complaint}");
        assert_eq!(names(scratch.0.path()), [""; 0]);
    }
    let flags = format!("--transfer-server {server} --zone auto");
    let (code, _, complaint) = scratch.init_with(&flags, moto.address);
    assert_eq!((code, &*complaint), (0, ""));
    let expected = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let [a, c] = &addresses[..] else { panic!("{addresses:?}") };
        let endpoint = |address: &str, zone: &str| {
            format!("[[upstream.endpoint]]\naddress = \"{address}\"\nzone = \"{REGION}{zone}\"\n")
        };
        let endpoints = format!("{}\n{}", endpoint(a, "a"), endpoint(c, "c"));
        assert!(text.contains(&endpoints), "{text}");
        has(&text, &["passive_ports = \"8192-8200\""]);
    };
    scratch.written();
    expected(&scratch.file());

    // Likewise on a terminal.
    let scratch = Scratch::new();
    let (code, shown) = scratch.answer("", &[&server, "", "auto", ""], moto.address);
    assert_eq!(code, 0, "{shown}");
    scratch.written();
    expected(&scratch.file());
}

#[test]
fn on_a_terminal_it_asks_until_an_answer_will_do() {
    let scratch = Scratch::new();
    let answers = [
        "10.2.3.10:0",
        "10.2.3.10=ap-northeast-1a",
        "10.2.4.10=ap-northeast-1c",
        "",
        "21",
        "0.0.0.0:2121",
        "a zone",
        "ap-northeast-1a",
        "three",
        "lease",
        "gateway-c",
        "127.0.0.2:9121",
        "gw..internal",
        "gw.ftp.example.internal",
        "My_Bucket",
        "my-gateways",
        "not an ID",
        "Z0123456789ABCDEFGHIJ",
        "gateway-a",
        "",
    ];
    let (code, shown) = scratch.answer("", &answers, nobody());
    assert_eq!(code, 0, "{shown}");
    for told in [
        "is no address with a port",
        "write none, lease or dns",
        "is no address of the other node",
        "this is no name of an S3 bucket",
        "this is no hosted zone ID",
        "write an IP address, such as 10.2.1.10",
        "Where clients reach this node [127.0.0.1]: ",
    ] {
        assert!(shown.contains(told), "no {told}:\n{shown}");
    }
    has(
        &scratch.written(),
        &[
            "address = \"10.2.3.10\"",
            "address = \"10.2.4.10\"",
            "zone = \"ap-northeast-1c\"",
            "address = \"0.0.0.0:2121\"",
            "peer = \"127.0.0.2:9121\"",
            "name = \"gw.ftp.example.internal\"",
            "bucket = \"my-gateways\"",
            "zone_id = \"Z0123456789ABCDEFGHIJ\"",
            "addresses = [\"127.0.0.1\"]",
        ],
    );
}

#[test]
fn what_is_given_is_not_asked_and_other_kinds_of_pairs_ask_less() {
    let scratch = Scratch::new();
    let given =
        "--ha dns --peer 10.2.2.10:9121 --name gw.example.internal --zone auto --listen 0.0.0.0:21";
    let (code, shown) = scratch.answer(given, &["10.2.3.10", ""], nobody());
    assert_eq!(code, 0, "{shown}");
    has(&scratch.written(), &["mode = \"dns\"", "load_balancer = \"gw.example.internal\""]);

    let scratch = Scratch::new();
    // Enter to whatever is asked besides: nothing that was given gets lost.
    let given = format!("{LEASE} --route53-zone Z0123456789ABCDEFGHIJ --address 10.2.1.10");
    let (code, shown) = scratch.answer(&given, &["10.2.3.10", "", "", ""], nobody());
    assert_eq!(code, 0, "{shown}");
    let steered = ["zone_id = \"Z0123456789ABCDEFGHIJ\"", "addresses = [\"10.2.1.10\"]"];
    has(&scratch.written(), &steered);

    let scratch = Scratch::new();
    let given = format!("{LEASE} --overlay-ip 10.99.0.1 --route-table rtb-1 --route-table rtb-2");
    let (code, shown) = scratch.answer(&given, &["10.2.3.10", "", "", ""], nobody());
    assert_eq!(code, 0, "{shown}");
    has(&scratch.written(), &["address = \"10.99.0.1\"", "route_tables = [\"rtb-1\", \"rtb-2\"]"]);

    // What a mode needs is asked for.
    let scratch = Scratch::new();
    let answers = ["10.2.3.10", "", "", "", "127.0.0.2:9121", "gw.example.internal"];
    let (code, shown) = scratch.answer("--ha dns", &answers, nobody());
    assert_eq!(code, 0, "{shown}");
    has(&scratch.written(), &["mode = \"dns\"", "peer = \"127.0.0.2:9121\""]);

    let scratch = Scratch::new();
    let overlay = ["10.2.3.10", "", "", "", "", "x", "10.99.0.1", "subnet-1", "rtb-1 rtb-2"];
    let (code, shown) = scratch.answer(LEASE, &overlay, nobody());
    assert_eq!(code, 0, "{shown}");
    let tables = "route_tables = [\"rtb-1\", \"rtb-2\"]";
    has(&scratch.written(), &["zone = \"auto\"", "address = \"10.99.0.1\"", tables]);
}

#[test]
fn answers_that_end_or_never_will_do_write_nothing() {
    let scratch = Scratch::new();
    for (answers, told) in [
        (&["10.2.3.10", "", ""][..], "the answers have ended: nothing is written"),
        (&["10.2.3.10:0"; 20], "no answer will do: nothing is written"),
    ] {
        let (code, shown) = scratch.answer("", answers, nobody());
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains(told), "{shown}");
        assert_eq!(names(scratch.0.path()), [""; 0]);
    }
}
