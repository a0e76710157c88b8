//! The live sessions as an operator sees and ends them.

use super::*;

#[test]
fn an_upload_is_seen_to_grow() {
    let (server, _told) = receiving_server();
    let gateway = Gateway::to_address(server).start();
    run(&gateway, &["sessions"]).expect(0, "no sessions\n");
    let mut client = log_in(&gateway, "alice");
    let from = client.stream().local_addr().unwrap().to_string();
    let _stranger = Ftp::connect(gateway.address);
    assert_eq!(client.upload("STOR first.csv", &bytes(1, 1000)).code, 226);
    let mut upload = client.begin("STOR in/second.csv");
    for sent in [100_000, 300_000] {
        upload.write_all(&bytes(2, 100_000 * if sent == 100_000 { 1 } else { 2 })).unwrap();
        let session = eventually("the bytes to be seen", || {
            sessions(&gateway).into_iter().find(|it| it["transfer"]["bytes"] == sent)
        });
        assert_eq!(session["bytes"], 1000 + sent, "{session}");
    }
    let list = sessions(&gateway);
    assert_eq!(list.len(), 2);
    let (session, stranger) = (&list[0], &list[1]);
    for (field, value) in [
        ("id", Value::from(1)),
        ("client", from.clone().into()),
        ("listener", gateway.address.to_string().into()),
        ("user", "alice".into()),
        ("endpoint", server.to_string().into()),
        ("tls", Value::Null),
        ("state", "transfer".into()),
        ("files", 1.into()),
    ] {
        assert_eq!(session[field], value, "{field} of {session}");
    }
    for time in [&session["since"], &session["last_command"], &session["transfer"]["since"]] {
        humantime::parse_rfc3339(time.as_str().unwrap()).unwrap();
    }
    let transfer = &session["transfer"];
    for (field, value) in [("verb", "STOR"), ("path", "in/second.csv"), ("direction", "upload")] {
        assert_eq!(transfer[field], value, "{transfer}");
    }
    assert_eq!((&transfer["ascii"], &transfer["tls"]), (&false.into(), &false.into()));
    assert_eq!(session.as_object().unwrap().len(), 12, "{session}");
    assert_eq!(transfer["size"], Value::Null, "no ALLO has told it");
    assert_eq!(transfer.as_object().unwrap().len(), 8, "{transfer}");
    assert_eq!((&stranger["state"], &stranger["user"]), (&"login".into(), &Value::Null));

    let shown = run(&gateway, &["sessions"]).expect(0, "2 sessions, 1 transfer\n").out;
    assert!(shown.contains("STOR in/second.csv, 293.0 KiB in "), "{shown}");
    let client_network = "127.0.0.0/8";
    for (filter, count) in [
        (["--user", "alice"], 1),
        (["--user", "ali"], 0),
        (["--client", &from], 1),
        (["--client", client_network], 2),
        (["--client", "192.0.2.1"], 0),
        (["--endpoint", &server.to_string()], 2),
        (["--endpoint", &server.ip().to_string()], 2),
    ] {
        let ran = run(&gateway, &[&["sessions", "--json"][..], &filter].concat());
        assert_eq!(ran.json()["sessions"].as_array().unwrap().len(), count, "{filter:?}: {ran:?}");
    }
    let status = run(&gateway, &["status", "--json"]).json();
    assert_eq!((&status["sessions"], &status["transfers"]), (&2.into(), &1.into()), "{status}");

    fin(&upload);
    client.final_reply().expect(&[226]);
    let idle = eventually("it to be idle", || {
        sessions(&gateway).into_iter().find(|session| session["state"] == "idle")
    });
    assert_eq!((&idle["files"], &idle["bytes"]), (&2.into(), &301_000.into()), "{idle}");
    assert_eq!(idle["transfer"], Value::Null);
    client.command("QUIT").expect(&[200]);
}

#[test]
fn a_session_that_is_killed_in_an_upload_leaves_no_complete_file() {
    let (server, told) = receiving_server();
    let gateway = Gateway::to_address(server).start();
    let mut victim = log_in(&gateway, "alice");
    let mut other = log_in(&gateway, "bob");
    let mut upload = victim.begin("STOR cut.csv");
    upload.write_all(&bytes(1, 50_000)).unwrap();
    let mut kept = other.begin("STOR kept.csv");
    kept.write_all(&bytes(2, 50_000)).unwrap();
    eventually("the bytes to be on their way", || {
        let moved = |session: &Value| session["transfer"]["bytes"] == 50_000;
        (sessions(&gateway).iter().filter(|session| moved(session)).count() == 2).then_some(())
    });
    run(&gateway, &["sessions", "kill", "1", "77"])
        .expect(1, "session 1 is ended\nerror: there is no session 77\n");
    let ids: Vec<_> = sessions(&gateway).iter().map(|session| session["id"].clone()).collect();
    assert_eq!(ids, [2], "who looks next does not find it");

    let error = told.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "and no FIN");
    victim.reply().expect(&[426]);
    let last = victim.reply().expect(&[421]);
    assert!(last.text.contains("ended by the operator"), "{last:?}");
    assert!(victim.is_closed());
    let line = gateway.audit_line("cut.csv");
    assert_eq!(
        (&line["outcome"], &line["reply"], &line["session"]),
        (&"gateway-failed".into(), &426.into(), &1.into())
    );
    eventually("the end to be counted", || {
        (gateway.metric("ftpgate_session_ends_total{reason=\"killed\"}") == 1.0).then_some(())
    });
    gateway.logs("reason=\"killed\"");

    kept.write_all(&bytes(3, 50_000)).unwrap();
    fin(&kept);
    other.final_reply().expect(&[226]);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap(), 100_000);
    assert_eq!(gateway.audit_line("kept.csv")["outcome"], "complete");
}

#[test]
fn a_session_that_is_killed_in_a_download_ends_it_by_reset() {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let endpoint = listener.local_addr().unwrap();
    thread::spawn(move || send_some(&listener.accept().unwrap().0));
    let gateway = Gateway::to_address(endpoint).start();
    let mut client = log_in(&gateway, "alice");
    let mut download = client.begin("RETR large.csv");
    download.read_exact(&mut [0; 1000]).unwrap();
    run(&gateway, &["sessions", "kill", "1"]).expect(0, "session 1 is ended");
    assert_eq!(read_to_end(download), (Vec::new(), End::Reset));
    client.reply().expect(&[426]);
    client.reply().expect(&[421]);
    assert_eq!(gateway.audit_line("large.csv")["bytes"], 1000);
}

/// Sends 1000 bytes of a download, and never the rest.
fn send_some(control: &TcpStream) -> io::Result<()> {
    let mut open = Vec::new();
    converse(control, |mut data| {
        data.write_all(&[7; 1000])?;
        open.push(data);
        Ok("150 go")
    })
}

#[test]
fn sessions_that_are_killed_when_idle_or_before_their_login_are_told() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    let (mut idle, mut stranger) = (log_in(&gateway, "alice"), Ftp::connect(gateway.address));
    let mut reserving = log_in(&gateway, "bob");
    reserving.pasv();
    let killed = run(&gateway, &["sessions", "kill", "1", "2", "3", "--json"]).expect(0, "").json();
    assert_eq!(killed, serde_json::json!({ "ended": [1, 2, 3], "failed": [] }));
    for client in [&mut idle, &mut stranger, &mut reserving] {
        assert_eq!(client.reply().text, "421 This session was ended by the operator.\r\n");
        assert!(client.is_closed());
    }
    assert!(sessions(&gateway).is_empty());
    eventually("the port to be free again", || {
        (gateway.metric("ftpgate_passive_ports_reserved") == 0.0).then_some(())
    });
    run(&gateway, &["sessions", "kill", "1"]).expect(1, "there is no session 1");
    log_in(&gateway, "carol").command("NOOP").expect(&[200]);
}

#[test]
fn a_watch_goes_on_until_it_is_interrupted() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    let _client = log_in(&gateway, "alice");
    for json in [false, true] {
        let mut command = ftpgate();
        command.args(["sessions", "--watch", "--interval", "20ms", "--config"]);
        command.arg(gateway.configuration()).args(json.then_some("--json"));
        let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let line = lines.find(|line| line.as_ref().unwrap().contains("alice"));
            let line = line.unwrap().unwrap();
            assert_eq!(json, serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        }
        let process = Pid::from_raw(watch.id().try_into().unwrap()).unwrap();
        kill_process(process, Signal::INT).unwrap();
        // So that it never waits for somebody to read.
        lines.for_each(drop);
        assert_eq!(watch.wait().unwrap().code(), Some(0));
    }
    // Or until nobody reads it any more.
    let mut command = ftpgate();
    command.args(["sessions", "--watch", "--interval", "20ms", "--config"]);
    let mut watch = command.arg(gateway.configuration()).stdout(Stdio::piped()).spawn().unwrap();
    drop(watch.stdout.take());
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[test]
fn names_reach_no_terminal_raw() {
    let server = CannedServer::script().says("RETR", b"").start();
    let gateway = Gateway::to_address(server.address).start();
    let hostile = "a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}2J\u{2028}\u{202e}b\u{7f}";
    let mut client = Ftp::connect(gateway.address);
    let mut say = |line: String| {
        client.send(&line);
        client.reply()
    };
    say(format!("USER {hostile}")).expect(&[331]);
    say(format!("PASS {PASSWORD}")).expect(&[230]);
    let at = client.pasv();
    let _data = client.open(at);
    client.send(&format!("RETR {hostile}"));
    let shown = eventually("the transfer", || {
        let shown = run(&gateway, &["sessions"]).out;
        shown.contains("RETR").then_some(shown)
    });
    let escaped = "a\\u001b[2J\\u001b]0;title\\u0007\\u009b2J\\u2028\\u202eb\\u007f";
    assert_eq!(shown.matches(escaped).count(), 2, "{}", shown.escape_debug());
    let json = run(&gateway, &["sessions", "--json"]);
    for text in [&shown, &json.out] {
        let raw = |char: char| char != '\n' && (char.is_control() || char == '\u{2028}');
        assert!(!text.contains(raw), "{}", text.escape_debug());
    }
    let session = &json.json()["sessions"][0];
    assert_eq!(
        (&session["user"], &session["transfer"]["path"]),
        (&hostile.into(), &hostile.into())
    );
    let ran = run(&gateway, &["sessions", "--json", "--user", hostile]).json();
    assert_eq!(ran["sessions"].as_array().unwrap().len(), 1);
    let ran = run(&gateway, &["probe", hostile, "--depth", "tcp"]).expect(1, escaped);
    assert!(!ran.err.trim_end().contains(char::is_control), "{}", ran.err.escape_debug());
}

/// A server that says 220 and nothing else, in one thread.
fn greeting_server() -> SocketAddr {
    let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let greet = |mut stream: TcpStream| {
            let _ = stream.write_all(b"220 ready\r\n");
            stream
        };
        let _kept: Vec<TcpStream> = listener.incoming().flatten().map(greet).collect();
    });
    address
}

#[test]
fn a_thousand_sessions_are_listed_at_once_while_they_come_and_go() {
    const COUNT: usize = 1000;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let gateway = Gateway::to_address(greeting_server())
        .set("limits", "sessions_per_client = 5000")
        .set("log", "format = \"json\"")
        .start();
    let stay: Vec<Ftp> = (0..COUNT).map(|_| Ftp::connect(gateway.address)).collect();
    let (stop, stopped) = channel::<()>();
    thread::scope(|scope| {
        let gateway = &gateway;
        scope.spawn(move || {
            while stopped.try_recv().is_err() {
                drop(Ftp::connect(gateway.address));
            }
        });
        for _ in 0..20 {
            let started = Instant::now();
            let list = sessions(gateway);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(5), "{took:?}");
            let ids: Vec<u64> = list.iter().map(|it| it["id"].as_u64().unwrap()).collect();
            assert!(ids.is_sorted_by(|one, next| one < next), "each once, in order: {ids:?}");
            assert!((1..=COUNT as u64).all(|id| ids.binary_search(&id).is_ok()), "{ids:?}");
        }
        stop.send(()).unwrap();
    });
    drop(stay);
    eventually("all to be gone", || sessions(&gateway).is_empty().then_some(()));
}
