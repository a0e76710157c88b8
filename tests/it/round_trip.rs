//! Probes by round trip: through FTP into the bucket and away, and nothing of them stays behind.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::harness::aws::{Moto, REGION, S3, SECRET_KEY, directories, names, nobody};
use crate::harness::eventually;
use crate::harness::gateway::GatewayOptions;
use crate::harness::probes::{RoundTrip, STAGES};
use crate::harness::scripted::mute;
use crate::harness::servers::{Kind, Server};

/// Waits until every file that is there now is gone; there may always be new ones.
fn all_go(directory: &Path) {
    let there = names(directory);
    eventually("every canary to be deleted", || {
        let now = names(directory);
        (!there.iter().any(|name| now.contains(name))).then_some(())
    });
}

#[test]
fn a_round_trip_goes_through_ftp_into_the_bucket_and_leaves_nothing() {
    let there = RoundTrip::start();
    let second = Server::options(Kind::ApacheFtpServer).root(&there.home).start();
    let gateway = there.gateway().in_aws().or_to(&second).start();
    for server in [&there.server, &second] {
        assert_eq!(gateway.until_healthy(server.address), STAGES);
    }
    all_go(&there.home);

    // 226, and nothing comes to the bucket any more.
    let (elsewhere, elsewhere_home) = directories(&there.base, "elsewhere");
    there.s3.serve(&elsewhere);
    for server in [&there.server, &second] {
        gateway
            .until_unhealthy(server.address, "arrive: it did not come to s3://payroll/home/probe/");
    }
    let (status, ready) = gateway.get("/readyz");
    assert_eq!(status, 503, "{ready}");
    all_go(&there.home);

    there.s3.serve(&there.bucket);
    for server in [&there.server, &second] {
        gateway.until_healthy(server.address);
    }
    all_go(&there.home);
    assert_eq!(names(&elsewhere_home), [""; 0]);
    assert!(!gateway.log().contains(SECRET_KEY), "{}", gateway.log());
}

#[test]
fn what_is_wrong_with_the_bucket_is_named() {
    let there = RoundTrip::start();
    let case = |reason: &str, options: GatewayOptions<'static>| {
        let gateway = options.start();
        gateway.until_unhealthy(there.server.address, reason);
        all_go(&there.home);
        assert!(!gateway.log().contains(SECRET_KEY), "{}", gateway.log());
    };
    let in_aws = || there.gateway().in_aws();
    let s3_at =
        |address: SocketAddr| in_aws().env("AWS_ENDPOINT_URL_S3", format!("http://{address}"));
    case("arrive: bucket payroll: S3 cannot be asked: Connection refused", s3_at(nobody()));
    case("arrive: S3 did not answer within 1s", s3_at(mute()));
    let other = "home/probe/other/";
    case(
        "arrive: it did not come to s3://payroll/home/probe/other/ within 1s of its 226",
        there.gateway_for(&there.s3.bucket, other).in_aws(),
    );
    let moto = Moto::start();
    case("arrive: bucket payroll: S3 answers NoSuchBucket: see probe.bucket", s3_at(moto.address));
    // S3 denies what is not there to a role that may list canaries only.
    there.s3.deny(&["GetObject"]);
    case(
        "arrive: it did not come to s3://payroll/home/probe/other/ within 1s of its 226",
        there.gateway_for(&there.s3.bucket, other).in_aws(),
    );
    there.s3.deny(&["GetObject", "ListObjectsV2"]);
    case("arrive: bucket payroll: S3 answers AccessDenied: allow s3:GetObject", in_aws());
    there.s3.deny(&["GetObject"]);
    case("arrive: bucket payroll: S3 answers AccessDenied: allow s3:GetObject", in_aws());
    there.s3.deny(&["DeleteObject"]);
    case("delete: bucket payroll: S3 answers AccessDenied: allow s3:DeleteObject", in_aws());
    there.s3.deny(&[]);
    case(
        "arrive: bucket payroll: S3 answers SignatureDoesNotMatch",
        in_aws().env("AWS_SECRET_ACCESS_KEY", "another"),
    );
    case(
        "arrive: bucket payroll: S3 cannot be asked: no credentials found in chain.",
        there.gateway().without_credentials().env("AWS_REGION", REGION),
    );
    case(
        "arrive: bucket payroll: no AWS region is known: set AWS_REGION",
        there.gateway().without_region(),
    );
}

#[test]
fn a_canary_that_is_changed_on_its_way_is_noticed() {
    let there = RoundTrip::start();
    let (changed, changed_home) = directories(&there.base, "changed");
    there.s3.serve(&changed);
    let gateway = there.gateway().in_aws().start();
    // Whatever comes to the one directory comes to the other as a conversion of line ends leaves it.
    let changing = Arc::new(AtomicBool::new(true));
    let (home, active) = (there.home.clone(), Arc::clone(&changing));
    let copier = thread::spawn(move || {
        let mut copied = HashSet::new();
        while active.load(Ordering::Relaxed) {
            for name in names(&home) {
                let content = fs::read(home.join(&name)).unwrap_or_default();
                if content.len() > 500 && copied.insert(name.clone()) {
                    let content: Vec<u8> =
                        content.into_iter().filter(|&byte| byte != b'\r').collect();
                    let part = changed_home.join("part");
                    fs::write(&part, content).unwrap();
                    fs::rename(part, changed_home.join(name)).unwrap();
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        changed_home
    });
    gateway.until_unhealthy(
        there.server.address,
        "compare: what arrived differs from what was sent, from byte ",
    );
    drop(gateway);
    changing.store(false, Ordering::Relaxed);
    drop(copier.join().unwrap());
}

#[test]
fn canaries_of_earlier_processes_are_swept_and_no_others() {
    let there = RoundTrip::start();
    let old = |name: &str| {
        let path = there.home.join(name);
        fs::write(&path, "x").unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    };
    let swept: Vec<String> = (0..10)
        .map(|number| format!(".ftpgate-probe-node-a-0123456789abcdef{number:08x}"))
        .collect();
    swept.iter().for_each(|name| old(name));
    let kept = [
        ".ftpgate-probe-node-a-0123456789abcdef",
        ".ftpgate-probe-node-a-2-0123456789abcdef00000000",
        ".ftpgate-probe-node-a-notes from the partner.txt",
        ".ftpgate-probe-node-b-0123456789abcdef00000000",
        "payroll.csv",
    ];
    kept.iter().for_each(|name| old(name));
    // Of another process of this node, which may still wait for it.
    let young = ".ftpgate-probe-node-a-fedcba987654321000000000";
    fs::write(there.home.join(young), "x").unwrap();
    let gateway = there.gateway().in_aws().start();
    gateway.wait_for_probes(there.server.address, "ok", 3);
    let left = names(&there.home);
    assert!(!left.iter().any(|name| swept.contains(name)), "{left:?}");
    for name in kept.iter().chain([&young]) {
        assert!(left.iter().any(|left| left == name), "{name} is gone: {left:?}");
    }
    let log = gateway.log();
    assert_eq!(log.matches("deleted canaries that earlier probes had left count=10").count(), 1);
}

#[test]
fn a_server_that_takes_no_file_is_told_from_one_that_loses_it() {
    let base = TempDir::new().unwrap();
    let (bucket, home) = directories(&base, "bucket");
    let server = Server::options(Kind::ApacheFtpServer).root(&home).read_only().start();
    let there = RoundTrip { base, s3: S3::start(&bucket), bucket, home, server };
    let gateway = there.gateway().in_aws().start();
    gateway.until_unhealthy(there.server.address, "store: 550 ");
}
