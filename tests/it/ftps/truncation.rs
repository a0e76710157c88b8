//! Never a truncated file that looks complete, with TLS on the client's side: each way to cut a
//! transfer, at random places, against Apache FtpServer. What is cut must reach the server as
//! a reset, and a client must never see a close_notify on what it did not get whole.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::harness::certificates::Authority;
use crate::harness::clients::curl::endless_upload;
use crate::harness::ftp::{Ftp, fin, reset};
use crate::harness::ftps::{Secure, SecureEnd, Tls, VERSIONS, close, read_to_end};
use crate::harness::gateway::{Gateway, GatewayOptions};
use crate::harness::servers::{Kind, Server};
use crate::harness::tap::Tap;
use crate::harness::{bytes, eventually, number};

const USER: &str = Kind::ApacheFtpServer.user();
/// How often each transfer is cut.
const TIMES: usize = 30;
/// How many of them share one victim, where the victim is a process.
const AT_ONCE: usize = 10;
/// The size of a file: more than all socket buffers on the way can grow to.
const SIZE: usize = 256 << 20;

/// At most so much of it is moved before a transfer is cut.
const PART: usize = 1 << 20;

/// A server with a file to download, a tap before it, and who vouches for gateways.
struct Scene {
    server: Server,
    tap: Tap,
    authority: Authority,
}

/// A transfer that has begun, in a session that is alive.
struct Cut {
    client: Ftp<Secure>,
    data: Secure,
    name: String,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start(Kind::ApacheFtpServer);
        File::create(server.path("whole")).unwrap().set_len(SIZE as u64).unwrap();
        let tap = Tap::before(server.address);
        Self { server, tap, authority: Authority::new() }
    }

    fn gateway(&self) -> GatewayOptions<'_> {
        Gateway::to_address(self.tap.address())
            .certified(&self.authority)
            .listener("tls = \"required\"")
    }

    /// A client that speaks one version or the other by turns.
    fn client(&self, to: SocketAddr, seed: u64) -> (Ftp<Secure>, Tls) {
        let (_, version) = VERSIONS[number(seed, VERSIONS.len())];
        let tls = Tls::speaking(version, &self.authority, to.ip());
        (Ftp::private(to, &tls, USER), tls)
    }

    /// Uploads a random part.
    fn upload(&self, to: SocketAddr, name: String, seed: u64) -> Cut {
        let (mut client, tls) = self.client(to, seed);
        let mut data = client.begin(&format!("STOR {name}"), &tls);
        data.write_all(&bytes(seed, 1 + number(seed, PART))).unwrap();
        data.flush().unwrap();
        // When the server has its data connection, it creates the file.
        eventually("the file", || self.server.path(&name).exists().then_some(()));
        Cut { client, data, name }
    }

    /// Downloads a random part.
    fn download(&self, to: SocketAddr, seed: u64) -> Cut {
        let (mut client, tls) = self.client(to, seed);
        let mut data = client.begin("RETR whole", &tls);
        data.read_exact(&mut vec![0; 1 + number(seed, PART)]).unwrap();
        Cut { client, data, name: "whole".into() }
    }

    /// The server must have reported the upload as failed.
    #[track_caller]
    fn assert_upload_failed(&self, name: &str) {
        let verdict = self.tap.verdict(name);
        assert!(verdict >= 400, "the server said {verdict} to the cut upload {name}");
    }
}

/// The client must have been told of a failure.
#[track_caller]
fn assert_told(mut client: Ftp<Secure>) {
    let told = client.final_reply();
    assert!(told.code >= 400, "the client was told {}", told.text);
    client.command("NOOP").expect(&[200]);
}

/// The download must have ended with RST, and the client been told nothing or of a failure.
fn assert_download_failed(cut: Cut) {
    let Cut { mut client, data, .. } = cut;
    assert_cut(data);
    while let Ok(reply) = client.try_reply() {
        assert!(reply.code >= 400, "the client was told {} of a cut download", reply.text);
    }
}

#[track_caller]
fn assert_cut(data: Secure) {
    let (rest, end) = read_to_end(data);
    assert!(rest.len() < SIZE - PART, "the download was not cut at all");
    assert_eq!(end, SecureEnd::Reset, "a cut download");
}

fn seed(round: usize, index: usize) -> u64 {
    u64::try_from(round * 1000 + index).unwrap()
}

#[test]
fn an_upload_that_ends_by_fin_without_close_notify_is_never_stored_as_complete() {
    let scene = Scene::new();
    let gateway = scene.gateway().start();
    for index in 0..TIMES {
        let cut = scene.upload(gateway.address, format!("fin-{index}-"), seed(0, index));
        fin(&cut.data.sock);
        scene.assert_upload_failed(&cut.name);
        assert_told(cut.client);
        assert_eq!(gateway.audit_line(&cut.name)["outcome"], "client-failed");
    }
    assert_eq!(
        gateway.metric("ftpgate_transfers_total{direction=\"upload\",outcome=\"complete\"}"),
        0.0
    );
}

#[test]
fn an_upload_that_is_reset_is_never_stored_as_complete() {
    let scene = Scene::new();
    let gateway = scene.gateway().start();
    for index in 0..TIMES {
        let cut = scene.upload(gateway.address, format!("reset-{index}-"), seed(1, index));
        reset(cut.data.sock);
        scene.assert_upload_failed(&cut.name);
        assert_told(cut.client);
    }
}

#[test]
fn an_upload_of_broken_tls_records_is_never_stored_as_complete() {
    let scene = Scene::new();
    let gateway = scene.gateway().start();
    for index in 0..TIMES {
        let cut = scene.upload(gateway.address, format!("broken-{index}-"), seed(2, index));
        let mut socket = &cut.data.sock;
        match index % 3 {
            // A record that nobody has sealed, and a forged close_notify.
            0 => socket.write_all(&[&b"\x17\x03\x03\x00\x20"[..], &[7; 32]].concat()).unwrap(),
            1 => socket.write_all(b"\x15\x03\x03\x00\x02\x01\x00").unwrap(),
            // Half a record.
            _ => socket.write_all(b"\x17\x03\x03\x10\x00half").unwrap(),
        }
        fin(&cut.data.sock);
        scene.assert_upload_failed(&cut.name);
        assert_told(cut.client);
    }
}

#[test]
fn a_client_process_that_is_killed_is_not_believed() {
    let scene = Scene::new();
    let gateway = scene.gateway().start();
    for round in 0..TIMES / AT_ONCE {
        let uploads: Vec<_> = (0..AT_ONCE)
            .map(|index| {
                let name = format!("killed-{round}-{index}-");
                let part = 50_000 + number(seed(round, 80 + index), 300_000);
                let authority = scene.authority.file.to_str().unwrap();
                let tls = ["--ssl-reqd", "--cacert", authority];
                (endless_upload(&tls, gateway.address, USER, &name), name, part)
            })
            .collect();
        for (mut curl, name, part) in uploads {
            eventually("a part of the upload", || {
                let size = std::fs::metadata(scene.server.path(&name)).map_or(0, |it| it.len());
                (size > part as u64).then_some(())
            });
            curl.kill().unwrap();
            curl.wait().unwrap();
            scene.assert_upload_failed(&name);
            assert_eq!(gateway.audit_line(&name)["outcome"], "client-failed");
        }
    }
}

#[test]
fn a_client_that_closes_its_control_connection_before_its_data_is_not_believed() {
    let scene = Scene::new();
    let gateway = scene.gateway().start();
    for index in 0..TIMES {
        let cut = scene.upload(gateway.address, format!("control-{index}-"), seed(3, index));
        let Cut { client, mut data, name } = cut;
        // Not by a close, which takes effect when no process that is being started has a copy.
        fin(client.stream());
        close(&mut data);
        scene.assert_upload_failed(&name);
    }
}

#[test]
fn a_gateway_killed_in_mid_upload_never_looks_like_the_end_of_the_file() {
    let scene = Scene::new();
    for round in 0..TIMES / AT_ONCE {
        let mut gateway = scene.gateway().start();
        let uploads: Vec<_> = (0..AT_ONCE)
            .map(|index| {
                let name = format!("gateway-{round}-{index}-");
                scene.upload(gateway.address, name, seed(10 + round, index))
            })
            .collect();
        gateway.sigkill();
        uploads.iter().for_each(|cut| scene.assert_upload_failed(&cut.name));
    }
}

#[test]
fn a_gateway_killed_in_mid_download_says_no_close_notify() {
    let scene = Scene::new();
    for round in 0..TIMES / AT_ONCE {
        let mut gateway = scene.gateway().start();
        let downloads: Vec<_> = (0..AT_ONCE)
            .map(|index| scene.download(gateway.address, seed(20 + round, index)))
            .collect();
        gateway.sigkill();
        downloads.into_iter().for_each(assert_download_failed);
    }
}

#[test]
fn a_server_that_is_killed_never_gives_a_complete_download() {
    for round in 0..TIMES / AT_ONCE {
        let mut scene = Scene::new();
        let gateway = Gateway::to(&scene.server)
            .certified(&scene.authority)
            .listener("tls = \"required\"")
            .start();
        let address = gateway.address;
        let downloads: Vec<_> =
            (0..AT_ONCE).map(|index| scene.download(address, seed(30 + round, index))).collect();
        let uploads: Vec<_> = (0..AT_ONCE)
            .map(|index| scene.upload(address, format!("up-{index}"), seed(40 + round, index)))
            .collect();
        scene.server.sigkill();
        for Cut { mut client, data, .. } in downloads {
            assert_cut(data);
            client.final_reply().expect(&[426]);
        }
        for mut cut in uploads {
            cut.client.final_reply().expect(&[426]);
        }
    }
}

#[test]
fn an_aborted_transfer_never_looks_complete() {
    let scene = Scene::new();
    let gateway = scene.gateway().start();
    for index in 0..TIMES {
        let name = format!("aborted-{index}-");
        let Cut { mut client, mut data, name } =
            scene.upload(gateway.address, name, seed(5, index));
        // Whoever ends his data at once may be faster than his own ABOR.
        client.send("ABOR");
        scene.assert_upload_failed(&name);
        close(&mut data);
        let (transfer, abort) = (client.final_reply(), client.final_reply());
        assert!(transfer.code >= 400, "{}", transfer.text);
        abort.expect(&[226]);
        client.command("NOOP").expect(&[200]);

        let Cut { mut client, data, .. } = scene.download(gateway.address, seed(6, index));
        client.send("ABOR");
        assert_cut(data);
        let (transfer, abort) = (client.final_reply(), client.final_reply());
        assert!(transfer.code >= 400, "{}", transfer.text);
        abort.expect(&[226]);
        client.command("NOOP").expect(&[200]);
    }
}
