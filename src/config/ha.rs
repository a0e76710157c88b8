//! `[ha]`, `[cloudwatch]` and `[admin]`: how two nodes are a pair.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[ha]`: how the nodes agree on which of them serves the clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Ha {
    /// What decides this node's role.
    pub mode: HaMode,
    /// The other node's `http.address`, asked whether it can serve.
    pub peer: Option<SocketAddr>,
    /// The name that clients use, in lower case and without the dot at its end.
    pub name: Option<String>,
}

/// What decides a node's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HaMode {
    /// Where Route 53 sends clients, judging by the nodes' health: `ha.name` says it.
    Dns,
    /// A lease in S3.
    Lease(Lease),
    /// Nothing: this node is alone, and always active.
    Alone,
}

impl HaMode {
    /// The word for it in the configuration, and in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Lease(_) => "lease",
            Self::Alone => "none",
        }
    }

    /// The word for what this node moves, in metrics.
    pub fn steering(&self) -> &'static str {
        match self {
            Self::Lease(Lease { steering: Steering::Record(_), .. }) => "route53",
            Self::Lease(Lease { steering: Steering::Route(_), .. }) => "route",
            Self::Lease(_) | Self::Dns | Self::Alone => "none",
        }
    }
}

/// `[ha.lease]`, and what its holder moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The bucket of the lease object; its region is this node's.
    pub bucket: String,
    /// The key of the lease object.
    pub key: String,
    /// A dead holder is replaced after this long.
    pub ttl: Duration,
    /// How clients are moved to the holder.
    pub steering: Steering,
}

/// What moves clients to the active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steering {
    /// Nothing that ftpgate does.
    Nothing,
    /// A record in Route 53.
    Record(Record),
    /// Routes to an overlay IP.
    Route(Route),
}

/// `[ha.route53]`: a plain record that names the active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The hosted zone, such as `Z0123456789ABCDEFGHIJ`.
    pub zone_id: String,
    /// The record's name, which is `ha.name`.
    pub name: String,
    /// Its TTL.
    pub ttl: Duration,
    /// Where clients reach this node: A and AAAA records; at least one.
    pub addresses: Vec<IpAddr>,
}

/// `[ha.route]`: an address outside the VPC's CIDR block that is routed to the active node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The overlay IP.
    pub address: IpAddr,
    /// The route tables of all who use it, such as `rtb-0123456789abcdef0`; at least one.
    pub route_tables: Vec<String>,
    /// This node's network interface, such as `eni-0123456789abcdef0`; or nothing: the primary one,
    /// as the instance metadata service (IMDSv2) says.
    pub network_interface: Option<String>,
}

/// `[cloudwatch]`: what this node tells CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudWatch {
    /// The namespace of its metrics.
    pub namespace: String,
    /// The value of their dimension `LoadBalancer`.
    pub load_balancer: String,
    /// From one report to the next.
    pub interval: Duration,
}

/// `[admin]`: the socket of `ftpgate status`, `sessions`, `drain` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it is; who may open it may use it.
    pub socket: PathBuf,
    /// Where blocks are kept that shall survive a restart.
    pub state: PathBuf,
}
