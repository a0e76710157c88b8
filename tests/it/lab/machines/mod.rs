//! Two instances that install the package and are started by their own systemd, in the lab's two
//! VPCs: what an operator does by the manual, and that no client notices it.
//!
//! `systemd/build-packages` makes the packages and `tests/run` the instances' Debian.

mod launch;
mod machine;
mod rpm;
mod upgrade;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::cloudwatch::CloudWatch;
use super::follow::{HealthChecks, Resolver};
use super::http::request;
use super::network::{LabNetwork, Place};
use super::node::HTTP_PORT;
use super::s3::S3;
use super::stacks::Stacks;
use super::turn::Turn;
use super::{TTL, record};
use crate::harness::aws::Moto;
use crate::harness::eventually;
use crate::harness::ftp::Ftp;
use crate::harness::namespace::Network;
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::packages::{deb, version};
use launch::{hasten, launch};
use machine::Machine;
use upgrade::{UnderLoad, hand_over, looks_after, processes, refuse, restarted};

const CONFIGURATION: &str = "/etc/ftpgate/ftpgate.toml";
/// What keeps the service's AWS where the lab's is, and its watchdog short.
const DROP_IN: &str = "/etc/systemd/system/ftpgate.service.d/lab.conf";
const WATCHDOG: Duration = Duration::from_secs(4);
/// How long one transfer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Everything. Fields are dropped in this order.
struct Site {
    machines: [Machine; 2],
    client: Arc<Client>,
    endpoints: [Server; 2],
    _resolver: Resolver,
    _s3: S3,
    _moto: Moto,
    stacks: Stacks,
    _network: LabNetwork,
    directory: TempDir,
    _turn: Turn,
}

impl Site {
    /// Two instances on which nothing is installed yet.
    fn start() -> Self {
        let turn = Turn::take();
        let network = LabNetwork::new();
        let directory = TempDir::with_prefix("ftpgate-machines-").unwrap();
        let aws = network.host(Place::Aws);
        let moto = Moto::inside(aws);
        let s3 = S3::start(aws);
        let stacks = launch::create_stacks(aws, &s3);
        let root = directory.path().join("bucket");
        let endpoints = [Place::EndpointA, Place::EndpointC].map(|place| {
            let options = Server::options(Kind::ApacheFtpServer).inside(network.host(place));
            options.port(21).passive("8192-8200").root(&root).start()
        });
        let cloudwatch = CloudWatch::start(aws);
        let resolver = Resolver::start(aws, stacks.zone(), cloudwatch, HealthChecks::new());
        let client = Arc::new(Client::of_name(network.host(Place::Client), stacks.name()));
        let started = Instant::now();
        let machines =
            Place::GATEWAYS.map(|place| Machine::boot(network.host(place), directory.path()));
        record!("two machines booted in {:?}", started.elapsed());
        Self {
            machines,
            client,
            endpoints,
            _resolver: resolver,
            _s3: s3,
            _moto: moto,
            stacks,
            _network: network,
            directory,
            _turn: turn,
        }
    }

    fn machine(&mut self, place: Place) -> &mut Machine {
        &mut self.machines[usize::from(place == Place::GatewayC)]
    }

    /// Whether `/activez` or the like says 200 there.
    fn says(&self, place: Place, path: &str) -> bool {
        let to = SocketAddr::from((place.address(), HTTP_PORT));
        let ask = || request(to, "GET", path, &[], &[]);
        self.client.host.inside(ask).is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until both can serve and clients get to the one active node: which.
    fn wait_until_whole(&self) -> Place {
        eventually("two ready nodes, of which clients get to the active one", || {
            std::thread::sleep(super::PAUSE);
            let active = |place: &Place| self.says(*place, "/activez");
            let [active] = Place::GATEWAYS.into_iter().filter(active).collect::<Vec<_>>()[..]
            else {
                return None;
            };
            let ready = Place::GATEWAYS.into_iter().all(|place| self.says(place, "/readyz"));
            let name = self.stacks.name();
            let found = self.client.host.inside(|| super::client::look_up(name)).ok()?;
            (ready && found.0 == active.address()).then_some(active)
        })
    }

    /// Transfers until one is complete: how long after `fault` it was.
    fn first_transfer(&self, fault: Instant) -> Duration {
        eventually("a transfer after the fault", || {
            self.client.transfer_once(super::ATTEMPT).ok().map(|_| fault.elapsed())
        })
    }
}

#[test]
fn two_instances_install_start_fail_over_upgrade_and_purge_the_package() {
    let mut site = Site::start();
    // By hand what user data does by itself, or would do.
    install(site.machine(Place::GatewayC));
    for machine in &site.machines {
        launch(machine, &site.stacks.user_data);
        check(machine);
    }
    site.machines.iter().for_each(hasten);
    let active = site.wait_until_whole();
    the_sequence_of_the_manual(&site);
    what_systemd_does(&mut site, active);
    upgrade(&mut site);
    let left = lose(&mut site);
    activate(&mut site, left);
    purge(site.machine(left));
}

/// Nothing runs until there is a configuration.
fn install(machine: &Machine) {
    fs::copy(deb(1), machine.path("/srv/ftpgate-1.deb")).unwrap();
    let started = Instant::now();
    machine.ok("apt-get install --yes /srv/ftpgate-1.deb");
    record!("installed in {:?}", started.elapsed());
    assert_eq!(machine.property("UnitFileState"), "disabled");
    assert_eq!(machine.property("ActiveState"), "inactive");
    let check = machine.run("ftpgate check");
    assert_eq!(check.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&check.stderr).contains("upstream.endpoint"), "{check:?}");
    assert!(!machine.run("systemctl start ftpgate").status.success());
    assert_eq!(machine.property("ExecMainStatus"), "78");
    assert_eq!(machine.property("NRestarts"), "0", "a wrong file is not tried again");
}

/// It serves, as the first version, and not as root.
fn check(machine: &Machine) {
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("StatusText"), format!("serving, version {}", version(1)));
    let user = machine.ok("stat --format=%u /proc/$(systemctl show --value -p MainPID ftpgate)");
    assert_ne!(user, "0", "not root");
}

/// FACTS: login, `bin`, `put test.txt`, through each node by its own address and under the name.
fn the_sequence_of_the_manual(site: &Site) {
    let file = site.directory.path().join("test.txt");
    fs::write(&file, "from the private subnet\n").unwrap();
    for place in Place::GATEWAYS {
        let (host, stored) = (place.address(), format!("test-{}.txt", place.name()));
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--verbose", "--disable-epsv", "--upload-file"]);
        curl.arg(&file).arg(format!("ftp://alice:{PASSWORD}@{host}/{stored}"));
        let output = site.client.host.wrap(&curl).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let named =
            format!("227 Entering Passive Mode ({},32,", host.to_string().replace('.', ","));
        let replies = ["220 ", "331 ", "230 ", &named, "150 ", "226 "];
        let mut lines = said.lines().filter_map(|line| line.strip_prefix("< "));
        for reply in replies {
            assert!(lines.any(|line| line.starts_with(reply)), "no {reply}in its turn: {said}");
        }
        assert_eq!(site.endpoints[0].read(&stored), fs::read(&file).unwrap());
    }
    // And as the stacks tell what to type next.
    let next = site.stacks.output("gateway", "NextTransfer");
    let command = next.replace("--user alice ", &format!("--user alice:{PASSWORD} "));
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir(site.directory.path());
    let output = site.client.host.wrap(&shell).output().unwrap();
    assert!(output.status.success(), "{next}: {output:?}");
    assert_eq!(site.endpoints[0].read("test.txt"), fs::read(&file).unwrap());
}

/// The journal, reload by a good and a bad file, the watchdog, and a kill.
fn what_systemd_does(site: &mut Site, active: Place) {
    let machine = site.machine(active);
    let text = machine.ok(&format!("cat {CONFIGURATION}"));
    machine.ok("journalctl --sync");
    let entries = machine.ok("journalctl --output=json --unit=ftpgate FTPGATE_ACCEPTED=true");
    let entry: Value = serde_json::from_str(entries.lines().next().unwrap()).unwrap();
    let number = entry["FTPGATE_ID"].as_str().unwrap();
    let session = machine.ok(&format!("journalctl --output=cat FTPGATE_ID={number}"));
    assert!(session.lines().any(|line| line == "ended"), "{session}");
    let audit = machine.ok("cat /var/log/ftpgate/audit.log");
    assert!(audit.contains("\"STOR\""), "{audit}");

    machine.write(CONFIGURATION, &format!("{text}\n[limits]\nsessions = 500\n"));
    machine.ok("systemctl reload ftpgate");
    machine.write(CONFIGURATION, &format!("{text}\n[limits]\nsesions = 500\n"));
    assert!(!machine.run("systemctl reload ftpgate").status.success());
    assert!(machine.journal().contains("sesions"), "{}", machine.journal());
    assert_eq!(machine.property("ActiveState"), "active");
    machine.write(CONFIGURATION, &text);
    machine.ok("systemctl reload ftpgate");
    assert_eq!(machine.property("NRestarts"), "0");

    // One that hangs is replaced.
    let hung = machine.property("MainPID");
    machine.ok(&format!("kill -STOP {hung}"));
    let started = Instant::now();
    restarted(machine, 1);
    let took = started.elapsed();
    record!("a process that hangs is replaced after {took:?} (watchdog {WATCHDOG:?})");
    assert!(took > WATCHDOG / 2, "so soon it was not the watchdog: {took:?}");

    site.wait_until_whole();
    let machine = site.machine(active);
    let killed = Instant::now();
    machine.ok("systemctl kill --signal=KILL --kill-whom=main ftpgate");
    restarted(machine, 2);
    record!("a killed process is replaced after {:?}", killed.elapsed());
    record!("and clients are served again after {:?}", site.first_transfer(killed));
    site.wait_until_whole();
}

/// Both nodes get the second version while clients come and go; one session stays all the time.
fn upgrade(site: &mut Site) {
    let active = site.wait_until_whole();
    let mut under_load = UnderLoad::start(&site.client, active.address());
    for place in [active.other(), active] {
        let machine = site.machine(place);
        fs::copy(deb(2), machine.path("/srv/ftpgate-2.deb")).unwrap();
        under_load.go_on();
        if place != active {
            refuse(machine, "apt-get install --yes /srv/ftpgate-2.deb");
            under_load.go_on();
        }
        hand_over(machine, "apt-get install --yes --reinstall /srv/ftpgate-2.deb");
        let installed = machine.ok("dpkg-query --show --showformat='${Version}' ftpgate");
        assert_eq!(installed, version(2));
    }
    under_load.end(&site.endpoints[0]);
    assert_eq!(
        site.wait_until_whole(),
        active,
        "the lease goes to the next process, not to the peer"
    );
    looks_after(site.machine(active));
}

/// The active instance loses its power; its peer is left.
fn lose(site: &mut Site) -> Place {
    let active = site.wait_until_whole();
    let lost = Instant::now();
    site.machine(active).kill();
    let took = site.first_transfer(lost);
    record!("an instance without power: served again after {took:?}");
    assert!(took < TTL * 4, "{took:?}");
    assert!(site.says(active.other(), "/activez"));
    active.other()
}

/// With the socket unit the service starts when a client comes.
fn activate(site: &mut Site, place: Place) {
    let client = Arc::clone(&site.client);
    let machine = site.machine(place);
    machine.ok("systemctl stop ftpgate.service && systemctl start ftpgate.socket");
    assert_eq!(machine.property("ActiveState"), "inactive");
    client.host.inside(|| {
        let mut session = Ftp::connect(SocketAddr::from((place.address(), 21)));
        session.log_in_as("alice");
        session.upload("STOR activated.txt", b"activated").expect(&[226]);
        session.command("QUIT").expect(&[221]);
    });
    assert_eq!(machine.property("ActiveState"), "active");
}

/// Nothing stays but what the administrator made.
fn purge(machine: &Machine) {
    machine.ok("apt-get purge --yes ftpgate");
    assert_eq!(processes(machine), 0);
    machine.ok(&format!(
        "rm -r {} /var/tmp/ftpgate.deb && systemctl daemon-reload",
        Path::new(DROP_IN).parent().unwrap().display()
    ));
    let left = machine.ok(
        "find / -xdev -name '*ftpgate*' -not -path '/srv/*' -not -path '/proc/*' -not -path '/sys/*'; \
         find /run /etc -name '*ftpgate*'; getent passwd ftpgate || true",
    );
    assert_eq!(left, "", "left behind");
    assert_eq!(machine.property("LoadState"), "not-found");
}
