//! Who may write to the lease's bucket can say who is active; no client is served the worse for it.

use std::fs;

use tempfile::TempDir;

use super::case::LITTLE;
use crate::harness::aws::{S3, nobody};
use crate::harness::canned::{CONTENT, CannedServer};
use crate::harness::eventually;
use crate::harness::ftp::Ftp;
use crate::harness::gateway::Gateway;

#[test]
fn a_forged_lease_changes_the_role_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let s3 = S3::start(directory.path());
    let lease = directory.path().join("lease.json");
    // Not in the midst of being read.
    let forge = |content: &[u8]| {
        let new = directory.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, &lease).unwrap();
    };
    forge(
        br#"{"generation":18446744073709551615,"holder":"evil\u001b[2J\n","state":"held","nonce":"x.0"}"#,
    );
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address)
        .set("ha", &format!("mode = \"lease\"\npeer = \"{}\"", nobody()))
        .set(
            "ha.lease",
            &format!("bucket = \"{}\"\nkey = \"lease.json\"\nttl = \"10s\"", s3.bucket),
        )
        .set("log", "level = \"info\"")
        .in_aws()
        .env("AWS_ENDPOINT_URL_S3", format!("http://{}", s3.address))
        .start();
    let is_served = || {
        let mut client = Ftp::connect(gateway.address);
        client.log_in_as("anyone");
        let (content, reply) = client.download("RETR f");
        assert_eq!((content.as_slice(), reply.code), (CONTENT, 226));
    };
    eventually("the forged lease to be believed", || {
        let (status, answer) = gateway.get("/activez");
        (status == 503 && answer.contains("evil")).then_some(())
    });
    assert_eq!(gateway.get("/readyz").0, 200);
    is_served();
    let before = gateway.resident_kib();
    gateway.forget_peak();
    forge(&[b'x'; 64 << 10].repeat(128));
    gateway.logs("the object is no lease");
    is_served();
    let peak = gateway.peak_kib() - before;
    assert!(peak < LITTLE, "{peak} KiB");
    assert!(gateway.log().lines().all(|line| !line.contains(crate::operate::SPECIAL)));
}
