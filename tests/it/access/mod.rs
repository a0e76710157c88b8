//! Who may do what: rules, bans and blocks, with real servers and clients.

mod bans;
mod blocks;
mod rates;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::Command;

use crate::harness::canned::{CannedServer, Visit};
use crate::harness::ftp::{End, Ftp, connect, finish, read_to_end};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::{address, eventually};

/// The configuration of rules, each a name and lines.
fn rules(default: &str, rules: &[(&str, &str)]) -> String {
    let tables =
        rules.iter().map(|(name, lines)| format!("\n[[access.rule]]\nname = \"{name}\"\n{lines}"));
    format!("default = \"{default}\"{}", tables.collect::<String>())
}

/// The answer to USER, and to PASS if there is to be one.
fn log_in(ftp: &mut Ftp, user: &str) -> (u16, String) {
    let reply = ftp.command(&format!("USER {user}"));
    if reply.code != 331 {
        return (reply.code, reply.text);
    }
    let reply = ftp.command(&format!("PASS {PASSWORD}"));
    (reply.code, reply.text)
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("ftpgate_sessions_refused_total{{reason=\"{reason}\"}}"))
}

fn denied(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("ftpgate_logins_denied_total{{reason=\"{reason}\"}}"))
}

/// Waits until so many sessions are under a rule.
fn await_sessions(gateway: &Gateway, rule: &str, count: f64) {
    let series = format!("ftpgate_rule_sessions{{rule=\"{rule}\"}}");
    eventually(&format!("{count} sessions of {rule}"), || {
        (gateway.metric(&series) == count).then_some(())
    });
}

#[test]
fn whom_no_rule_lets_in_gets_421_at_once_and_nobody_behind_hears_of_it() {
    let server = CannedServer::script().start();
    let friend: IpAddr = address::unused().into();
    let access = rules("deny", &[("friends", &format!("clients = [\"{friend}\"]"))]);
    let gateway = Gateway::to_address(server.address).set("access", &access).start();
    let mut stranger = Ftp::knock(gateway.address);
    assert_eq!(stranger.reply().text, "421 Access is not allowed.\r\n");
    assert!(stranger.is_closed());
    assert_eq!(server.visits(), []);
    assert_eq!(refused(&gateway, "rule"), 1.0);
    let mut friendly = Ftp::connect_from(friend, gateway.address);
    assert_eq!(log_in(&mut friendly, "anyone").0, 230);
    assert_eq!(server.visits().iter().filter(|it| matches!(it, Visit::Control(_))).count(), 1);
    await_sessions(&gateway, "friends", 1.0);
    drop(friendly);
    await_sessions(&gateway, "friends", 0.0);
}

#[test]
fn users_are_told_apart_at_user_and_the_upstream_hears_only_of_those_who_may() {
    let server = CannedServer::script().start();
    let access = rules(
        "deny",
        &[
            ("left", "users = [\"acme-old\"]\naction = \"deny\"\nmessage = \"You have left us.\""),
            ("acme", "users = [\"acme-*\"]"),
        ],
    );
    let gateway = Gateway::to_address(server.address).set("access", &access).start();
    let mut client = Ftp::connect(gateway.address);
    assert_eq!(log_in(&mut client, "mallory"), (530, "530 Access is not allowed.\r\n".into()));
    assert_eq!(log_in(&mut client, "acme-old"), (530, "530 You have left us.\r\n".into()));
    assert_eq!(log_in(&mut client, "acme-in").0, 230);
    assert_eq!(denied(&gateway, "rule"), 2.0);
    let users: Vec<String> =
        server.heard().into_iter().filter(|line| line.starts_with("USER")).collect();
    assert_eq!(users, ["USER acme-in"]);
    await_sessions(&gateway, "acme", 1.0);
}

#[test]
fn no_other_spelling_leads_past_the_rules() {
    let server = Server::start(Kind::ApacheFtpServer);
    server.write("keep", b"me");
    let access = rules(
        "allow",
        &[
            ("out", "users = [\"bob\"]\naction = \"deny\""),
            ("in", "deny_commands = [\"DELE\", \"SITE\"]"),
        ],
    );
    let gateway = Gateway::to(&server).set("access", &access).start();
    let mut client = Ftp::connect(gateway.address);
    for line in ["XUSER bob", "xuser bob", " USER bob", "USER\tbob", "USER  bob", "USER bob\u{1}"] {
        client.command(line).expect(&[530]);
    }
    for line in ["\u{1}USER bob", "U\u{17f}ER bob", "\u{c}USER bob"] {
        client.command(line).expect(&[501]);
    }
    // This server takes that for USER, so it must not be more here.
    let mut direct = Ftp::connect(server.address);
    direct.command("XUSER alice").expect(&[331]);
    direct.command(&format!("XPASS {PASSWORD}")).expect(&[230]);
    client.command("XUSER alice").expect(&[331]);
    client.command(&format!("XPASS {PASSWORD}")).expect(&[230]);
    for line in ["DELE keep", "XDELE keep", "xdele keep", "  dele keep"] {
        client.command(line).expect(&[550]);
    }
    for line in ["S\u{131}TE STAT", "\u{1}DELE keep"] {
        client.command(line).expect(&[501]);
    }
    assert_eq!(server.read("keep"), b"me");
}

#[test]
fn a_denied_command_has_its_reply_in_its_place_and_does_nothing() {
    for kind in [Kind::ApacheFtpServer, Kind::ProFtpd] {
        let server = Server::start(kind);
        server.write("keep", b"me");
        let access =
            rules("allow", &[("careful", "deny_commands = [\"DELE\", \"RMD\", \"SITE\"]")]);
        let gateway = Gateway::to(&server).set("access", &access).start();
        let mut stream = connect(gateway.address, None).unwrap();
        let lines = [
            "USER alice",
            "PASS secret",
            "DELE keep",
            "PWD",
            "dele keep",
            "XRMD keep",
            "SYST",
            "SITE CHMOD 777 keep",
            "NOOP",
            "QUIT",
        ];
        stream.write_all((lines.join("\r\n") + "\r\n").as_bytes()).unwrap();
        let replies: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
        let codes: Vec<&str> = replies.iter().map(|line| &line[..3]).collect();
        let expected =
            ["220", "331", "230", "550", "257", "550", "550", "215", "550", "200", "221"];
        assert_eq!(codes, expected, "{replies:?}");
        assert_eq!(replies[3], "550 DELE is not allowed by rule careful.");
        assert_eq!(server.read("keep"), b"me");
        assert_eq!(gateway.metric("ftpgate_commands_denied_total{rule=\"careful\"}"), 4.0);
    }
}

#[test]
fn real_clients_are_told_what_they_may_not_and_do_the_rest() {
    let server = Server::start(Kind::ProFtpd);
    server.write("keep", b"me");
    let only = "commands = [\"LIST\", \"NLST\", \"RETR\", \"CWD\"]";
    let gateway = Gateway::to(&server).set("access", &rules("allow", &[("read", only)])).start();
    let at = gateway.address;
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        let user = format!("alice:{PASSWORD}");
        run(curl.args(["-q", "-sSv", "--noproxy", "*", "-u", &user]).args(arguments))
    };
    let (good, told) = curl(&[&format!("ftp://{at}/keep")]);
    assert!(good && told.contains("me"), "{told}");
    let (good, told) = curl(&[&format!("ftp://{at}/"), "-Q", "DELE keep"]);
    assert!(!good && told.contains("550 DELE is not allowed by rule read."), "{told}");
    let (good, told) = curl(&["-T", "/etc/hostname", &format!("ftp://{at}/new")]);
    assert!(!good && told.contains("550 STOR is not allowed by rule read."), "{told}");

    let script = format!(
        "set net:max-retries 1; set ftp:ssl-allow no; open -u alice,{PASSWORD} ftp://{at}; cls; rm keep"
    );
    let (good, told) = run(Command::new("lftp").args(["--norc", "-c", &script]));
    // Without MLSD, for which it is told 502, it lists by LIST.
    assert!(!good && told.contains("keep") && told.contains("550"), "{told}");

    let script = format!(
        "import ftplib\nf = ftplib.FTP()\nf.connect('{}', {})\nf.login('alice', '{PASSWORD}')\nprint(f.nlst())\nf.mkd('new')",
        at.ip(),
        at.port()
    );
    let (good, told) = run(Command::new("python3").args(["-c", &script]));
    assert!(!good && told.contains("['keep']"), "{told}");
    assert!(told.contains("error_perm: 550 MKD is not allowed by rule read."), "{told}");
    assert_eq!(server.read("keep"), b"me");
    assert!(!server.path("new").exists());
}

#[test]
fn a_user_is_served_at_the_endpoint_of_the_rule_also_when_it_is_lost() {
    let near = Server::start(Kind::ApacheFtpServer);
    let mut far = Server::start(Kind::ProFtpd);
    far.write("file", b"far away");
    let access = rules(
        "allow",
        &[("far", &format!("users = [\"al*\"]\nendpoints = [\"{}\"]", far.address))],
    );
    // The first is the one that everybody gets.
    let gateway = Gateway::to(&near).or_to(&far).set("access", &access).start();
    let at = |server: &Server| {
        let start = server.address.to_string();
        let (_, endpoints) = gateway.endpoints();
        let line = endpoints.into_iter().find(|line| line.starts_with(&start)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let mut moved = Ftp::connect(gateway.address);
    assert_eq!((at(&near), at(&far)), (1, 0));
    // Pipelined, and with something that was set before.
    moved.send("CLNT test\r\nUSER alice\r\nPASS secret\r\nTYPE I\r\nSYST");
    let codes: Vec<u16> = (0..5).map(|_| moved.reply().code).collect();
    assert_eq!(codes[1..], [331, 230, 200, 215]);
    let (content, reply) = moved.download("RETR file");
    assert_eq!((content.as_slice(), reply.code), (&b"far away"[..], 226));
    eventually("the session to be at its endpoint", || {
        (at(&far) == 1 && at(&near) == 0).then_some(())
    });
    gateway.logs("moved to an endpoint of its rule");
    assert_eq!(gateway.metric("ftpgate_session_resumes_total{result=\"resumed\"}"), 0.0);

    far.sigkill();
    gateway.logs("the upstream connection is lost");
    // Never at the other one, where it might find another's files.
    moved.command("PWD").expect(&[421]);
    let mut again = Ftp::connect(gateway.address);
    again.command("USER alice").expect(&[421]);
    let mut other = Ftp::connect(gateway.address);
    other.command("USER bob").expect(&[331]);
}

#[test]
fn clients_of_a_rule_are_sent_to_its_endpoints_from_the_start() {
    let [first, second] = [(); 2].map(|()| CannedServer::script().start());
    let partner: IpAddr = address::unused().into();
    let lines = format!("clients = [\"{partner}\"]\nendpoints = [\"{}\"]", second.address);
    let gateway = Gateway::to_address(first.address)
        .or_to_address(second.address)
        .set("access", &rules("allow", &[("partner", &lines)]))
        .start();
    for _ in 0..3 {
        let mut client = Ftp::connect_from(partner, gateway.address);
        assert_eq!(log_in(&mut client, "anyone").0, 230);
    }
    assert_eq!((first.visits().len(), second.visits().len()), (0, 3));
    drop(Ftp::connect(gateway.address));
    assert_eq!(first.visits().len(), 1);
}

#[test]
fn sessions_and_transfers_of_a_rule_are_limited_and_their_places_come_back() {
    let server = Server::start(Kind::ProFtpd);
    let access = rules("allow", &[("two", "users = [\"alice\"]\nsessions = 2\ntransfers = 1")]);
    let gateway = Gateway::to(&server).set("access", &access).start();
    let mut first = Ftp::login(gateway.address, &server);
    let mut second = Ftp::login(gateway.address, &server);
    let mut third = Ftp::connect(gateway.address);
    let too_many = (530, "530 Too many sessions; try again later.\r\n".into());
    assert_eq!(log_in(&mut third, "alice"), too_many);
    assert_eq!(denied(&gateway, "rule-limit"), 1.0);

    let mut data = first.begin("STOR slow");
    data.write_all(b"begun").unwrap();
    let address = second.pasv();
    let waiting = second.open(address);
    let reply = second.command("STOR quick").expect(&[450]);
    assert_eq!(reply.text, "450 Rule two allows no more transfers at once; try again later.\r\n");
    assert_eq!(gateway.metric("ftpgate_transfers_denied_total{rule=\"two\"}"), 1.0);
    assert_eq!(gateway.metric("ftpgate_rule_transfers{rule=\"two\"}"), 1.0);
    assert!(!server.path("quick").exists());
    finish(data);
    first.reply().expect(&[226]);
    // The same data connection is still good.
    second.command("STOR quick").expect(&[150]);
    finish(waiting);
    second.reply().expect(&[226]);
    let line = eventually("the refusal's audit line", || {
        gateway.audit().into_iter().find(|line| line["reply"] == 450)
    });
    assert_eq!((&line["verb"], &line["outcome"]), (&"STOR".into(), &"refused".into()));

    // One that breaks gives its place back, too.
    let data = first.begin("STOR cut");
    crate::harness::ftp::reset(data);
    first.final_reply().expect(&[426]);
    assert_eq!(second.upload("STOR whole", b"x").code, 226);
    first.command("QUIT").expect(&[221]);
    await_sessions(&gateway, "two", 1.0);
    assert_eq!(log_in(&mut third, "alice").0, 230);

    let by_client = rules("allow", &[("one", "sessions = 1")]);
    let gateway = Gateway::to(&server).set("access", &by_client).start();
    let _only = Ftp::connect(gateway.address);
    let reply = Ftp::knock(gateway.address).reply().expect(&[421]);
    assert_eq!(reply.text, "421 Too many sessions; try again later.\r\n");
    assert_eq!(refused(&gateway, "rule-limit"), 1.0);
}

#[test]
fn a_reload_changes_the_rules_of_new_sessions_and_goes_on_counting() {
    let server = CannedServer::script().start();
    let access = rules("allow", &[("all", "deny_commands = [\"DELE\"]\nsessions = 1")]);
    let gateway = Gateway::to_address(server.address).set("access", &access).start();
    let rewrite = |from: &str, to: &str| {
        let text = fs::read_to_string(gateway.configuration()).unwrap();
        assert!(text.contains(from), "{from} is not in:\n{text}");
        fs::write(gateway.configuration(), text.replace(from, to)).unwrap();
        let (code, printed) = gateway.order(&["reload"]);
        assert_eq!((code, &*printed), (Some(0), "the configuration is taken up\n"));
    };
    let mut old = Ftp::connect(gateway.address);
    old.log_in_as("ann");
    Ftp::knock(gateway.address).reply().expect(&[421]);
    rewrite("\"DELE\"]\nsessions = 1", "\"RMD\"]\nsessions = 2");
    let mut new = Ftp::connect(gateway.address);
    new.log_in_as("ann");
    Ftp::knock(gateway.address).reply().expect(&[421]);
    old.command("DELE f").expect(&[550]);
    old.command("RMD d").expect(&[200]);
    new.command("DELE f").expect(&[200]);
    new.command("RMD d").expect(&[550]);
    assert_eq!(gateway.metric("ftpgate_rule_sessions{rule=\"all\"}"), 2.0);
    rewrite("name = \"all\"", "name = \"every\"");
    let _third = Ftp::connect(gateway.address);
    assert_eq!(gateway.metric("ftpgate_rule_sessions{rule=\"every\"}"), 1.0);
    assert_eq!(gateway.metric("ftpgate_rule_sessions{rule=\"all\"}"), 2.0);
    drop((old, new));
    eventually("the old rule's series to go", || {
        (!gateway.get("/metrics").1.contains("rule=\"all\"")).then_some(())
    });
}

#[test]
fn another_login_in_the_same_session_is_judged_anew() {
    let server = CannedServer::script().start();
    let access = rules(
        "allow",
        &[
            ("reader", "users = [\"reader\"]\ncommands = [\"RETR\"]"),
            ("eve", "users = [\"eve\"]\naction = \"deny\""),
        ],
    );
    let gateway = Gateway::to_address(server.address).set("access", &access).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("writer");
    client.command("DELE f").expect(&[200]);
    client.command("USER eve").expect(&[530]);
    client.command("DELE f").expect(&[200]);
    client.log_in_as("reader");
    client.command("DELE f").expect(&[550]);
    client.command("USER writer").expect(&[331]);
    client.command("DELE f").expect(&[550]);
    client.command(&format!("PASS {PASSWORD}")).expect(&[230]);
    client.command("DELE f").expect(&[200]);
    assert_eq!(server.times("DELE f"), 3);
    let series = "ftpgate_rule_sessions{rule=\"reader\"}";
    assert_eq!(gateway.metric(series), 0.0, "its place is free again");
    // What runs when its session is ended is reset, as ever.
    let data = client.begin("STOR f");
    let (code, printed) = gateway.order(&["block", "user", "wri*", "--end-sessions"]);
    assert_eq!((code, &*printed), (Some(0), "user wri* is blocked; 1 session is ended\n"));
    assert_eq!(read_to_end(data), (Vec::new(), End::Reset));
}
