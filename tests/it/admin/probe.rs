//! Probes by hand.

use super::*;

#[test]
fn a_probe_goes_as_deep_as_it_is_asked_to_and_counts_only_if_it_is_the_ordinary_one() {
    let server = CannedServer::script().says("PASS", b"530 no\r\n").start();
    let dead = SocketAddr::from((address::unused(), 2121));
    let gateway = Gateway::probing(server.address, "banner")
        .probe_password(PASSWORD)
        .or_to_address(dead)
        .start();
    gateway.until_healthy(server.address);
    let good = server.address.to_string();
    for (depth, code, stages) in [
        ("tcp", 0, &["connect"][..]),
        ("banner", 0, &["connect", "banner"]),
        ("login", 1, &["connect", "banner", "login"]),
    ] {
        let ran = run(&gateway, &["probe", &good, "--depth", depth, "--json"]).expect(code, "");
        let answer = ran.json();
        assert_eq!(answer["ok"], code == 0, "{answer}");
        let results = answer["results"].as_array().unwrap();
        let result = &results[0];
        assert_eq!((results.len(), &result["depth"]), (1, &depth.into()), "{answer}");
        assert_eq!(
            (&result["endpoint"], &result["counted"]),
            (&good.clone().into(), &false.into())
        );
        assert_eq!(result.as_object().unwrap().len(), 7, "{answer}");
        let gone = result["stages"].as_array().unwrap();
        assert!(gone.iter().map(|stage| &stage["stage"]).eq(stages), "{answer}");
        let last = gone.last().unwrap();
        assert_eq!((&last["ok"], last["reason"].is_null()), (&(code == 0).into(), code == 0));
        assert_eq!(last["seconds"].is_null(), code != 0, "{answer}");
    }
    assert_eq!(gateway.endpoints().1[0], format!("{good} healthy 0"), "nothing was counted");
    assert_eq!(gateway.probes(server.address, "login"), 0);
    run(&gateway, &["probe", &good, "--depth", "login"])
        .expect(1, "login: 530: it refuses the user or the password");
    let ip = server.address.ip().to_string();
    run(&gateway, &["probe", &ip]).expect(0, "banner");
    let all = run(&gateway, &["probe"]).expect(1, "connect: Connection refused").out;
    assert_eq!(all.lines().count(), 3, "{all}");
    let all = run(&gateway, &["probe", "--json"]).expect(1, "").json();
    assert!(all["results"].as_array().unwrap().iter().all(|result| result["counted"] == true));
    assert!(!gateway.log().contains(PASSWORD), "{}", gateway.log());

    let shown = run(&gateway, &["endpoints"]).expect(0, "connect: Connection refused").out;
    assert!(shown.contains("healthy") && shown.contains("banner "), "{shown}");
    let answer = run(&gateway, &["endpoints", "--json"]).expect(0, "").json();
    for endpoint in answer["endpoints"].as_array().unwrap() {
        for field in ["address", "name", "zone", "state", "reason", "sessions", "stages", "probed"]
        {
            assert!(endpoint.get(field).is_some(), "{field} is not in {endpoint}");
        }
        humantime::parse_rfc3339(endpoint["probed"].as_str().unwrap()).unwrap();
    }
    // The role follows a little later.
    let active = || (gateway.get("/activez").0 == 200).then_some(());
    eventually("the node to be active", active);
    let status = run(&gateway, &["status"]).expect(0, "there is no other node").out;
    assert!(status.contains("ready     yes") && status.contains(&dead.to_string()), "{status}");
}

#[test]
fn a_probe_by_hand_works_where_there_are_no_others() {
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address).start();
    run(&gateway, &["probe", "--depth", "banner"]).expect(0, "ok");
    run(&gateway, &["probe", "--depth", "login"]).expect(1, "there is no [probe.password]");
    let status = run(&gateway, &["endpoints", "--json"]).json();
    assert_eq!(status["endpoints"][0]["probed"], Value::Null, "it was nobody's but ours");
}
