//! The role of this node, decided from what is known: no I/O, no clock.
//!
//! Both nodes can serve at any time; the role only says whether clients are, or shall be, sent here.

use serde::{Deserialize, Serialize};

/// What a node is in its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It does not know yet.
    #[default]
    Starting,
    /// The other one is active.
    Standby,
    /// Clients are, or shall be, sent here.
    Active,
    /// It finishes what it has and takes nothing new.
    Draining,
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Clients are accepted, and every endpoint has been looked at or one is healthy.
    pub(super) started: bool,
    /// This node has been told to stop, or to step aside.
    pub(super) leaving: Option<Leaving>,
    pub(super) claim: Claim,
}

/// Why a node takes nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Leaving {
    /// `ftpgate drain`.
    Drained,
    /// `ftpgate failover` where Route 53 decides.
    Withdrawn,
    /// SIGTERM.
    Stopping,
}

/// What makes a node active, by `ha.mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// `none`.
    Alone,
    /// `dns`: where the name points, if it was ever resolved.
    Name { name: String, here: Option<bool> },
    /// `lease`.
    Lease(Tenure),
}

/// How a node stands to the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tenure {
    /// It holds it.
    Held { generation: u64 },
    /// It wrote it last, but S3 cannot be asked, and nobody is known to have it since.
    Lapsed { generation: u64, why: String },
    /// The same, and the peer says that it has it since.
    Superseded,
    /// Another one holds it.
    Others { holder: String },
    /// It has been released, or is not there.
    Free,
    /// S3 has not told yet.
    Unknown { why: Option<String> },
}

impl Role {
    /// Its label in metrics and words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }

    /// Every role there is.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Standby, Self::Active, Self::Draining];
}

impl Facts {
    /// The role and the reason for it.
    pub(super) fn role(&self) -> (Role, String) {
        if let Some(leaving) = self.leaving {
            let why = match leaving {
                Leaving::Drained => "drained by hand; `ftpgate resume` ends that",
                Leaving::Withdrawn => "failed over by hand; `ftpgate resume` ends that",
                Leaving::Stopping => "stopping",
            };
            return (Role::Draining, why.into());
        }
        // Who holds the lease has the clients, whatever it knows.
        if !self.started && !matches!(self.claim, Claim::Lease(Tenure::Held { .. })) {
            return (Role::Starting, "no endpoint has been looked at yet".into());
        }
        match &self.claim {
            Claim::Alone => (Role::Active, "there is no other node".into()),
            Claim::Name { name, here: None } => {
                (Role::Starting, format!("{name} has not been resolved yet"))
            }
            Claim::Name { name, here: Some(true) } => {
                (Role::Active, format!("{name} names this node"))
            }
            Claim::Name { name, here: Some(false) } => {
                (Role::Standby, format!("{name} names another node"))
            }
            Claim::Lease(tenure) => tenure.role(),
        }
    }
}

impl Tenure {
    fn role(&self) -> (Role, String) {
        match self {
            Self::Held { generation } => {
                (Role::Active, format!("holds the lease, generation {generation}"))
            }
            Self::Lapsed { generation, why } => (
                Role::Active,
                format!(
                    "held the lease, generation {generation}, and nobody is known to have it since: {why}"
                ),
            ),
            Self::Superseded => (Role::Standby, "the peer says that it holds the lease".into()),
            Self::Others { holder } => (Role::Standby, format!("{holder} holds the lease")),
            Self::Free => (Role::Standby, "nobody holds the lease".into()),
            Self::Unknown { why: Some(why) } => {
                (Role::Starting, format!("the lease is not known yet: {why}"))
            }
            Self::Unknown { why: None } => (Role::Starting, "the lease is not known yet".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(tenure: Tenure) -> Facts {
        Facts { started: true, leaving: None, claim: Claim::Lease(tenure) }
    }

    fn name(here: Option<bool>) -> Facts {
        Facts { started: true, leaving: None, claim: Claim::Name { name: "gw".into(), here } }
    }

    #[test]
    fn each_claim_has_its_role_and_says_why() {
        let why = || "S3 does not answer in time".to_owned();
        for (facts, role, reason) in [
            (
                Facts { started: true, leaving: None, claim: Claim::Alone },
                Role::Active,
                "no other node",
            ),
            (name(None), Role::Starting, "not been resolved"),
            (name(Some(true)), Role::Active, "gw names this node"),
            (name(Some(false)), Role::Standby, "gw names another node"),
            (lease(Tenure::Held { generation: 3 }), Role::Active, "generation 3"),
            (
                lease(Tenure::Lapsed { generation: 3, why: why() }),
                Role::Active,
                "S3 does not answer in time",
            ),
            (lease(Tenure::Superseded), Role::Standby, "the peer says"),
            (lease(Tenure::Others { holder: "b".into() }), Role::Standby, "b holds"),
            (lease(Tenure::Free), Role::Standby, "nobody holds"),
            (lease(Tenure::Unknown { why: None }), Role::Starting, "not known yet"),
            (lease(Tenure::Unknown { why: Some(why()) }), Role::Starting, "does not answer"),
        ] {
            let (found, text) = facts.role();
            assert_eq!(found, role, "{facts:?}");
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn a_node_that_leaves_is_draining_whatever_it_holds() {
        for leaving in [Leaving::Drained, Leaving::Stopping, Leaving::Withdrawn] {
            let held = lease(Tenure::Held { generation: 1 });
            let facts = Facts { leaving: Some(leaving), ..held };
            assert_eq!(facts.role().0, Role::Draining);
        }
    }

    #[test]
    fn a_node_that_has_not_looked_at_its_endpoints_is_starting_unless_it_holds_the_lease() {
        let early = |claim| Facts { started: false, leaving: None, claim };
        assert_eq!(early(Claim::Alone).role().0, Role::Starting);
        assert_eq!(early(Claim::Lease(Tenure::Free)).role().0, Role::Starting);
        let held = Tenure::Held { generation: 1 };
        assert_eq!(early(Claim::Lease(held)).role().0, Role::Active);
    }
}
