//! What a node says of its pair, in `/readyz`, `/activez` and to an operator.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::lease::protocol::State;
use super::role::Role;
use super::{Pair, clock};
use crate::config::HaMode;

/// The role, and what it comes from. What is not configured is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// Its role.
    pub role: Role,
    /// Why.
    pub reason: String,
    /// The lease's generation, as this node saw it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// Whether what steers clients names this node, as it last saw or made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    steered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<Lease>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steering: Option<Steering>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Lease {
    /// Whether this node believes to hold it.
    held: bool,
    holder: Option<String>,
    state: Option<State>,
    /// Why S3 cannot be asked.
    trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Steering {
    /// What the record or the routes name, as far as this node has looked.
    target: Option<String>,
    trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Name {
    name: String,
    addresses: BTreeSet<IpAddr>,
    here: bool,
    trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Peer {
    address: SocketAddr,
    node: Option<String>,
    role: Option<Role>,
    ready: bool,
    trouble: Option<String>,
}

impl Pair {
    /// Whether this node or its pair is called so.
    pub fn is_called(&self, name: &str) -> bool {
        let own = [Some(&self.inner.node), self.inner.ha.name.as_ref()];
        own.into_iter().flatten().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// What is known now.
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        let decided = inner.role.borrow().clone();
        let mode = &inner.ha.mode;
        let (lease, steering) = (inner.lease.borrow().clone(), inner.steering.borrow().clone());
        let leased = matches!(mode, HaMode::Lease(_));
        let held = lease.is_held(clock::now());
        Status {
            node: inner.node.clone(),
            role: decided.role,
            reason: decided.reason,
            generation: leased.then(|| lease.generation()),
            steered: leased.then(|| held && steering.here == Some(true)),
            lease: leased.then(|| Lease {
                held,
                holder: lease.content.as_ref().map(|content| content.holder.clone()),
                state: lease.content.as_ref().map(|content| content.state),
                trouble: lease.trouble,
            }),
            steering: leased
                .then_some(Steering { target: steering.target, trouble: steering.trouble }),
            name: inner.ha.name.clone().map(|name| {
                let followed = inner.name.borrow().clone();
                Name {
                    name,
                    addresses: followed.addresses,
                    here: followed.here,
                    trouble: followed.trouble,
                }
            }),
            peer: inner.ha.peer.map(|address| {
                let peer = inner.peer.borrow();
                Peer {
                    address,
                    node: peer.node().map(str::to_owned),
                    role: peer.role(),
                    ready: peer.is_ready(),
                    trouble: peer.trouble.clone(),
                }
            }),
        }
    }
}
