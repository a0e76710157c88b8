//! How an instance of the stacks comes to its service: user data, which asks the metadata service who
//! it is and has the package from S3.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::machine::Machine;
use super::{CONFIGURATION, DROP_IN, WATCHDOG};
use crate::harness::aws::Imds;
use crate::lab::network::{Host, Place};
use crate::lab::node::environment;
use crate::lab::s3::{self, S3};
use crate::lab::stacks::Stacks;
use crate::lab::{Mode, TTL, record};
use crate::packages::deb;

/// Where instances ask who they are.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where the stacks have the package from.
const PACKAGE: &str = "/my-packages/ftpgate.deb";
/// The AWS CLI as far as user data calls it. The image would have it.
const AWS_CLI: &str = r#"#!/bin/sh
[ "$1 $2 $3 $5" = "s3 cp --region --only-show-errors" ] || exit 2
exec curl --fail --silent --show-error --output "$7" "http://$S3/${6#s3://}"
"#;

/// Makes the stacks, whose package and whose lease are then in `s3`.
pub(super) fn create_stacks(aws: &Host, s3: &S3) -> Stacks {
    let package = fs::read(deb(1)).unwrap();
    let hash: String = Sha256::digest(&package).iter().map(|byte| format!("{byte:02x}")).collect();
    let parameters = [format!("PackageUrl=s3:/{PACKAGE}"), format!("PackageSha256={hash}")];
    let started = Instant::now();
    let stacks = Stacks::create(aws, Mode::LeaseRecord, &parameters.each_ref().map(|each| &**each));
    record!("the stacks made in {:?}", started.elapsed());
    s3.put(PACKAGE, package);
    let (bucket, key) = stacks.lease.as_ref().expect("it is a pair with a lease");
    assert_eq!(bucket, stacks.resource("gateway", "LeaseBucket"));
    s3.permit(bucket, key);
    stacks
}

/// Starts an instance for the first time: who and where it is, and its role, it learns as in AWS; only
/// where AWS is is told.
pub(super) fn launch(machine: &Machine, user_data: &str) {
    let host = &machine.host;
    host.run(&["ip", "address", "add", &format!("{METADATA}/32"), "dev", "lo"]);
    let listener = host.inside(|| TcpListener::bind((METADATA, 80)).unwrap());
    Imds::serve(listener, host.place.zone(), host.place.address());
    let aws = Place::Aws.address();
    machine.write("/etc/resolv.conf", &format!("nameserver {aws}\n"));
    let cli = "/usr/local/bin/aws";
    machine.write(cli, &AWS_CLI.replace("$S3", &format!("{aws}:{}", s3::PORT)));
    fs::set_permissions(machine.path(cli), fs::Permissions::from_mode(0o755)).unwrap();
    let endpoints = environment().into_iter().filter(|(name, _)| name.starts_with("AWS_ENDPOINT"));
    let endpoints: String =
        endpoints.map(|(name, value)| format!("Environment=\"{name}={value}\"\n")).collect();
    let watchdog = WATCHDOG.as_secs();
    machine.write(DROP_IN, &format!("[Service]\n{endpoints}WatchdogSec={watchdog}\n"));
    machine.write("/srv/user-data", user_data);
    let started = Instant::now();
    let told = machine.ok("bash /srv/user-data");
    record!("user data installed, configured and started it in {:?}", started.elapsed());
    assert!(told.contains("ftpgate.toml: ok"), "{told}");
    assert_eq!(machine.property("UnitFileState"), "enabled");
}

/// Changes the file as an operator would who wants to lose less time, and a file for the audit log.
pub(super) fn hasten(machine: &Machine) {
    let mut text = machine.ok(&format!("cat {CONFIGURATION}"));
    let ttl = format!("ttl = \"{TTL:?}\"\n");
    let upstream =
        "connect_timeout = \"500ms\"\nlost_after = \"2s\"\nretry_after = \"1s\"\n".to_owned();
    for (table, keys) in [("ha.lease", &ttl), ("ha.route53", &ttl), ("upstream", &upstream)] {
        let head = format!("[{table}]\n");
        assert!(text.contains(&head), "no {head}in {text}");
        text = text.replace(&head, &format!("{head}{keys}"));
    }
    text = text.replace("path = \"-\"", "path = \"/var/log/ftpgate/audit.log\"");
    text += "\n\n[probe]\ninterval = \"1s\"\ntimeout = \"500ms\"\n";
    machine.write(CONFIGURATION, &text);
    machine.ok("ftpgate check && systemctl restart ftpgate");
}
