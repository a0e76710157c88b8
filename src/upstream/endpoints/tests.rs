use super::*;
use crate::upstream::source::Sources;

fn address(last: u8) -> SocketAddr {
    ([10, 2, 3, last], 21).into()
}

fn name(name: &str) -> EndpointAddress {
    EndpointAddress::Name { name: name.into(), port: 21 }
}

fn entry(address: &EndpointAddress, zone: Option<&str>) -> config::Endpoint {
    config::Endpoint { address: address.clone(), zone: zone.map(Into::into) }
}

fn there(endpoints: &Endpoints) -> Vec<String> {
    let show = |endpoint: &Arc<Endpoint>| {
        let status = endpoint.status();
        let zone = status.zone.map(|zone| format!("@{zone}")).unwrap_or_default();
        format!("{}{zone} {}", status.address.ip(), status.state)
    };
    endpoints.snapshot().iter().map(show).collect()
}

fn session(endpoint: &Arc<Endpoint>, metrics: &Metrics) -> Place {
    let sources = Sources::new(&[], metrics).unwrap();
    let source = sources.for_client(address(9).ip(), endpoint.address).remove(0);
    endpoint.take(source.count)
}

#[test]
fn what_is_no_longer_resolved_drains_and_then_goes() {
    let metrics = Metrics::new().unwrap();
    let (all, of_a) = (name("ftp.internal"), name("ftp-a.internal"));
    let endpoints = Endpoints::new(false, metrics.clone());
    endpoints.configure(&[entry(&all, None), entry(&of_a, Some("zone-a"))]);
    endpoints.set(&all, &[address(1), address(2)]);
    endpoints.set(&of_a, &[address(2)]);
    assert_eq!(there(&endpoints), ["10.2.3.1 healthy", "10.2.3.2@zone-a healthy"]);

    assert_eq!(endpoints.snapshot()[1].name().as_deref(), Some("ftp.internal"));
    for (which, meant) in [
        ("10.2.3.2", true),
        ("10.2.3.2:21", true),
        ("10.2.3.2:990", false),
        ("10.2.3.1", false),
        ("FTP.internal", true),
        ("ftp.internal:21", true),
        ("ftp", false),
        ("", false),
    ] {
        assert_eq!(endpoints.snapshot()[1].is(which), meant, "{which}");
    }

    let place = session(&endpoints.snapshot()[0], &metrics);
    endpoints.set(&all, &[address(3)]);
    assert_eq!(
        there(&endpoints),
        ["10.2.3.3 healthy", "10.2.3.2@zone-a healthy", "10.2.3.1 draining"]
    );
    assert!(endpoints.snapshot()[2].candidate(None).is_none());
    // It may come back with its sessions.
    endpoints.set(&all, &[address(1), address(3)]);
    assert_eq!(endpoints.snapshot()[0].status().sessions, 1);
    endpoints.set(&all, &[address(3)]);

    endpoints.sweep();
    assert_eq!(endpoints.snapshot().len(), 3);
    let gone = endpoints.snapshot()[2].gone.clone();
    drop(place);
    endpoints.sweep();
    assert_eq!(there(&endpoints), ["10.2.3.3 healthy", "10.2.3.2@zone-a healthy"]);
    assert!(gone.is_cancelled());
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    assert!(!text.contains("10.2.3.1:21"), "its series are gone too:\n{text}");
}

#[test]
fn another_configuration_keeps_what_it_shares_with_the_old_one() {
    let metrics = Metrics::new().unwrap();
    let endpoints = Endpoints::new(false, metrics.clone());
    let [old, kept, new] = [1, 2, 3].map(|last| EndpointAddress::Fixed(address(last)));
    let resolved = name("ftp.internal");
    endpoints.configure(&[entry(&old, None), entry(&kept, None), entry(&resolved, None)]);
    endpoints.set(&resolved, &[address(4)]);
    let _place = session(&endpoints.snapshot()[0], &metrics);
    let _other = session(&endpoints.snapshot()[1], &metrics);
    endpoints.configure(&[
        entry(&new, None),
        entry(&resolved, Some("zone-b")),
        entry(&kept, Some("zone-a")),
    ]);
    let expected = [
        "10.2.3.3 healthy",
        "10.2.3.4@zone-b healthy",
        "10.2.3.2@zone-a healthy",
        "10.2.3.1 draining",
    ];
    assert_eq!(there(&endpoints), expected);
    assert_eq!(endpoints.snapshot()[2].status().sessions, 1, "it is the same endpoint");
    endpoints.set(&name("gone.internal"), &[address(5)]);
    assert_eq!(there(&endpoints), expected, "a late answer for a name that is gone");
}

#[test]
fn nobodys_and_everybodys_addresses_are_not_used() {
    for unusable in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
        assert!(!is_usable(unusable.parse().unwrap()), "{unusable}");
    }
    for usable in ["10.2.3.4", "127.0.0.1", "2001:db8::1", "::1"] {
        assert!(is_usable(usable.parse().unwrap()), "{usable}");
    }
}
