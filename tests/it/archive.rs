//! The audit log's archive in S3: every line arrives once, whatever fails on the way.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::aws::{Fault, S3};
use crate::harness::canned::CannedServer;
use crate::harness::ftp::{Ftp, finish};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::{bytes, eventually};

/// A server that stores nothing, and the bucket of the archive.
struct Scene {
    base: TempDir,
    server: CannedServer,
    s3: S3,
}

impl Scene {
    fn start() -> Self {
        let base = TempDir::with_prefix("ftpgate-archive-").unwrap();
        fs::create_dir(base.path().join("bucket")).unwrap();
        let s3 = S3::start(&base.path().join("bucket"));
        Self { base, server: CannedServer::script().start(), s3 }
    }

    /// A gateway that archives there, with more lines of `[audit.archive]`.
    fn gateway(&self, lines: &str) -> GatewayOptions<'static> {
        let (bucket, spool) = (&self.s3.bucket, self.spool());
        Gateway::to_address(self.server.address)
            .set("node", "name = \"gateway-a\"")
            .set("audit.archive", &format!("bucket = \"{bucket}\"\nspool = {spool:?}\n{lines}"))
            .in_aws()
            .env("AWS_ENDPOINT_URL_S3", format!("http://{}", self.s3.address))
    }

    fn spool(&self) -> PathBuf {
        self.base.path().join("spool")
    }

    /// Every object of the archive by its key, in order.
    fn objects(&self) -> Vec<(String, String)> {
        let bucket = self.base.path().join("bucket");
        let mut objects = Vec::new();
        gather(&bucket, &mut |path| {
            let key = path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned();
            objects.push((key, fs::read_to_string(path).unwrap()));
        });
        objects.sort();
        objects
    }

    /// All lines of the archive, as they are.
    fn archived(&self) -> String {
        self.objects().into_iter().map(|(_, lines)| lines).collect()
    }

    /// Waits until the archive has what the audit log has, and the spool nothing.
    fn until_all_is_archived(&self, audit: impl Fn() -> String) {
        eventually("the archive to have all", || (self.archived() == audit()).then_some(()));
        eventually("the spool to be empty", || {
            fs::read_dir(self.spool()).unwrap().next().is_none().then_some(())
        });
    }
}

fn gather(directory: &Path, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => gather(&path, found),
            path => found(&path),
        }
    }
}

fn client(gateway: &Gateway) -> Ftp {
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("ann");
    client
}

/// Transfers with these numbers in their names, whose lines are in the audit log and in the spool.
fn transfer(client: &mut Ftp, numbers: std::ops::Range<u32>) {
    for number in numbers {
        client.upload(&format!("STOR file-{number}"), &bytes(1, 1000)).expect(&[226]);
    }
}

/// Waits until the spool has as much as the audit log, which has so many lines.
fn until_spooled(gateway: &Gateway, lines: usize) {
    gateway.audit_lines(lines);
    eventually("the lines to be spooled", || {
        let length = gateway.audit_text().len() as f64;
        (gateway.metric("ftpgate_audit_archive_spool_bytes") == length).then_some(())
    });
}

#[test]
fn lines_arrive_byte_for_byte_under_the_nodes_name_and_day() {
    let scene = Scene::start();
    let gateway = scene.gateway("interval = \"100ms\"").start();
    let mut client = client(&gateway);
    for name in ["plain", "with blank", "\u{9b}2J\u{2028}", "\u{e4}\u{1f600}"] {
        client.upload(&format!("STOR {name}"), name.as_bytes()).expect(&[226]);
        client.download(&format!("LIST {name}")).1.expect(&[226]);
    }
    gateway.audit_lines(8);
    scene.until_all_is_archived(|| gateway.audit_text());
    for (key, lines) in scene.objects() {
        let parts: Vec<&str> = key.split('/').collect();
        let [prefix, kind, node, year, month, day, name] = parts[..] else { panic!("{key}") };
        assert_eq!([prefix, kind, node], ["ftpgate", "audit", "gateway-a"]);
        assert!(name.starts_with(&format!("{year}{month}{day}T")), "{key}");
        assert!(name.ends_with(".jsonl") && lines.ends_with('\n'), "{key}");
    }
    eventually("the metrics to follow", || {
        let oldest = gateway.metric("ftpgate_audit_archive_oldest_timestamp_seconds");
        (oldest == 0.0).then_some(())
    });
    let sent = gateway.metric("ftpgate_audit_archive_batches_total{result=\"ok\"}");
    assert_eq!(sent as usize, scene.objects().len());
    assert_eq!(gateway.metric("ftpgate_audit_archive_spool_bytes"), 0.0);
    assert_eq!(gateway.metric("ftpgate_audit_archive_dropped_total"), 0.0);
}

#[test]
fn the_archive_is_json_whatever_the_audit_log_is() {
    let scene = Scene::start();
    let gateway =
        scene.gateway("interval = \"100ms\"").set("audit", "format = \"xferlog\"").start();
    transfer(&mut client(&gateway), 0..1);
    let line = eventually("a line", || Some(scene.archived()).filter(|lines| !lines.is_empty()));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["path"], &line["bytes"]), (&"file-0".into(), &1000.into()));
}

#[test]
fn s3_that_denies_fails_or_is_silent_costs_no_line() {
    let scene = Scene::start();
    let gateway = scene.gateway("interval = \"50ms\"").start();
    let mut client = client(&gateway);
    let failed = || gateway.metric("ftpgate_audit_archive_batches_total{result=\"failed\"}");
    let mut count = 0;
    for fault in [Fault::Denied, Fault::InternalError, Fault::Silence] {
        scene.s3.fail("PutObject", fault);
        let before = failed();
        transfer(&mut client, count..count + 3);
        count += 3;
        eventually("a batch that fails", || (failed() > before).then_some(()));
        assert!(gateway.metric("ftpgate_audit_archive_oldest_timestamp_seconds") > 0.0);
        scene.s3.deny(&[]);
        transfer(&mut client, count..count + 1);
        count += 1;
        gateway.audit_lines(count as usize);
        scene.until_all_is_archived(|| gateway.audit_text());
    }
    let log = gateway.log();
    assert!(log.contains("AccessDenied: allow s3:PutObject"), "{log}");
    assert_eq!(log.matches("audit lines cannot be sent to S3").count(), 3, "{log}");
    assert_eq!(log.matches("audit lines are sent to S3 again").count(), 3, "{log}");
    assert_eq!(gateway.metric("ftpgate_audit_archive_dropped_total"), 0.0);
}

#[test]
fn a_full_spool_keeps_its_bound_and_what_it_has_and_goes_on_later() {
    let scene = Scene::start();
    scene.s3.deny(&["PutObject"]);
    let limits = "interval = \"50ms\"\nbatch = \"64KiB\"\nlimit = \"64KiB\"";
    let gateway = scene.gateway(limits).start();
    let mut client = client(&gateway);
    let long = "x".repeat(3900);
    for number in 0..30 {
        client.download(&format!("LIST {long}{number}")).1.expect(&[226]);
    }
    gateway.audit_lines(30);
    let dropped = || gateway.metric("ftpgate_audit_archive_dropped_total");
    let spooled = eventually("lines that are not spooled", || {
        let (dropped, text) = (dropped() as usize, gateway.audit_text());
        let kept: String = text.split_inclusive('\n').take(30 - dropped).collect();
        let bytes = gateway.metric("ftpgate_audit_archive_spool_bytes") as usize;
        (dropped > 10 && bytes == kept.len()).then_some(kept)
    });
    assert!(spooled.len() <= 64 << 10, "{}", spooled.len());
    let mut held = 0;
    gather(&scene.spool(), &mut |path| held += fs::metadata(path).unwrap().len());
    assert_eq!(held as usize, spooled.len());
    assert_eq!(gateway.log().matches("the spool takes no audit lines").count(), 1);

    scene.s3.deny(&[]);
    eventually("what was spooled", || (scene.archived() == spooled).then_some(()));
    let lost = dropped();
    // It looks now and then only whether there is room.
    let first = eventually("a line that is taken again", || {
        client.download("LIST later").1.expect(&[226]);
        gateway.log().contains("audit lines are archived again").then(|| scene.archived().len())
    });
    assert!(first >= spooled.len());
    client.download("LIST last").1.expect(&[226]);
    eventually("the last line", || scene.archived().contains("\"last\"").then_some(()));
    let archived = scene.archived();
    assert!(archived.starts_with(&spooled));
    let all = gateway.audit().len();
    assert_eq!(archived.lines().count() + dropped() as usize, all, "{lost} before");
}

#[test]
fn what_a_killed_process_has_left_is_sent_by_the_next_one() {
    let scene = Scene::start();
    let mut gateway = scene.gateway("interval = \"1h\"").start();
    transfer(&mut client(&gateway), 0..5);
    until_spooled(&gateway, 5);
    gateway.sigkill();
    assert_eq!(scene.archived(), "");
    let next = gateway.start_another();
    scene.until_all_is_archived(|| gateway.audit_text());
    drop(next);
}

#[test]
fn a_process_that_ends_sends_what_it_has_also_if_it_would_wait_otherwise() {
    let scene = Scene::start();
    scene.s3.deny(&["PutObject"]);
    let mut gateway = scene.gateway("interval = \"10ms\"").start();
    let mut client = client(&gateway);
    transfer(&mut client, 0..5);
    // The pause after the third is at least three seconds long.
    eventually("three attempts that fail", || {
        let failed = gateway.metric("ftpgate_audit_archive_batches_total{result=\"failed\"}");
        (failed == 3.0).then_some(())
    });
    scene.s3.deny(&[]);
    client.command("QUIT").expect(&[221]);
    gateway.sigterm();
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.audit().len(), 5);
    assert_eq!(scene.archived(), gateway.audit_text());
}

#[test]
fn in_a_hand_over_each_line_of_both_processes_arrives_once() {
    let scene = Scene::start();
    let mut gateway = scene.gateway("interval = \"20ms\"").start();
    let mut old = client(&gateway);
    transfer(&mut old, 0..3);
    scene.s3.fail("PutObject", Fault::InternalError);
    transfer(&mut old, 3..6);
    let mut before = gateway.hand_over();
    let mut new = client(&gateway);
    // Both find what the other one has left, and want to send it.
    for number in 6..26 {
        if number == 10 {
            scene.s3.deny(&[]);
        }
        let session = if number % 2 == 0 { &mut old } else { &mut new };
        transfer(session, number..number + 1);
    }
    old.command("QUIT").expect(&[221]);
    assert_eq!(before.wait().code(), Some(0), "{}", before.output());
    gateway.audit_lines(26);
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    eventually("each line once", || {
        (sorted(scene.archived()) == sorted(gateway.audit_text())).then_some(())
    });
    eventually("the spool to be empty", || {
        fs::read_dir(scene.spool()).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn a_process_that_is_killed_in_a_hand_over_leaves_its_lines_to_the_other() {
    let scene = Scene::start();
    let mut gateway = scene.gateway("interval = \"1h\"").start();
    let mut old = client(&gateway);
    transfer(&mut old, 0..3);
    until_spooled(&gateway, 3);
    let mut before = gateway.hand_over();
    transfer(&mut old, 3..4);
    gateway.audit_lines(4);
    eventually("its line to be spooled", || {
        let mut held = 0;
        gather(&scene.spool(), &mut |path| held += fs::metadata(path).unwrap().len());
        (held as usize == gateway.audit_text().len()).then_some(())
    });
    before.sigkill();
    scene.until_all_is_archived(|| gateway.audit_text());
}

#[test]
fn a_transfer_waits_neither_for_s3_nor_for_a_spool_that_is_gone() {
    let scene = Scene::start();
    scene.s3.fail("PutObject", Fault::Silence);
    let gateway = scene.gateway("interval = \"10ms\"").start();
    let mut client = client(&gateway);
    let address = client.pasv();
    let mut data = client.open(address);
    client.command("STOR slow").expect(&[150]);
    fs::rename(scene.spool(), scene.base.path().join("moved")).unwrap();
    data.write_all(b"content").unwrap();
    finish(data);
    client.reply().expect(&[226]);
    transfer(&mut client, 0..20);
    gateway.audit_lines(21);
    gateway.logs("the spool takes no audit lines");
    let dropped = || gateway.metric("ftpgate_audit_archive_dropped_total");
    eventually("21 lines not to be archived", || (dropped() == 21.0).then_some(()));
}

#[test]
fn a_spool_that_cannot_be_made_is_named_at_the_start() {
    let scene = Scene::start();
    fs::write(scene.spool(), "a file").unwrap();
    let mut gateway = scene.gateway("").start_only();
    assert_eq!(gateway.wait().code(), Some(1));
    gateway.logs("cannot open the spool of the audit archive");
}
