//! The lab's Route 53 and CloudWatch are what they say they are.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::client;
use super::cloudwatch::{self, Alarm, CloudWatch};
use super::follow::{HealthChecks, Resolver};
use super::moto::{self, RecordSet};
use super::network::{Host, LabNetwork, Place};
use super::{NAME, ZONE};
use crate::harness::aws::Moto;
use crate::harness::eventually;

const MOMENT: Duration = Duration::from_secs(1);

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
fn metrics_turn_a_failover_record_and_so_do_missing_ones() {
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
    let known = aws.inside(|| moto::metric_names("ftpgate"));
    assert_eq!(known, ["HealthyHostCount".to_owned()].into());
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

/// Reports a count of healthy hosts in each place's zone.
fn put_metric_data(values: &HashMap<Place, f64>) {
    let mut form = "Action=PutMetricData&Version=2010-08-01&Namespace=ftpgate".to_owned();
    for (number, (place, value)) in (1..).zip(values) {
        let member = format!("MetricData.member.{number}");
        let dimension = format!("{member}.Dimensions.member.1");
        let zone = place.zone();
        form += &format!("&{member}.MetricName=HealthyHostCount&{member}.Value={value}");
        form += &format!("&{dimension}.Name=AvailabilityZone&{dimension}.Value={zone}");
    }
    moto::post_form("monitoring", cloudwatch::PORT, &form).unwrap().expect_success();
}
