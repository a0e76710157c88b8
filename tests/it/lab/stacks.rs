//! The stacks of config/cloudformation, made in a lab's moto: what they are and tell is what the lab
//! goes by. `tests/cloudformation/lab.py` makes them.

use std::collections::HashMap;
use std::process::Command;

use serde::Deserialize;

use super::follow::HealthChecks;
use super::moto::PORT;
use super::network::{Host, Place};
use super::{Mode, TTL};
use crate::harness::namespace::Network as _;
use crate::harness::stand_in;

/// All of them.
#[derive(Debug, Deserialize)]
pub(super) struct Stacks {
    /// By stack and name.
    outputs: HashMap<String, HashMap<String, String>>,
    /// The IDs of resources by stack and name; some have none there.
    made: HashMap<String, HashMap<String, Option<String>>>,
    /// What each health check follows.
    pub(super) alarms: HealthChecks,
    /// Bucket and key of the one object that the gateways may write, if there is a lease.
    pub(super) lease: Option<(String, String)>,
    /// What an instance runs when it is first started.
    pub(super) user_data: String,
}

impl Stacks {
    /// Makes them in the moto of that host, with parameters, each of them "NAME=VALUE".
    pub(super) fn create(aws: &Host, mode: Mode, parameters: &[&str]) -> Self {
        let mode = match mode {
            Mode::Dns => "dns",
            Mode::LeaseRecord => "lease-record",
            Mode::LeaseOverlay => "lease-route",
        };
        let mut command = Command::new(stand_in("moto/bin/python"));
        command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloudformation/lab.py")]);
        command.arg(format!("http://{}:{PORT}", aws.address())).arg(mode);
        command.arg(TTL.as_secs().to_string()).args(parameters);
        let output = aws.wrap(&command).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaints}");
        let stacks: Self = serde_json::from_slice(&output.stdout).unwrap();
        for (place, address) in Place::GATEWAYS.into_iter().zip(["AddressA", "AddressC"]) {
            assert_eq!(stacks.output("gateway", address), place.address().to_string());
        }
        stacks
    }

    /// An output of a stack.
    #[track_caller]
    pub(super) fn output(&self, stack: &str, name: &str) -> &str {
        let output = self.outputs.get(stack).and_then(|outputs| outputs.get(name));
        output.unwrap_or_else(|| panic!("no output {name} of {stack}: {:?}", self.outputs))
    }

    /// The ID of a resource of a stack.
    #[track_caller]
    pub(super) fn resource(&self, stack: &str, name: &str) -> &str {
        let made = self.made.get(stack).and_then(|made| made.get(name)?.as_deref());
        made.unwrap_or_else(|| panic!("no resource {name} in {stack}: {:?}", self.made))
    }

    /// What the file that an instance writes has in that table.
    #[track_caller]
    pub(super) fn table(&self, name: &str) -> &str {
        let table = self.user_data.split(&format!("\n[{name}]\n")).nth(1);
        let end = |table: &str| table.find("\n\n").or_else(|| table.find("\nEND")).unwrap();
        table.map(|table| &table[..=end(table)]).unwrap_or_else(|| panic!("{}", self.user_data))
    }

    /// The private hosted zone.
    pub(super) fn zone(&self) -> &str {
        self.output("network", "HostedZone")
    }

    /// The name that clients use.
    pub(super) fn name(&self) -> &str {
        self.output("gateway", "RecordName")
    }
}
