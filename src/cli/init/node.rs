//! A node as `ftpgate init` knows it, and the file that says so.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use toml::Value;

/// Where [http] is unless the peer's says otherwise.
const HTTP_PORT: u16 = 9121;

/// One node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether they are known to be Transfer Family's.
    pub(super) is_transfer: bool,
    pub(super) listen: String,
    pub(super) zone: Option<String>,
    pub(super) pair: Option<Pair>,
}

/// An address of the FTP service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: String,
    pub(super) zone: Option<String>,
}

/// What it has to do with the other node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) peer: String,
    pub(super) name: Option<String>,
    /// With a lease; without one Route 53 decides.
    pub(super) lease_bucket: Option<String>,
    pub(super) steering: Steering,
}

/// What the holder of a lease moves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Steering {
    Nothing,
    Overlay { address: String, route_tables: Vec<String> },
    Record { zone_id: String, address: IpAddr },
}

impl Endpoint {
    /// `ADDRESS[=ZONE]`; whether that is any good is for the configuration to say.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((address, zone)) => Self { address: address.into(), zone: Some(zone.into()) },
            None => Self { address: text.into(), zone: None },
        }
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("\n[[upstream.endpoint]]\naddress = {}\n", quoted(&self.address));
        if let Some(zone) = &self.zone {
            let _ = writeln!(text, "zone = {}", quoted(zone));
        }
        text
    }
}

impl Node {
    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "# Written by `ftpgate init`. Every other key has a default: config/ftpgate.toml in ftpgate's\n\
             # source shows all of them. After a change: `ftpgate check`, then `ftpgate reload`.\n\n[node]\n",
        );
        match &self.zone {
            Some(zone) => {
                text += "# Endpoints of this zone are preferred.\n";
                let _ = writeln!(text, "zone = {}", quoted(zone));
            }
            None => text += "# No endpoint is preferred for its zone.\n#zone = \"auto\"\n",
        }
        let _ = write!(
            text,
            "\n# Where clients connect to.\n[[listener]]\naddress = {}\n\n\
             # Open these ports to clients, too.\n[passive]\nports = \"8192-8200\"\n\n\
             # The FTP service.\n[upstream]\n",
            quoted(&self.listen),
        );
        if self.is_transfer {
            text += "# Transfer Family's data ports.\npassive_ports = \"8192-8200\"\n";
        }
        for endpoint in &self.endpoints {
            text += &endpoint.table();
        }
        if let Some(pair) = &self.pair {
            text += &pair.tables();
        }
        text
    }

    /// What the operator does after that.
    pub(super) fn next_steps(&self, file: &str) -> String {
        let mut steps = String::new();
        if let Some(pair) = &self.pair {
            let documents = match (&pair.lease_bucket, &pair.steering) {
                (None, _) => "cloudwatch.json",
                (Some(_), Steering::Nothing) => "lease.json",
                (Some(_), Steering::Overlay { .. }) => "lease.json and route.json",
                (Some(_), Steering::Record { .. }) => "lease.json and route53.json",
            };
            let _ = writeln!(steps, "next: let the node do what config/iam has in {documents}");
            let _ =
                writeln!(steps, "next: run this on the other node, with this one as its --peer");
        }
        let _ = writeln!(steps, "next: ftpgate serve --config {file}");
        steps
    }
}

impl Pair {
    fn tables(&self) -> String {
        // Both nodes are made alike.
        let port = self.peer.parse().map_or(HTTP_PORT, |peer: SocketAddr| peer.port());
        let host = match self.peer.parse() {
            Ok(SocketAddr::V6(_)) => "[::]",
            _ => "0.0.0.0",
        };
        let mode = if self.lease_bucket.is_some() { "lease" } else { "dns" };
        let mut text = format!(
            "\n# The peer asks here, and so may Prometheus: keep it inside.\n[http]\n\
             address = \"{host}:{port}\"\n\n[ha]\nmode = \"{mode}\"\n\
             # The other node's [http].\npeer = {}\n",
            quoted(&self.peer),
        );
        if let Some(name) = &self.name {
            let _ = writeln!(text, "# The name that clients use.\nname = {}", quoted(name));
        }
        match &self.lease_bucket {
            Some(bucket) => {
                let _ = write!(text, "\n[ha.lease]\nbucket = {}\n", quoted(bucket));
            }
            None => {
                let name = self.name.as_deref().unwrap_or_default();
                let _ = write!(
                    text,
                    "\n# The alarms behind Route 53's health checks are on this.\n[cloudwatch]\n\
                     load_balancer = {}\n",
                    quoted(name),
                );
            }
        }
        let _ = match &self.steering {
            Steering::Nothing => Ok(()),
            Steering::Overlay { address, route_tables } => {
                let tables = route_tables.iter().map(|id| Value::from(id.as_str())).collect();
                let tables = Value::Array(tables);
                write!(
                    text,
                    "\n# An address that both nodes have; the active one moves its routes.\n[ha.route]\n\
                     address = {}\nroute_tables = {tables}\n",
                    quoted(address),
                )
            }
            Steering::Record { zone_id, address } => write!(
                text,
                "\n# The active node writes the name, with where clients reach it.\n[ha.route53]\n\
                 zone_id = {}\naddresses = [\"{address}\"]\n",
                quoted(zone_id),
            ),
        };
        text
    }
}

/// Where others reach this node: where it listens, if that is one address, or from where it would
/// reach its peer. Nothing is sent for that.
pub(super) fn own_address(listen: &str, peer: &str) -> Option<IpAddr> {
    let listen = listen.parse().map(|listen: SocketAddr| listen.ip()).ok();
    if let Some(address) = listen.filter(|address| !address.is_unspecified()) {
        return Some(address);
    }
    let peer: SocketAddr = peer.parse().ok()?;
    let any = if peer.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { listen? };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// A string as TOML has it.
pub(super) fn quoted(text: &str) -> Value {
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Zone};

    fn node(zone: Option<&str>, pair: Option<Pair>) -> Node {
        Node {
            endpoints: vec![
                Endpoint::parse("10.2.3.10=ap-northeast-1a"),
                Endpoint::parse("ftp.example.internal:2121"),
            ],
            is_transfer: pair.is_some(),
            listen: "0.0.0.0:21".into(),
            zone: zone.map(Into::into),
            pair,
        }
    }

    #[test]
    fn every_kind_of_node_makes_a_good_configuration() {
        let pair = |lease: bool, steering| Pair {
            peer: "10.2.2.10:9121".into(),
            name: Some("gw.example.internal".into()),
            lease_bucket: lease.then(|| "my-gateways".into()),
            steering,
        };
        let overlay = || Steering::Overlay {
            address: "10.99.0.1".into(),
            route_tables: vec!["rtb-1".into(), "rtb-2".into()],
        };
        let record =
            || Steering::Record { zone_id: "Z1".into(), address: "10.2.1.10".parse().unwrap() };
        for pair in [
            None,
            Some(pair(false, Steering::Nothing)),
            Some(pair(true, Steering::Nothing)),
            Some(pair(true, overlay())),
            Some(pair(true, record())),
        ] {
            for zone in [None, Some("auto")] {
                let node = node(zone, None);
                Config::parse(&node.text(), "alone").unwrap();
            }
            let node = node(Some("ap-northeast-1a"), pair);
            let config = Config::parse(&node.text(), "init").unwrap();
            assert_eq!(config.upstream.endpoints.len(), 2);
        }
    }

    #[test]
    fn what_would_end_a_string_does_not() {
        let hostile = "a\"\n[admin]\nenabled = false\n[log]\nlevel = \"trace";
        let mut node = node(Some(hostile), None);
        let config = Config::parse(&node.text(), "init").unwrap();
        assert_eq!(config.node.zone, Zone::Named(hostile.into()));
        assert!(config.admin.is_some());
        node.zone = None;
        node.endpoints = vec![Endpoint::parse(hostile)];
        assert!(Config::parse(&node.text(), "init").is_err());
    }

    #[test]
    fn a_node_is_reached_where_it_listens_or_from_where_it_reaches_its_peer() {
        let own = |listen, peer| own_address(listen, peer).map(|address| address.to_string());
        assert_eq!(own("10.2.1.10:21", "10.2.2.10:9121").as_deref(), Some("10.2.1.10"));
        assert_eq!(own("0.0.0.0:21", "127.0.0.1:9121").as_deref(), Some("127.0.0.1"));
        assert_eq!(own("0.0.0.0:21", "gateway-c"), None);
    }
}
