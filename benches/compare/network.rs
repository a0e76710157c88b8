//! Four machines as network namespaces with wires between them, so that nothing else on this machine
//! has a part in it: clients, peers, a router that does nothing but NAT, and upstreams.
//!
//! Each has reno for its congestion control, jumbo frames as a VPC has, and connection tracking only
//! where there is NAT.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::harness::namespace::{self, Network, PREFIX, run};

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Client,
    Proxy,
    Router,
    Upstream,
}

/// From one machine to the other; the wire's number is that of its subnet and of its devices.
const WIRES: [(Place, Place); 5] = [
    (Place::Client, Place::Proxy),
    (Place::Proxy, Place::Upstream),
    (Place::Client, Place::Upstream),
    (Place::Client, Place::Router),
    (Place::Router, Place::Upstream),
];
/// Where clients find the router: the far end of their wire to it.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 2);
/// Of the servers, at the upstream's end of whichever wire one comes by.
pub(crate) const SINK: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
pub(crate) const VSFTPD: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 2);
pub(crate) const VSFTPD_TLS: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 3);
const SERVERS: &str = "198.18.9.0/24";
/// Of peers, each of which has one.
const PROXIES: &str = "198.18.0.128/25";
/// Of VPCs (Amazon EC2 User Guide, "Network MTU").
const MTU: &str = "9001";

/// For each machine. Ports of connections that have ended are soon to be had again, as thousands of
/// sessions a second come from one address here.
const SETTINGS: [(&str, &str); 4] = [
    ("tcp_congestion_control", "reno"),
    ("tcp_tw_reuse", "1"),
    ("ip_local_port_range", "10000 65000"),
    ("ip_forward", "1"),
];

impl Place {
    const ALL: [Self; 4] = [Self::Client, Self::Proxy, Self::Router, Self::Upstream];

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Router => "router",
            Self::Upstream => "upstream",
        }
    }

    fn namespace(self) -> String {
        format!("{PREFIX}{}-compare-{}", std::process::id(), self.name())
    }

    /// A command that will run there.
    pub(crate) fn wrap(self, command: &Command) -> Command {
        namespace::wrap(&self.namespace(), command)
    }
}

/// One server's place in the upstreams' machine.
#[derive(Debug)]
pub(crate) struct At(pub(crate) Ipv4Addr);

impl Network for At {
    fn address(&self) -> Ipv4Addr {
        self.0
    }

    fn wrap(&self, command: &Command) -> Command {
        Place::Upstream.wrap(command)
    }
}

/// All machines; dropping it takes them away.
#[derive(Debug)]
pub(crate) struct Machines;

impl Machines {
    /// Makes them, and moves this thread, and those that it starts, to the clients' one.
    pub(crate) fn new() -> Self {
        namespace::remove_left_behind();
        let machines = Self;
        for place in Place::ALL {
            let name = place.namespace();
            namespace::add(&name);
            namespace::inside(&name, || {
                for (setting, value) in SETTINGS {
                    fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).unwrap();
                }
            });
        }
        for (number, (one, other)) in WIRES.into_iter().enumerate() {
            let wire = format!("wire{number}");
            let peer = ["peer", "name", &*wire, "mtu", MTU, "netns", &other.namespace()];
            ip(one, &[&["link", "add", &wire, "mtu", MTU, "type", "veth"][..], &peer].concat());
            for (place, end) in [(one, 1), (other, 2)] {
                ip(place, &["address", "add", &format!("198.18.{number}.{end}/24"), "dev", &wire]);
                ip(place, &["link", "set", &wire, "up"]);
            }
        }
        // Every address of these nets is its own.
        ip(Place::Proxy, &["route", "add", "local", PROXIES, "dev", "lo"]);
        ip(Place::Upstream, &["route", "add", "local", SERVERS, "dev", "lo"]);
        for (place, wire) in [(Place::Proxy, 1), (Place::Client, 2), (Place::Router, 4)] {
            ip(place, &["route", "add", SERVERS, "via", &format!("198.18.{wire}.2")]);
        }
        // The router shows the client's address, mod_proxy the one that it listens at.
        ip(Place::Upstream, &["route", "add", "198.18.3.0/24", "via", "198.18.4.1"]);
        ip(Place::Upstream, &["route", "add", PROXIES, "via", "198.18.1.1"]);
        namespace::enter(&Place::Client.namespace());
        machines
    }

    /// The address of that number on the proxies' machine, as clients reach it.
    pub(crate) fn proxy(number: u8) -> Ipv4Addr {
        assert!(number < 127, "no address is left");
        Ipv4Addr::new(198, 18, 0, 128 + number)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for place in Place::ALL {
            let _ = Command::new("ip").args(["netns", "delete", &place.namespace()]).status();
        }
    }
}

fn ip(place: Place, arguments: &[&str]) {
    run(&[&["ip", "-n", &place.namespace()], arguments].concat());
}
