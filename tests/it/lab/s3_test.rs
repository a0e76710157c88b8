//! The lab's S3 is what it says it is.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use super::http::{Answer, request};
use super::network::{LabNetwork, Place};
use super::s3::{self, Fault, S3};
use crate::harness::eventually;

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
