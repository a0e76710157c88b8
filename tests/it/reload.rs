//! A changed configuration is taken up while sessions run; a bad one changes nothing.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::bytes;
use crate::harness::canned::CannedServer;
use crate::harness::certificates::Authority;
use crate::harness::dns::Dns;
use crate::harness::eventually;
use crate::harness::ftp::{Ftp, finish};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, Server};

/// Changes one text of the gateway's file for another.
fn rewrite(gateway: &Gateway, from: &str, to: &str) {
    let path = gateway.configuration();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in:\n{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

/// Has it taken up: what `ftpgate reload` says and its exit code.
fn reload(gateway: &Gateway) -> (Option<i32>, String) {
    gateway.order(&["reload"])
}

#[track_caller]
fn assert_reloads(gateway: &Gateway) {
    assert_eq!(reload(gateway), (Some(0), "the configuration is taken up\n".into()));
}

fn with_limits(server: &Server) -> GatewayOptions<'static> {
    Gateway::to(server)
        .set("limits", "sessions_per_client = 1")
        .set("timeouts", "idle = \"10m\"")
        .set("passive", "address = \"127.0.0.1\"")
        .listener("active = true")
}

#[test]
fn new_sessions_get_what_is_new_and_running_ones_keep_what_they_have() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = with_limits(&server).start();
    let mut old = Ftp::login(gateway.address, &server);
    Ftp::knock(gateway.address).reply().expect(&[421]);
    rewrite(&gateway, "sessions_per_client = 1", "sessions_per_client = 3");
    rewrite(&gateway, "idle = \"10m\"", "idle = \"300ms\"");
    rewrite(&gateway, "address = \"127.0.0.1\"", "address = \"127.0.0.7\"");
    rewrite(&gateway, "active = true", "active = false");
    assert_reloads(&gateway);
    let mut new = Ftp::login(gateway.address, &server);
    let named = |ftp: &mut Ftp| ftp.command("PASV").expect(&[227]).text;
    assert!(named(&mut new).contains("(127,0,0,7,"));
    new.command("PORT 127,0,0,1,200,1").expect(&[502]);
    new.reply().expect(&[421]);
    assert!(named(&mut old).contains("(127,0,0,1,"));
    let port = "PORT 127,0,0,1,200,1";
    old.command(port).expect(&[200]);
    assert_eq!(gateway.metric("ftpgate_config_reloads_total{result=\"ok\"}"), 1.0);
    assert_eq!(gateway.metric("ftpgate_sessions_limit"), 10_000.0);
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_with_its_line_and_remedy() {
    let server = Server::start(Kind::ProFtpd);
    let authority = Authority::new();
    let gateway = with_limits(&server).certified(&authority).start();
    let good = fs::read_to_string(gateway.configuration()).unwrap();
    let lost = |text: &str| text.replace("certificate.pem", "lost.pem");
    for (bad, told) in [
        (good.replace("sessions_per_client = 1", "sesions_per_client = 2"), "did you mean"),
        (
            good.replace("sessions_per_client = 1", "sessions_per_client = 0"),
            "limits.sessions_per_client",
        ),
        (good.replace("sessions_per_client = 1", "sessions_per_client = 2\n[x"), "ftpgate.toml:"),
        (lost(&good.replace("sessions_per_client = 1", "sessions_per_client = 2")), "lost.pem"),
    ] {
        fs::write(gateway.configuration(), bad).unwrap();
        // The command line reads the file itself to find the node: it is told where that is.
        let socket = gateway.configuration().with_file_name("admin.sock");
        let (code, printed) = gateway.order(&["reload", "--socket", socket.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(told) && printed.contains("nothing has changed"), "{printed}");
        let _one = Ftp::connect(gateway.address);
        Ftp::knock(gateway.address).reply().expect(&[421]);
        drop(_one);
        eventually("the place to come back", || {
            (gateway.metric("ftpgate_sessions") == 0.0).then_some(())
        });
    }
    assert_eq!(gateway.metric("ftpgate_config_reloads_total{result=\"failed\"}"), 4.0);
    fs::write(gateway.configuration(), good).unwrap();
    assert_reloads(&gateway);
}

#[test]
fn what_needs_a_restart_is_told_and_the_rest_is_taken_up() {
    let server = Server::start(Kind::ProFtpd);
    let gateway = with_limits(&server).set("dns", "timeout = \"2s\"").start();
    rewrite(&gateway, "sessions_per_client = 1", "sessions_per_client = 2");
    rewrite(&gateway, "timeout = \"2s\"", "timeout = \"3s\"");
    let expected =
        "the configuration is taken up, but for changes in dns that need a restart\n".to_owned();
    for _ in 0..2 {
        assert_eq!(reload(&gateway), (Some(0), expected.clone()));
    }
    let _sessions = [0; 2].map(|_| Ftp::login(gateway.address, &server));
    Ftp::knock(gateway.address).reply().expect(&[421]);
}

#[test]
fn another_limit_on_replies_is_for_new_sessions() {
    let help = format!("211 {}\r\n", "x".repeat(100_000)).into_bytes();
    let server = CannedServer::script().says("STAT", Vec::leak(help)).start();
    let gateway = Gateway::to_address(server.address).set("limits", "reply_size = 1048576").start();
    let log_in = || {
        let mut client = Ftp::knock(gateway.address);
        client.reply().expect(&[220]);
        client.log_in_as("ann");
        client
    };
    let mut old = log_in();
    rewrite(&gateway, "reply_size = 1048576", "reply_size = 65536");
    assert_reloads(&gateway);
    let mut new = log_in();
    new.command("STAT").expect(&[421]);
    old.command("STAT").expect(&[211]);
}

#[test]
fn endpoints_come_and_go_while_sessions_stay_where_they_are() {
    let [old, new] = [Kind::ProFtpd, Kind::PureFtpd].map(Server::start);
    let dns = Dns::start();
    let servers = format!("servers = [\"{}\"]", dns.address);
    let gateway = Gateway::to(&old).set("dns", &servers).start();
    let mut session = Ftp::login(gateway.address, &old);
    rewrite(&gateway, &old.address.to_string(), &new.address.to_string());
    assert_reloads(&gateway);
    let shown = |server: &Server, state: &str, sessions: u8| {
        format!("{} {state} {sessions}", server.address)
    };
    let endpoints = || gateway.endpoints().1;
    assert_eq!(endpoints(), [shown(&new, "healthy", 0), shown(&old, "draining", 1)]);
    let content = bytes(7, 30_000);
    let mut other = Ftp::login(gateway.address, &new);
    for (ftp, server) in [(&mut session, &old), (&mut other, &new)] {
        ftp.upload("STOR f", &content).expect(&[226]);
        assert_eq!(server.read("f"), content);
    }
    drop(session);
    eventually("the old endpoint to be forgotten", || {
        (endpoints() == [shown(&new, "healthy", 1)]).then_some(())
    });

    // A name, where there was none before.
    let name = format!("ftp.example.test:{}", old.address.port());
    dns.set("ftp.example.test", &[old.address.ip()], 60);
    rewrite(&gateway, &new.address.to_string(), &name);
    assert_reloads(&gateway);
    let expected = [shown(&old, "healthy", 0), shown(&new, "draining", 1)];
    eventually("the name's endpoint", || (endpoints() == expected).then_some(()));
    Ftp::login(gateway.address, &old).upload("STOR g", &content).expect(&[226]);
    assert_eq!(old.read("g"), content);
    let lookups = "ftpgate_dns_lookups_total{name=\"ftp.example.test\",result=\"ok\"}";
    assert_eq!(gateway.metric(lookups), 1.0);
    rewrite(&gateway, &name, &old.address.to_string());
    assert_reloads(&gateway);
    eventually("the name's series to go", || {
        (!gateway.get("/metrics").1.contains(lookups)).then_some(())
    });
}

#[test]
fn sighup_takes_up_the_file_and_the_level_of_the_log_and_the_certificate() {
    let server = Server::start(Kind::ProFtpd);
    let (authority, other) = (Authority::new(), Authority::new());
    let gateway = Gateway::to(&server).certified(&authority).listener("tls = \"optional\"").start();
    let new = other.issue(&["localhost"]);
    let old = gateway.certificate.as_ref().unwrap();
    rewrite(&gateway, &old.settings(), &new.settings());
    rewrite(&gateway, "level = \"trace\"", "level = \"error\"");
    gateway.sighup();
    eventually("the file to be taken up", || {
        (gateway.metric("ftpgate_config_reloads_total{result=\"ok\"}") == 1.0).then_some(())
    });
    let logged = gateway.log().len();
    let mut ftp = Ftp::login(gateway.address, &server);
    ftp.command("NOOP").expect(&[200]);
    assert_eq!(gateway.log().len(), logged, "nothing more is logged");
    let shown = std::process::Command::new("openssl")
        .args(["s_client", "-starttls", "ftp", "-verify_return_error", "-CAfile"])
        .arg(&other.file)
        .args(["-connect", &gateway.address.to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("Verify return code: 0 (ok)"), "{shown}");
}

#[test]
fn twenty_reloads_under_load_fail_nobody() {
    const SESSIONS: usize = 50;
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).set("timeouts", "idle = \"10m\"").start();
    let (stop, moved) = (AtomicBool::new(false), AtomicUsize::new(0));
    let content = bytes(31, 50_000);
    thread::scope(|scope| {
        let (server, gateway, stop, moved, content) = (&server, &gateway, &stop, &moved, &content);
        for number in 0..SESSIONS {
            scope.spawn(move || {
                let mut ftp = Ftp::login(gateway.address, server);
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Some stay, some come anew.
                    if number % 5 == 0 {
                        ftp = Ftp::login(gateway.address, server);
                    }
                    let name = format!("file-{number}-{turn}");
                    let mut data = ftp.begin(&format!("STOR {name}"));
                    data.write_all(content).unwrap();
                    finish(data);
                    ftp.reply().expect(&[226]);
                    assert!(server.read(&name) == *content, "{name}");
                    moved.fetch_add(1, Ordering::Relaxed);
                    turn += 1;
                }
            });
        }
        // Each time so many transfers have been through what was taken up.
        for turn in 0..20 {
            let before = moved.load(Ordering::Relaxed);
            let (from, to) = if turn % 2 == 0 { ("10m", "11m") } else { ("11m", "10m") };
            rewrite(gateway, &format!("idle = \"{from}\""), &format!("idle = \"{to}\""));
            assert_reloads(gateway);
            eventually("more transfers", || {
                (moved.load(Ordering::Relaxed) >= before + SESSIONS).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let all = moved.load(Ordering::Relaxed);
    let complete = "ftpgate_transfers_total{direction=\"upload\",outcome=\"complete\"}";
    assert_eq!(gateway.metric(complete), all as f64);
    println!("{all} transfers through 20 reloads");
}
