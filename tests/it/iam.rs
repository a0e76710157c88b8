//! The documents in `config/iam` allow what is asked of AWS, and nothing else: whoever calls has
//! those permissions only, and in the end each of them has been of use.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::aws::{Moto, REGION, S3, directories, nobody};
use crate::harness::ftp::Ftp;
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::iam::Guard;
use crate::harness::servers::{Kind, PASSWORD, Server};
use crate::harness::vpc::between;
use crate::harness::{PATIENCE, eventually};

const NAME: &str = "gw.ftp.example.internal";

/// A gateway that never gets to its endpoint, one of a pair, with AWS behind that guard.
fn pair(guard: &Guard, mode: &str) -> GatewayOptions<'static> {
    let peer = SocketAddr::new(nobody().ip(), 9121);
    Gateway::to_address(nobody())
        .set("ha", &format!("mode = \"{mode}\"\npeer = \"{peer}\"\nname = \"{NAME}\""))
        .in_aws()
        .env("AWS_ENDPOINT_URL", format!("http://{}", guard.address))
}

/// Waits until every permission was of use, and asserts that no other was asked for.
#[track_caller]
fn all_is_used_and_nothing_denied(guard: &Guard) {
    let started = Instant::now();
    while guard.used() != guard.allowed()
        && guard.denied().is_empty()
        && started.elapsed() < PATIENCE
    {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(guard.denied(), [].into());
    assert_eq!(guard.used(), guard.allowed());
}

#[test]
fn a_lease_and_a_record_take_what_their_documents_have() {
    let moto = Moto::start();
    moto.create_bucket("my-gateways");
    let zone = moto.create_zone("ftp.example.internal");
    let values = [("lease_bucket", "my-gateways"), ("zone_id", &*zone), ("name", NAME)];
    let address = moto.address;
    let guard = Guard::start(&["lease", "route53"], &values, move |_| address);
    let gateway = pair(&guard, "lease")
        .set("ha.lease", "bucket = \"my-gateways\"")
        .set("ha.route53", &format!("zone_id = \"{zone}\"\naddresses = [\"10.2.1.10\"]"))
        .start();
    all_is_used_and_nothing_denied(&guard);
    gateway.logs("10.2.1.10");
}

#[test]
fn a_lease_and_a_route_take_what_their_documents_have() {
    let moto = Moto::start();
    moto.create_bucket("my-gateways");
    let (vpc, subnets) = moto.create_vpc();
    let [other, own] = subnets.map(|subnet| moto.create_interface(&subnet));
    let table = moto.ec2("CreateRouteTable", &[("VpcId", &vpc)]);
    let table = between(&table, "<routeTableId>", "</routeTableId>");
    let overlay = [
        ("RouteTableId", &*table),
        ("DestinationCidrBlock", "10.99.0.1/32"),
        ("NetworkInterfaceId", &other),
    ];
    moto.ec2("CreateRoute", &overlay);
    let values = [("lease_bucket", "my-gateways"), ("route_table", &*table)];
    let address = moto.address;
    let guard = Guard::start(&["lease", "route"], &values, move |_| address);
    let _gateway = pair(&guard, "lease")
        .set("ha.lease", "bucket = \"my-gateways\"")
        .set("ha.route", &format!("address = \"10.99.0.1\"\nroute_tables = [\"{table}\"]"))
        .set("ha.route", &format!("network_interface = \"{own}\""))
        .start();
    all_is_used_and_nothing_denied(&guard);
    eventually("the route to lead to the gateway", || {
        let routes = moto.ec2("DescribeRouteTables", &[("RouteTableId.1", &table)]);
        routes.contains(&own).then_some(())
    });
}

#[test]
fn failover_by_route_53_takes_metrics_only() {
    let moto = Moto::start();
    let address = moto.address;
    let guard = Guard::start(&["cloudwatch"], &[("namespace", "ftpgate")], move |_| address);
    let _gateway = pair(&guard, "dns").set("cloudwatch", "load_balancer = \"ftp\"").start();
    all_is_used_and_nothing_denied(&guard);
    let other = Guard::start(&["cloudwatch"], &[("namespace", "another")], move |_| address);
    let gateway = pair(&other, "dns").set("cloudwatch", "load_balancer = \"ftp\"").start();
    gateway.logs("CloudWatch answers AccessDenied");
    assert_eq!(other.denied().len(), 1, "{:?}", other.denied());
}

#[test]
fn a_round_trip_takes_what_its_documents_have() {
    let base = tempfile::tempdir().unwrap();
    let (bucket, home) = directories(&base, "bucket");
    let server = Server::options(Kind::ApacheFtpServer).root(&home).start();
    let (s3, moto) = (S3::start(&bucket), Moto::start());
    let secret = "aws/transfer/s-0123456789abcdef0/ftpgate-probe";
    moto.put_secret(secret, &format!("{{\"Password\": \"{PASSWORD}\"}}"));
    let values = [("bucket", &*s3.bucket), ("prefix", "home/probe/"), ("secret", secret)];
    let (files, others) = (s3.address, moto.address);
    let behind = move |service: &str| if service == "s3" { files } else { others };
    let guard = Guard::start(&["probe-bucket", "probe-secret"], &values, behind);
    let gateway = Gateway::probing(server.address, "round-trip")
        .set("probe", &format!("bucket = \"{}\"\nprefix = \"home/probe/\"", s3.bucket))
        .set("probe.password", &format!("secret = \"{secret}\""))
        .in_aws()
        .env("AWS_ENDPOINT_URL", format!("http://{}", guard.address))
        .start();
    gateway.until_healthy(server.address);
    all_is_used_and_nothing_denied(&guard);
}

#[test]
fn an_archive_and_verification_take_what_their_documents_have() {
    let base = tempfile::tempdir().unwrap();
    let (bucket, home) = directories(&base, "bucket");
    let server = Server::options(Kind::ApacheFtpServer).root(&home).start();
    let s3 = S3::start(&bucket);
    let values = [
        ("audit_bucket", &*s3.bucket),
        ("audit_prefix", "trail/"),
        ("verify_bucket", &*s3.bucket),
        ("verify_prefix", "home/"),
    ];
    let files = s3.address;
    let guard = Guard::start(&["audit-archive", "verify"], &values, move |_| files);
    let spool = base.path().join("spool");
    let archive = format!(
        "bucket = \"{}\"\nprefix = \"trail/\"\ninterval = \"100ms\"\nspool = {spool:?}",
        s3.bucket
    );
    let directory = format!(
        "home = \"/\"\nwait = \"500ms\"\n[[verify.directory]]\npath = \"/\"\nbucket = \"{}\"\nprefix = \"home/probe/\"",
        s3.bucket
    );
    let gateway = Gateway::to(&server)
        .set("audit.archive", &archive)
        .set("verify", &directory)
        .in_aws()
        .env("AWS_ENDPOINT_URL", format!("http://{}", guard.address))
        .start();
    let mut client = Ftp::login(gateway.address, &server);
    client.upload("STOR here", b"ten bytes.").expect(&[226]);
    let result =
        |result| gateway.metric(&format!("ftpgate_uploads_verified_total{{result=\"{result}\"}}"));
    eventually("an upload that is seen", || (result("ok") == 1.0).then_some(()));
    // What is not there is what takes the permission to list.
    let (elsewhere, _) = directories(&base, "elsewhere");
    s3.serve(&elsewhere);
    client.upload("STOR gone", b"ten bytes.").expect(&[226]);
    eventually("an upload that is missed", || (result("missing") == 1.0).then_some(()));
    all_is_used_and_nothing_denied(&guard);
}

#[test]
fn init_takes_what_its_document_has() {
    let moto = Moto::start();
    let (server, _) = moto.create_server(&["FTP"], true);
    let address = moto.address;
    let guard = Guard::start(&["init"], &[("server", &*server)], move |_| address);
    let output = Command::new(env!("CARGO_BIN_EXE_ftpgate"))
        .args(["init", "--transfer-server", &server, "--output", "-"])
        .env("AWS_ENDPOINT_URL", format!("http://{}", guard.address))
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "of-the-tests")
        .env("AWS_SECRET_ACCESS_KEY", "of-the-tests")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    all_is_used_and_nothing_denied(&guard);
}

#[test]
fn every_document_is_tried_here() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/config/iam");
    let names = crate::harness::aws::names(directory.as_ref());
    let tried = include_str!("iam.rs");
    let guarded: Vec<&str> = tried
        .split("Guard::start(&[")
        .skip(1)
        .flat_map(|rest| rest.split(']').next().unwrap().split(','))
        .map(|name| name.trim().trim_matches('"'))
        .collect();
    for name in names {
        let stem = name.strip_suffix(".json").unwrap();
        assert!(guarded.contains(&stem), "{name} is not among {guarded:?}");
    }
}
