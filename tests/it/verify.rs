//! Uploads are looked for in the bucket after their 226: what differs or is missing is told, and
//! nothing else.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread;

use tempfile::TempDir;

use crate::harness::aws::{Fault, S3, directories};
use crate::harness::ftp::{Ftp, reset};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

/// A server whose users are in `home/probe` of a bucket.
struct Scene {
    base: TempDir,
    home: PathBuf,
    server: Server,
    s3: S3,
}

impl Scene {
    fn start() -> Self {
        let base = TempDir::with_prefix("ftpgate-verify-").unwrap();
        let (bucket, home) = directories(&base, "bucket");
        let server = Server::options(Kind::ApacheFtpServer).root(&home).start();
        let s3 = S3::start(&bucket);
        Self { base, home, server, s3 }
    }

    /// A gateway that looks for uploads for so long, and knows where sessions begin.
    fn gateway(&self, wait: &str) -> GatewayOptions<'static> {
        self.gateway_with(&format!("home = \"/\"\nwait = \"{wait}\""))
    }

    fn gateway_with(&self, lines: &str) -> GatewayOptions<'static> {
        let directory = format!(
            "[[verify.directory]]\npath = \"/\"\nbucket = \"{}\"\nprefix = \"home/probe/\"",
            self.s3.bucket
        );
        Gateway::to(&self.server)
            .set("verify", &format!("{lines}\n{directory}"))
            .in_aws()
            .env("AWS_ENDPOINT_URL_S3", format!("http://{}", self.s3.address))
    }
}

const RESULTS: [&str; 6] = ["ok", "mismatch", "missing", "unknown", "failed", "dropped"];

/// Waits until so many uploads are judged; how many in each of [`RESULTS`].
#[track_caller]
fn judged(gateway: &Gateway, count: u32) -> [u32; 6] {
    eventually("all uploads to be judged", || {
        let result = |result| {
            let series = format!("ftpgate_uploads_verified_total{{result=\"{result}\"}}");
            gateway.metric(&series) as u32
        };
        let results = RESULTS.map(result);
        let open = gateway.metric("ftpgate_uploads_to_verify");
        (open == 0.0 && results.iter().sum::<u32>() >= count).then_some(results)
    })
}

#[test]
fn an_upload_that_is_cut_or_lost_behind_its_226_is_told_with_all_that_is_known() {
    let scene = Scene::start();
    // What is stored is not what was sent.
    let (stored, there) = directories(&scene.base, "stored");
    fs::write(there.join("whole"), b"ten bytes.").unwrap();
    fs::write(there.join("short"), b"ten byte").unwrap();
    fs::write(there.join("empty"), b"").unwrap();
    scene.s3.serve(&stored);
    let gateway = scene.gateway("500ms").start();
    let mut client = Ftp::login(gateway.address, &scene.server);
    for name in ["whole", "short", "empty", "lost"] {
        client.upload(&format!("STOR {name}"), b"ten bytes.").expect(&[226]);
    }
    assert_eq!(judged(&gateway, 4), [1, 2, 1, 0, 0, 0]);
    let log = gateway.log();
    let user = Kind::ApacheFtpServer.user();
    for told in [
        format!("another size session=1 user={user} path=short bytes=10 size=8"),
        format!("another size session=1 user={user} path=empty bytes=10 size=0"),
        format!("no such object session=1 user={user} path=lost bytes=10"),
    ] {
        assert_eq!(log.matches(&told).count(), 1, "{told}: {log}");
    }
    assert!(log.contains("key=home/probe/short"), "{log}");
    assert!(!log.contains("path=whole"), "{log}");
}

#[test]
fn what_is_replaced_renamed_or_deleted_is_no_alarm() {
    let scene = Scene::start();
    let gateway = scene.gateway("5s").start();
    let uploads = 25;
    thread::scope(|scope| {
        for session in 0..4_usize {
            let (gateway, scene) = (&gateway, &scene);
            scope.spawn(move || {
                let mut client = Ftp::login(gateway.address, &scene.server);
                for number in 0..uploads {
                    // Each another size than the one before; all sessions share two names.
                    let content = bytes(7, 10 * (4 * number + session + 1));
                    let name = format!("shared-{}", number % 2);
                    client.upload(&format!("STOR {name}"), &content).expect(&[226]);
                    let (part, whole) =
                        (format!("part-{session}"), format!("whole-{session}-{number}"));
                    client.upload(&format!("STOR {part}"), &content).expect(&[226]);
                    client.command(&format!("RNFR {part}")).expect(&[350]);
                    client.command(&format!("RNTO {whole}")).expect(&[250]);
                    let brief = format!("brief-{session}");
                    client.upload(&format!("STOR {brief}"), &content).expect(&[226]);
                    client.command(&format!("DELE {brief}")).expect(&[250]);
                }
            });
        }
    });
    let all = 4 * 3 * uploads as u32;
    let [ok, mismatch, missing, unknown, failed, dropped] = judged(&gateway, all);
    assert_eq!([mismatch, missing, failed, dropped], [0; 4], "{}", gateway.log());
    assert_eq!(ok + unknown, all);
    // Renamed ones are found.
    assert!(ok >= 4 * uploads as u32, "{ok}");
}

#[test]
fn an_object_that_comes_late_is_good() {
    let scene = Scene::start();
    let (late, there) = directories(&scene.base, "late");
    scene.s3.serve(&late);
    let gateway = scene.gateway("30s").start();
    let mut client = Ftp::login(gateway.address, &scene.server);
    client.upload("STOR file", b"content").expect(&[226]);
    assert_eq!(gateway.metric("ftpgate_uploads_to_verify"), 1.0);
    fs::write(there.join("file"), b"cont").unwrap();
    fs::write(there.join("new"), b"content").unwrap();
    fs::rename(there.join("new"), there.join("file")).unwrap();
    assert_eq!(judged(&gateway, 1), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_226_does_not_wait_for_s3_and_one_that_denies_is_told() {
    let scene = Scene::start();
    scene.s3.fail("HeadObject", Fault::Silence);
    let gateway = scene.gateway("1s").start();
    let mut client = Ftp::login(gateway.address, &scene.server);
    for number in 0..20 {
        client.upload(&format!("STOR file-{number}"), b"content").expect(&[226]);
    }
    assert_eq!(gateway.metric("ftpgate_uploads_to_verify"), 20.0);
    drop(gateway);
    for (fault, told) in
        [(Fault::Denied, "allow s3:GetObject, and s3:ListBucket"), (Fault::InternalError, "500")]
    {
        scene.s3.fail("HeadObject", fault);
        let gateway = scene.gateway("300ms").start();
        let mut client = Ftp::login(gateway.address, &scene.server);
        client.upload("STOR file", b"content").expect(&[226]);
        assert_eq!(judged(&gateway, 1), [0, 0, 0, 0, 1, 0]);
        let log = gateway.log();
        assert!(log.contains("an upload cannot be verified") && log.contains(told), "{log}");
    }
}

#[test]
fn what_nobody_can_know_is_unknown() {
    let scene = Scene::start();
    fs::create_dir(scene.home.join("in")).unwrap();
    let gateway = scene.gateway_with("wait = \"500ms\"").start();
    let mut client = Ftp::login(gateway.address, &scene.server);
    let mut expected = [0; 6];
    let mut step = |client: &mut Ftp, command: &str, result: &str| {
        client.upload(command, b"some bytes\r\n").expect(&[226, 250]);
        let index = RESULTS.iter().position(|it| *it == result).unwrap();
        expected[index] += 1;
        assert_eq!(judged(&gateway, expected.iter().sum()), expected, "{command}");
    };
    // Where the session begins is not known.
    step(&mut client, "STOR relative", "unknown");
    step(&mut client, "STOR /absolute", "ok");
    client.command("CWD in").expect(&[250]);
    step(&mut client, "STOR relative", "unknown");
    client.command("PWD").expect(&[257]);
    step(&mut client, "STOR relative", "ok");
    assert_eq!(fs::read(scene.home.join("in/relative")).unwrap(), b"some bytes\r\n");
    client.command("CDUP").expect(&[250]);
    step(&mut client, "STOR in/relative", "ok");
    step(&mut client, "APPE in/relative", "unknown");
    step(&mut client, "STOU", "unknown");
    client.command("REST 3").expect(&[350]);
    step(&mut client, "STOR in/relative", "unknown");
    // The gateway translates, and knows what it has sent.
    client.command("TYPE A").expect(&[200]);
    step(&mut client, "STOR text", "ok");
    assert_eq!(fs::read(scene.home.join("text")).unwrap(), b"some bytes\n");

    // Nobody has said TYPE.
    let mut client = Ftp::connect(gateway.address);
    client.command(&format!("USER {}", Kind::ApacheFtpServer.user())).expect(&[331]);
    client.command("PASS secret").expect(&[230]);
    step(&mut client, "STOR /untyped", "unknown");
}

#[test]
fn an_upload_that_fails_is_not_looked_for() {
    let scene = Scene::start();
    let gateway = scene.gateway("300ms").start();
    let mut client = Ftp::login(gateway.address, &scene.server);
    client.upload("STOR no/such/directory", b"content").expect(&[551]);
    let address = client.pasv();
    let mut data = client.open(address);
    client.command("STOR cut").expect(&[150]);
    data.write_all(b"content").unwrap();
    reset(data);
    client.reply().expect(&[426, 551]);
    client.upload("STOR good", b"content").expect(&[226]);
    assert_eq!(judged(&gateway, 1), [1, 0, 0, 0, 0, 0]);
}
