//! The .rpm, from its installation to its removal, with systemd and rpm as they are; what is not there
//! is Amazon Linux and its dependencies, hence --nodeps.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;

use super::machine::Machine;
use super::upgrade::{UnderLoad, hand_over, looks_after, processes, refuse};
use super::{CONFIGURATION, LIMIT};
use crate::harness::servers::{Kind, Server};
use crate::lab::client::Client;
use crate::lab::network::{LabNetwork, Place};
use crate::lab::turn::Turn;
use crate::packages::{rpm, version};

/// Debian's rpm wants to be told that this is meant.
const RPM: &str = "rpm --nodeps --force-debian";

#[test]
fn an_instance_installs_starts_upgrades_and_erases_the_rpm() {
    let _turn = Turn::take();
    let network = LabNetwork::new();
    let directory = TempDir::with_prefix("ftpgate-machines-").unwrap();
    let endpoint = Server::options(Kind::ApacheFtpServer).inside(network.host(Place::EndpointA));
    let root = directory.path().join("bucket");
    let endpoint = endpoint.port(21).passive("8192-8200").root(&root).start();
    let machine = Machine::boot(network.host(Place::GatewayA), directory.path());
    let gateway = machine.host.place.address();
    let client = Arc::new(Client::of_address(network.host(Place::Client), gateway));
    for revision in [1, 2] {
        fs::copy(rpm(revision), machine.path(&format!("/srv/ftpgate-{revision}.rpm"))).unwrap();
    }
    install(&machine);
    client.transfer_once(LIMIT).unwrap();
    upgrade(&machine, &client, &endpoint);
    client.transfer_once(LIMIT).unwrap();
    erase(&machine);
}

/// Nothing runs until there is a configuration, and somebody starts it.
fn install(machine: &Machine) {
    machine.ok(&format!("{RPM} --install /srv/ftpgate-1.rpm"));
    assert_eq!(machine.ok("rpm --verify --nodeps ftpgate"), "", "differs from what was packed");
    assert_eq!(machine.property("UnitFileState"), "disabled");
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(machine.run("ftpgate check").status.code(), Some(78));
    let endpoint = Place::EndpointA.address();
    let given = machine.ok(&format!("cat {CONFIGURATION}"));
    let endpoint = format!("[[upstream.endpoint]]\naddress = \"{endpoint}:21\"\n");
    machine.write(CONFIGURATION, &format!("{given}\n\n{endpoint}"));
    machine.ok("ftpgate check && systemctl enable --quiet --now ftpgate");
    assert_eq!(machine.property("StatusText"), format!("serving, version {}", version(1)));
}

/// As that of the .deb.
fn upgrade(machine: &Machine, client: &Arc<Client>, endpoint: &Server) {
    let edited = machine.ok(&format!("cat {CONFIGURATION}"));
    let mut under_load = UnderLoad::start(client, machine.host.place.address());
    under_load.go_on();
    refuse(machine, &format!("{RPM} --upgrade /srv/ftpgate-2.rpm"));
    under_load.go_on();
    hand_over(machine, &format!("{RPM} --upgrade --replacepkgs /srv/ftpgate-2.rpm"));
    under_load.end(endpoint);
    assert_eq!(machine.ok("rpm --query ftpgate --queryformat '%{VERSION}-%{RELEASE}'"), version(2));
    assert_eq!(machine.ok(&format!("cat {CONFIGURATION}")), edited);
    assert_eq!(machine.property("UnitFileState"), "enabled");
    looks_after(machine);
}

/// What stays is what was edited, which rpm says, and what the service has written.
fn erase(machine: &Machine) {
    let said = machine.ok(&format!("{RPM} --erase ftpgate 2>&1"));
    assert_eq!(said, format!("warning: {CONFIGURATION} saved as {CONFIGURATION}.rpmsave"));
    assert_eq!(processes(machine), 0);
    assert_eq!(machine.property("LoadState"), "not-found");
    let left = machine.ok(
        "find / -xdev -name '*ftpgate*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/sys/*' | sort; \
         find /run -name '*ftpgate*'; getent passwd ftpgate || true",
    );
    let expected = [
        "/etc/ftpgate",
        "/etc/ftpgate/ftpgate.toml.rpmsave",
        "/var/lib/ftpgate",
        "/var/lib/private/ftpgate",
        "/var/log/ftpgate",
        "/var/log/private/ftpgate",
    ];
    assert_eq!(left.lines().collect::<Vec<_>>(), expected);
}
