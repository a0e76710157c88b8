//! The lab is what it says it is.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};

use super::client::{self, Client};
use super::cloudwatch::{self, Alarm, CloudWatch};
use super::follow::{HealthChecks, Resolver, Router};
use super::http::{Answer, request};
use super::load::Load;
use super::moto::{self, RecordSet};
use super::network::{Host, LabNetwork, Place};
use super::s3::{self, Fault, S3};
use super::{NAME, OVERLAY, ZONE};
use crate::harness::aws::{ACCESS_KEY, Moto, REGION, SECRET_KEY};
use crate::harness::eventually;
use crate::harness::servers::{Kind, Server};

const MOMENT: Duration = Duration::from_secs(1);

// === the network ===

#[test]
fn packets_of_a_host_that_is_cut_vanish_until_it_is_mended() {
    let network = LabNetwork::new();
    let options = Server::options(Kind::ApacheFtpServer).inside(network.host(Place::EndpointA));
    let _server = options.port(21).passive("8192-8200").start();
    let address = Place::EndpointA.address();
    let client = Client::of_address(network.host(Place::Client), address);
    let patience = Duration::from_secs(20);
    client.transfer_once(patience).unwrap();
    let vanishes = || {
        let error = client.transfer_once(patience).unwrap_err();
        assert!(error.contains("connect: connection timed out"), "{error}");
    };
    network.cut(Place::EndpointA);
    vanishes();
    network.mend(Place::EndpointA);
    client.transfer_once(patience).unwrap();
    network.cut_between(Place::Client, Place::EndpointA);
    vanishes();
    // Others still reach it.
    Client::of_address(network.host(Place::GatewayC), address).transfer_once(patience).unwrap();
    network.mend_between(Place::Client, Place::EndpointA);
    client.transfer_once(patience).unwrap();
    // And a load counts both kinds.
    let load = Load::start(&Arc::new(client), 10);
    eventually("five transfers", || (load.done() >= 5).then_some(()));
    network.cut(Place::EndpointA);
    eventually("a failure", || (load.failed() > 0).then_some(()));
    network.mend(Place::EndpointA);
    let outcome = load.stop();
    assert!(outcome.times.len() >= 5 && !outcome.failures.is_empty(), "{outcome:?}");
}

#[test]
fn an_overlay_address_is_where_the_route_table_says() {
    let network = LabNetwork::new();
    let aws = network.host(Place::Aws);
    let _moto = Moto::inside(aws);
    let vpc = aws.inside(|| moto::create_vpc(OVERLAY));
    let [a, c] = Place::GATEWAYS.map(|place| {
        let host = network.host(place);
        host.run(&["ip", "address", "add", &format!("{OVERLAY}/32"), "dev", "lo"]);
        let listener = host.inside(|| std::net::TcpListener::bind((OVERLAY, 21)).unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let _router = Router::start(aws, vpc.clone(), network.routes(), OVERLAY);
    let client = network.host(Place::Client);
    let knock = || {
        let address = SocketAddr::from((OVERLAY, 21));
        client.inside(|| std::net::TcpStream::connect_timeout(&address, MOMENT))
    };
    let arrives = |at: &std::net::TcpListener| {
        eventually("a connection", || {
            let _ = knock();
            at.accept().ok()
        });
    };
    arrives(&a);
    aws.inside(|| vpc.replace(OVERLAY, Place::GatewayC));
    arrives(&c);
}

// === S3 ===

/// S3 and the two gateways' hosts.
struct Buckets {
    s3: S3,
    network: LabNetwork,
}

impl Buckets {
    fn start() -> Self {
        let network = LabNetwork::new();
        Self { s3: S3::start(network.host(Place::Aws)), network }
    }

    fn from(&self, place: Place, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_from(place, method, headers, body).unwrap()
    }

    fn try_from(
        &self,
        place: Place,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Answer> {
        let to = SocketAddr::from((Place::Aws.address(), s3::PORT));
        let ask = || request(to, method, "/gateways/ftpgate/lease.json", headers, body.as_bytes());
        self.network.host(place).inside(ask)
    }
}

const ABSENT: [(&str, &str); 1] = [("If-None-Match", "*")];

#[test]
fn s3_writes_only_if_the_condition_holds() {
    let buckets = Buckets::start();
    let ask = |method: &str, headers: &[(&str, &str)], body: &str| {
        buckets.from(Place::GatewayA, method, headers, body)
    };
    assert_eq!(ask("GET", &[], "").status, 404);
    assert!(ask("GET", &[], "").body.contains("<Code>NoSuchKey</Code>"));
    let stale = [("If-Match", "\"0\"")];
    assert_eq!(ask("PUT", &stale, "x").status, 404);
    let first = ask("PUT", &ABSENT, "{\"holder\":\"a\",\"generation\":1}").expect_success();
    let first = first.header("etag").unwrap();
    let refused = ask("PUT", &ABSENT, "x");
    assert_eq!(refused.status, 412);
    assert!(refused.body.contains("<Code>PreconditionFailed</Code>"), "{}", refused.body);
    assert_eq!(ask("PUT", &stale, "x").status, 412);
    let second = ask("PUT", &[("If-Match", first)], "{\"holder\":\"c\",\"generation\":2}");
    let second = second.expect_success();
    assert_ne!(second.header("etag").unwrap(), first);
    let found = ask("GET", &[], "").expect_success();
    assert_eq!(found.header("etag"), second.header("etag"));
    assert_eq!(found.body, "{\"holder\":\"c\",\"generation\":2}");
    assert_eq!(ask("DELETE", &[("If-Match", first)], "").status, 412);
    assert_eq!(ask("DELETE", &[], "").status, 204);
    assert_eq!(ask("GET", &[], "").status, 404);
    assert_eq!(buckets.s3.holders(), [(1, "a".into()), (2, "c".into())]);
    let callers: Vec<IpAddr> = buckets.s3.writes().iter().map(|write| write.caller).collect();
    assert_eq!(callers, [IpAddr::from(Place::GatewayA.address()); 2]);
}

#[test]
fn of_writes_that_race_one_wins() {
    let buckets = Buckets::start();
    let mut etag =
        buckets.from(Place::GatewayA, "PUT", &ABSENT, "0").header("etag").unwrap().to_owned();
    for round in 0..20 {
        let won: Vec<String> = thread::scope(|scope| {
            let racers: Vec<_> = (0..6)
                .map(|racer| {
                    let place = Place::GATEWAYS[racer % 2];
                    let (buckets, headers) = (&buckets, [("If-Match", etag.as_str())]);
                    scope.spawn(move || {
                        let body = format!("{round} {racer}");
                        let answer = buckets.from(place, "PUT", &headers, &body);
                        assert!([200, 412].contains(&answer.status), "{}", answer.status);
                        let etag = answer.header("etag").map(str::to_owned);
                        (answer.status == 200).then_some(etag).flatten()
                    })
                })
                .collect();
            racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(won.len(), 1, "round {round}");
        etag.clone_from(&won[0]);
    }
}

#[test]
fn s3_fails_as_it_is_told_to() {
    let buckets = Buckets::start();
    let (s3, a, c) = (&buckets.s3, Place::GatewayA, Place::GatewayC);
    let put = |place, body: &str| buckets.from(place, "PUT", &[], body).status;
    let read = || buckets.from(c, "GET", &[], "").body;
    s3.fail(Some(Fault::Unavailable));
    assert_eq!((put(a, "1"), put(c, "1")), (503, 503));
    s3.fail(None);
    s3.fail_for(a.address(), Some(Fault::Conflict));
    assert_eq!((put(a, "2"), put(c, "3")), (409, 200));
    assert_eq!(buckets.from(a, "GET", &[], "").body, "3", "only writes are in conflict");
    // Nobody waits for an answer for ever; whoever asks these gives up.
    let ask_briefly = |body: &str| {
        let to = SocketAddr::from((Place::Aws.address(), s3::PORT));
        buckets.network.host(a).inside(|| {
            let mut stream = std::net::TcpStream::connect(to).unwrap();
            let length = body.len();
            let request = format!(
                "PUT /gateways/ftpgate/lease.json HTTP/1.1\r\nHost: s3\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let answer = std::io::Read::read(&mut stream, &mut [0; 64]);
            assert!(answer.is_err(), "an answer came");
        });
    };
    s3.fail_for(a.address(), Some(Fault::Cut));
    ask_briefly("4");
    assert_eq!(read(), "3");
    s3.fail_for(a.address(), Some(Fault::LoseReplies));
    ask_briefly("5");
    assert_eq!(read(), "5");
    s3.fail_for(a.address(), Some(Fault::Delay(Duration::from_millis(800))));
    ask_briefly("6");
    assert_eq!(read(), "5");
    eventually("the late write", || (read() == "6").then_some(()));
    s3.fail_for(a.address(), None);
    assert_eq!(put(a, "7"), 200);
}

// === Route 53 and CloudWatch ===

fn record(address: Place, failover: Option<(&str, &str)>) -> RecordSet {
    RecordSet {
        name: NAME.into(),
        kind: "A".into(),
        ttl: 5,
        values: vec![address.address().to_string()],
        failover: failover.map(|(role, check)| (role.into(), Some(check.into()))),
    }
}

/// Waits until the name resolves to that, and tells how long it took.
fn follows(client: &Host, to: Place) -> Duration {
    let started = Instant::now();
    eventually("the new answer", || {
        let found = client.inside(|| client::look_up(NAME)).ok();
        (found == Some((to.address(), 5))).then_some(())
    });
    started.elapsed()
}

#[test]
fn the_resolver_follows_a_record_within_a_second() {
    let network = LabNetwork::new();
    let aws = network.host(Place::Aws);
    let _moto = Moto::inside(aws);
    let zone = aws.inside(|| moto::create_zone(ZONE));
    let _resolver = Resolver::start(aws, &zone, CloudWatch::start(aws), HealthChecks::new());
    let client = network.host(Place::Client);
    for place in [Place::GatewayA, Place::GatewayC, Place::GatewayA] {
        aws.inside(|| moto::upsert(&zone, &record(place, None)));
        let took = follows(client, place);
        assert!(took < MOMENT, "{took:?}");
    }
    // Programs find it by the C library.
    let mut getent = std::process::Command::new("getent");
    getent.args(["ahostsv4", NAME]);
    let found = crate::harness::namespace::Network::wrap(client, &getent).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.starts_with("10.2.1.10"), "{found}");
}

#[test]
fn metrics_of_the_sdk_turn_a_failover_record_and_so_do_missing_ones() {
    let network = LabNetwork::new();
    let aws = network.host(Place::Aws);
    let _moto = Moto::inside(aws);
    let cloudwatch = CloudWatch::start(aws);
    let zone = aws.inside(|| moto::create_zone(ZONE));
    let alarm = |zone: &str| Alarm {
        namespace: "ftpgate".into(),
        metric: "HealthyHostCount".into(),
        dimensions: [("AvailabilityZone".into(), zone.into())].into(),
        threshold: 1.0,
        periods: 2,
    };
    let checks = Place::GATEWAYS.map(|place| (place.name().to_owned(), alarm(place.zone())));
    aws.inside(|| {
        moto::upsert(&zone, &record(Place::GatewayA, Some(("PRIMARY", "gateway-a"))));
        moto::upsert(&zone, &record(Place::GatewayC, Some(("SECONDARY", "gateway-c"))));
    });
    let _resolver = Resolver::start(aws, &zone, cloudwatch.clone(), checks.into());
    let client = network.host(Place::Client);
    // Nothing is known of either: the primary it is.
    follows(client, Place::GatewayA);
    let report = |values: HashMap<Place, f64>| {
        network.host(Place::GatewayA).inside(|| put_metric_data(&values));
    };
    report([(Place::GatewayA, 2.0), (Place::GatewayC, 2.0)].into());
    let datum = &cloudwatch.data()[0];
    assert_eq!((&*datum.metric, datum.value), ("HealthyHostCount", 2.0));
    follows(client, Place::GatewayA);
    // Silence of one is enough, and so is a bad value.
    eventually("silence to count", || {
        report([(Place::GatewayC, 1.0)].into());
        (client.inside(|| client::look_up(NAME)).unwrap().0 == Place::GatewayC.address())
            .then_some(())
    });
    report([(Place::GatewayA, 1.0)].into());
    follows(client, Place::GatewayA);
    eventually("no healthy host to count", || {
        report([(Place::GatewayA, 0.0), (Place::GatewayC, 1.0)].into());
        (client.inside(|| client::look_up(NAME)).unwrap().0 == Place::GatewayC.address())
            .then_some(())
    });
}

/// Reports a count of healthy hosts in each place's zone, by the SDK that gateways use.
fn put_metric_data(values: &HashMap<Place, f64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = format!("http://{}:{}", Place::Aws.address(), cloudwatch::PORT);
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests"))
            .endpoint_url(endpoint)
            .load()
            .await;
        let mut put = aws_sdk_cloudwatch::Client::new(&config).put_metric_data();
        put = put.namespace("ftpgate");
        for (place, value) in values {
            let zone = Dimension::builder().name("AvailabilityZone").value(place.zone()).build();
            let datum = MetricDatum::builder().metric_name("HealthyHostCount").dimensions(zone);
            put = put.metric_data(datum.value(*value).build());
        }
        put.send().await.unwrap();
    });
}
