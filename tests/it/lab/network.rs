//! Two VPCs with a peering as network namespaces: a router with a wire to every host. All addresses
//! are the same in every lab, as none of them is outside its namespaces.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::namespace::{self, Network, PREFIX, run};

/// Where something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The resolver of the second VPC, and everything else of AWS.
    Aws,
    /// A client of the first VPC's private subnet.
    Client,
    EndpointA,
    EndpointC,
    GatewayA,
    GatewayC,
}

impl Place {
    pub(crate) const ALL: [Self; 6] =
        [Self::Aws, Self::Client, Self::EndpointA, Self::EndpointC, Self::GatewayA, Self::GatewayC];
    pub(crate) const GATEWAYS: [Self; 2] = [Self::GatewayA, Self::GatewayC];

    pub(crate) const fn address(self) -> Ipv4Addr {
        match self {
            Self::Aws => Ipv4Addr::new(10, 2, 0, 2),
            Self::Client => Ipv4Addr::new(10, 1, 2, 10),
            Self::EndpointA => Ipv4Addr::new(10, 2, 3, 10),
            Self::EndpointC => Ipv4Addr::new(10, 2, 4, 10),
            Self::GatewayA => Ipv4Addr::new(10, 2, 1, 10),
            Self::GatewayC => Ipv4Addr::new(10, 2, 2, 10),
        }
    }

    /// Its name, which is also that of the router's end of its wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Client => "client",
            Self::EndpointA => "endpoint-a",
            Self::EndpointC => "endpoint-c",
            Self::GatewayA => "gateway-a",
            Self::GatewayC => "gateway-c",
        }
    }

    pub(crate) const fn zone(self) -> &'static str {
        match self {
            Self::EndpointC | Self::GatewayC => "ap-northeast-1c",
            _ => "ap-northeast-1a",
        }
    }

    /// Of two gateways or endpoints the one in the other zone.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::EndpointA => Self::EndpointC,
            Self::EndpointC => Self::EndpointA,
            Self::GatewayA => Self::GatewayC,
            Self::GatewayC => Self::GatewayA,
            Self::Aws | Self::Client => panic!("there is only one {self:?}"),
        }
    }

    /// The endpoint in a gateway's zone.
    pub(crate) fn endpoint(self) -> Self {
        if self.zone() == Self::EndpointA.zone() { Self::EndpointA } else { Self::EndpointC }
    }
}

/// A host of a lab; clones are the same host. It is gone when its lab is.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) place: Place,
    namespace: String,
}

impl Host {
    /// Moves this thread there for the rest of its life.
    pub(crate) fn enter(&self) {
        namespace::enter(&self.namespace);
    }

    /// Does something there. A socket made there is of that network wherever it is used.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::inside(&self.namespace, work)
    }

    /// The file that stands for its network.
    pub(crate) fn path(&self) -> PathBuf {
        namespace::path(&self.namespace)
    }

    pub(crate) fn tcp(&self, port: u16) -> TcpListener {
        self.inside(|| TcpListener::bind((self.address(), port)).unwrap())
    }

    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        self.inside(|| UdpSocket::bind((self.address(), port)).unwrap())
    }

    /// Runs a command there to its end.
    pub(crate) fn run(&self, command: &[&str]) {
        run(&[&["ip", "netns", "exec", &self.namespace], command].concat());
    }
}

impl Network for Host {
    fn address(&self) -> Ipv4Addr {
        self.place.address()
    }

    fn wrap(&self, command: &Command) -> Command {
        namespace::wrap(&self.namespace, command)
    }

    fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.inside(|| TcpStream::connect(to))
    }
}

/// All hosts and the router between them; dropping it takes everything away.
#[derive(Debug)]
pub(crate) struct LabNetwork {
    router: String,
    hosts: Vec<Host>,
    /// What stands in for /etc/resolv.conf in each host.
    etc: Vec<PathBuf>,
}

impl LabNetwork {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static FIRST: Once = Once::new();
        FIRST.call_once(namespace::remove_left_behind);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-lab{number}", std::process::id());
        let router = format!("{prefix}-router");
        let host = |place: Place| Host { place, namespace: format!("{prefix}-{}", place.name()) };
        let mut network = Self { router, hosts: Vec::new(), etc: Vec::new() };
        namespace::add(&network.router);
        namespace::inside(&network.router, || fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
            .unwrap();
        for place in Place::ALL {
            let host = host(place);
            network.add(&host);
            network.hosts.push(host);
        }
        network.nft(
            "add table inet cut; \
             add set inet cut hosts { type ifname; }; \
             add set inet cut pairs { type ifname . ifname; }; \
             add chain inet cut forward { type filter hook forward priority 0; }; \
             add rule inet cut forward iifname @hosts drop; \
             add rule inet cut forward oifname @hosts drop; \
             add rule inet cut forward iifname . oifname @pairs drop",
        );
        network
    }

    fn add(&mut self, host: &Host) {
        let (router, name, namespace) = (&*self.router, host.place.name(), &*host.namespace);
        namespace::add(namespace);
        let [first, second, third, _] = host.address().octets();
        let gateway = format!("{first}.{second}.{third}.1");
        let peer = ["peer", "name", "eth0", "netns", namespace];
        run(&[&["ip", "-n", router, "link", "add", name, "type", "veth"][..], &peer].concat());
        run(&["ip", "-n", router, "address", "add", &format!("{gateway}/24"), "dev", name]);
        run(&["ip", "-n", router, "link", "set", name, "up"]);
        run(&[
            "ip",
            "-n",
            namespace,
            "address",
            "add",
            &format!("{}/24", host.address()),
            "dev",
            "eth0",
        ]);
        run(&["ip", "-n", namespace, "link", "set", "eth0", "up"]);
        run(&["ip", "-n", namespace, "route", "add", "default", "via", &gateway]);
        // What `ip netns exec` shows to programs as /etc.
        let etc = Path::new("/etc/netns").join(namespace);
        fs::create_dir_all(&etc).unwrap();
        let resolver = Place::Aws.address();
        fs::write(etc.join("resolv.conf"), format!("nameserver {resolver}\n")).unwrap();
        self.etc.push(etc);
    }

    pub(crate) fn host(&self, place: Place) -> &Host {
        self.hosts.iter().find(|host| host.place == place).unwrap()
    }

    /// From now on every packet to it and from it vanishes on the way.
    pub(crate) fn cut(&self, place: Place) {
        self.nft(&format!("add element inet cut hosts {{ \"{}\" }}", place.name()));
    }

    /// From now on no more.
    pub(crate) fn mend(&self, place: Place) {
        self.nft(&format!("delete element inet cut hosts {{ \"{}\" }}", place.name()));
    }

    /// From now on every packet between these two vanishes on the way.
    pub(crate) fn cut_between(&self, one: Place, other: Place) {
        self.nft(&format!("add element inet cut pairs {{ {} }}", both_ways(one, other)));
    }

    /// From now on no more.
    pub(crate) fn mend_between(&self, one: Place, other: Place) {
        self.nft(&format!("delete element inet cut pairs {{ {} }}", both_ways(one, other)));
    }

    /// From now on every packet from one to the other vanishes on the way, and none of those back.
    pub(crate) fn cut_one_way(&self, from: Place, to: Place) {
        self.nft(&format!("add element inet cut pairs {{ {} }}", one_way(from, to)));
    }

    /// From now on no more.
    pub(crate) fn mend_one_way(&self, from: Place, to: Place) {
        self.nft(&format!("delete element inet cut pairs {{ {} }}", one_way(from, to)));
    }

    /// What sends an address outside both VPCs to one of their hosts.
    pub(crate) fn routes(&self) -> Routes {
        Routes { router: self.router.clone() }
    }

    fn nft(&self, commands: &str) {
        run(&["ip", "netns", "exec", &self.router, "nft", commands]);
    }
}

impl Drop for LabNetwork {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().map(|host| &host.namespace).chain([&self.router]) {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
        for etc in &self.etc {
            let _ = fs::remove_dir_all(etc);
        }
    }
}

/// The router's table.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    router: String,
}

impl Routes {
    /// Packets to `address` go there from now on, or nowhere.
    pub(crate) fn set(&self, address: Ipv4Addr, to: Option<Place>) {
        let address = format!("{address}/32");
        let route = ["ip", "-n", &self.router, "route", "replace"];
        match to {
            Some(place) => {
                let via = place.address().to_string();
                run(&[&route[..], &[&address, "via", &via]].concat());
            }
            None => run(&[&route[..], &["blackhole", &address]].concat()),
        }
    }
}

fn both_ways(one: Place, other: Place) -> String {
    format!("{}, {}", one_way(one, other), one_way(other, one))
}

fn one_way(from: Place, to: Place) -> String {
    format!("\"{}\" . \"{}\"", from.name(), to.name())
}
