//! `ftpgate check`, and what keeps `ftpgate serve` from starting: said so that it can be mended.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::harness::canned::CannedServer;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, bytes};

/// sysexits(3): the configuration is wrong.
const EX_CONFIG: i32 = 78;
const ENDPOINT: &str = "[[upstream.endpoint]]\naddress = \"10.2.3.10:21\"\n";
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/ftpgate.toml");

/// Exit code, standard output, standard error.
fn ftpgate(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new("timeout")
        .args(["--kill-after=1", "30", env!("CARGO_BIN_EXE_ftpgate")])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The subcommand on a file with this text.
fn with_file(subcommand: &str, text: &str) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ftpgate.toml");
    fs::write(&file, text).unwrap();
    ftpgate(&[subcommand, "--config", file.to_str().unwrap()])
}

#[test]
fn check_says_that_a_file_will_do_and_what_it_means() {
    let (code, told, complaints) = ftpgate(&["check", "--config", REFERENCE]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let expected = format!(
        "{REFERENCE}: ok\nlistens on: 0.0.0.0:21\npassive ports: 8192-8200\n\
         endpoint: 10.2.3.10:21\nendpoint: vpce-0123456789abcdef0-abcdefgh-ap-northeast-1c.server.transfer.ap-northeast-1.vpce.amazonaws.com:21\n"
    );
    assert_eq!(told, expected);
    assert_eq!(with_file("check", ENDPOINT).0, 0, "one endpoint is all that must be said");
    assert_eq!(ftpgate(&["check", "-c", REFERENCE]).0, 0);
    let access = "[access]\ndefault = \"deny\"\n[[access.rule]]\nname = \"a\"\n[access.bans]\n";
    let (code, told, _) = with_file("check", &format!("{access}{ENDPOINT}"));
    let expected = "access: 1 rule, all others denied\nbans: 10 refused logins in 10m, for 15m\n";
    assert!(code == 0 && told.ends_with(expected), "{told}");
}

#[test]
fn a_file_that_will_not_do_is_told_with_line_key_and_remedy_by_check_and_serve_alike() {
    for (text, told) in [
        (
            "[timeouts]\n\nidel = \"30s\"\n",
            &["ftpgate.toml:3, key timeouts.idel", "did you mean `idle`?"][..],
        ),
        (
            "[limits]\nsessions = \"many\"\n",
            &["ftpgate.toml:2, key limits.sessions", "invalid type", "hint: "],
        ),
        ("[limits]\nsessions = 0\n", &["ftpgate.toml:2, key limits.sessions", "hint: "]),
        ("[timeouts]\nidle = 30\n", &["ftpgate.toml:2, key timeouts.idle", "\"30s\""]),
        ("[passive]\nports = \"8200-8192\"\n", &["ftpgate.toml:2, key passive.ports", "8192-8200"]),
        (
            "[passive]\naddress = \"gw.example\"\n",
            &["ftpgate.toml:2, key passive.address", "hint: "],
        ),
        ("[[listener]]\naddress = \"21\"\n", &["ftpgate.toml:2, key listener.address", "hint: "]),
        ("[log]\nlevel = \"loud\"\n", &["ftpgate.toml:2, key log.level", "hint: "]),
        (
            "[timeuots]\nidle = \"3s\"\n",
            &["ftpgate.toml:1", "timeuots", "did you mean `timeouts`?"],
        ),
        ("[node\nname = \"a\"\n", &["ftpgate.toml:1", "hint: "]),
    ] {
        let text = format!("{text}{ENDPOINT}");
        for subcommand in ["check", "serve"] {
            let (code, output, complaint) = with_file(subcommand, &text);
            assert_eq!((code, output.as_str()), (EX_CONFIG, ""), "{subcommand}: {complaint}");
            assert!(complaint.starts_with("error: "), "{complaint}");
            for part in told {
                assert!(complaint.contains(part), "{part} is missing in:\n{complaint}");
            }
        }
    }
    let (code, _, complaint) = with_file("check", "");
    assert_eq!(code, EX_CONFIG);
    assert!(complaint.contains("[[upstream.endpoint]]"), "{complaint}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("binary.toml");
    fs::write(&binary, b"\xff\xfe").unwrap();
    let missing = directory.path().join("missing.toml");
    for path in [&missing, &binary, directory.path()] {
        let path = path.to_str().unwrap();
        for subcommand in ["check", "serve"] {
            let (code, _, complaint) = ftpgate(&[subcommand, "--config", path]);
            assert_eq!(code, EX_CONFIG, "{complaint}");
            assert!(complaint.contains(path) && complaint.contains("hint: "), "{complaint}");
        }
    }
    let (_, _, complaint) = ftpgate(&["check", "--config", missing.to_str().unwrap()]);
    assert!(complaint.contains("--config"), "{complaint}");
}

#[test]
fn serve_names_what_it_cannot_have_and_ends() {
    let host = address::unused();
    let taken = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    let port = taken.port();
    // The passive range is one port, either free or the one that is taken.
    let free = 2000;
    for (listener, passive, http, audit, told) in [
        (port, free, 9121, "-", format!("cannot listen on {taken}: Address already in use")),
        (
            2121,
            port,
            9121,
            "-",
            format!("cannot listen on passive port {port} of {host}: Address already in use"),
        ),
        (
            2121,
            free,
            port,
            "-",
            format!("cannot listen on http.address {taken}: Address already in use"),
        ),
        (
            2121,
            free,
            9121,
            "/nonexistent/audit.log",
            "cannot open the audit log /nonexistent/audit.log: No such file".into(),
        ),
    ] {
        let (code, _, complaint) = with_file(
            "serve",
            &format!(
                "[[listener]]\naddress = \"{host}:{listener}\"\n[passive]\nports = \"{passive}-{passive}\"\n\
                 [http]\naddress = \"{host}:{http}\"\n[audit]\npath = \"{audit}\"\n{ENDPOINT}"
            ),
        );
        assert_eq!(code, 1, "{complaint}");
        assert!(complaint.contains(&told), "{told} is missing in:\n{complaint}");
    }
}

#[test]
fn a_second_gateway_at_the_same_address_does_not_start_and_the_first_goes_on() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    // With the same admin socket it would be the same node, and take over.
    let text = fs::read_to_string(gateway.configuration()).unwrap();
    let (code, _, complaint) = with_file("serve", &text.replace("admin.sock", "other.sock"));
    assert_eq!(code, 1, "{complaint}");
    assert!(complaint.contains(&format!("cannot listen on {}", gateway.address)), "{complaint}");
    Ftp::connect(gateway.address);
}

#[test]
fn the_command_line_explains_itself() {
    let (code, told, _) = ftpgate(&["--help"]);
    assert_eq!(code, 0);
    for subcommand in ["serve", "check", "demo"] {
        assert!(told.contains(&format!("\n  {subcommand} ")), "{told}");
    }
    assert_eq!(ftpgate(&["--version"]).1, concat!("ftpgate ", env!("CARGO_PKG_VERSION"), "\n"));
    for arguments in [&[][..], &["srve"], &["check", "--confg", "x"]] {
        let (code, _, complaint) = ftpgate(arguments);
        assert_eq!(code, 2, "{complaint}");
        assert!(complaint.contains("Usage: ") || complaint.contains("similar"), "{complaint}");
    }
    assert!(Path::new(REFERENCE).exists());
}

#[test]
fn sessions_run_on_as_many_threads_as_are_wanted() {
    let server = CannedServer::script().start();
    let cores = std::thread::available_parallelism().unwrap().get();
    // Those that have sessions only; the process's first has everything else, too.
    let threads = |gateway: &Gateway| {
        let tasks = fs::read_dir(format!("/proc/{}/task", gateway.process.id())).unwrap().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        let names: Vec<String> = names.collect();
        names.iter().filter(|it| it.starts_with("sessions-")).count()
    };
    let gateway = Gateway::to_address(server.address).start();
    assert_eq!(threads(&gateway), cores - 1);
    let gateway = Gateway::to_address(server.address).set("node", "threads = 3").start();
    assert_eq!(threads(&gateway), 2);
    // Tasks of all of them count: those of the first would be a third.
    let before = gateway.metric("ftpgate_tasks");
    let _clients: Vec<Ftp> = (0..30).map(|_| Ftp::connect(gateway.address)).collect();
    assert!(gateway.metric("ftpgate_tasks") >= before + 25.0);
}

#[test]
fn sessions_of_all_threads_share_even_one_passive_port() {
    let server = Server::start(Kind::Vsftpd);
    let gateway = Gateway::to(&server).set("node", "threads = 3").passive("8192-8192").start();
    let clients: Vec<Ftp> = (0..6).map(|_| Ftp::login(gateway.address, &server)).collect();
    let content = bytes(1, 300_000);
    std::thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            let content = &content;
            scope.spawn(move || {
                for round in 0..20 {
                    let name = format!("file-{number}-{round}");
                    client.upload(&format!("STOR {name}"), content).expect(&[226]);
                    let (back, reply) = client.download(&format!("RETR {name}"));
                    reply.expect(&[226]);
                    assert!(back == *content, "{name}");
                }
            });
        }
    });
    // No thread was spared: one without sessions would have waited a few times at most.
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.process.id())).unwrap().flatten();
    let mut waits = Vec::new();
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        if value("Name:\t").unwrap().starts_with("sessions-") {
            waits.push(value("voluntary_ctxt_switches:\t").unwrap().parse::<u64>().unwrap());
        }
    }
    assert!(waits.len() == 2 && waits.iter().all(|waits| *waits > 50), "{waits:?}");
}
