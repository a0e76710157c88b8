//! TYPE A, byte for byte on the wire and on the disk, whatever the server itself would make of it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::harness::bytes;
use crate::harness::canned::CannedServer;
use crate::harness::ftp::{Ftp, fin, finish};
use crate::harness::gateway::{Gateway, with_every_server};
use crate::harness::servers::{Kind, Server};
use crate::harness::tap::Tap;

/// Everything that a mistake would be made at.
const TEXTS: [&[u8]; 20] = [
    b"",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\r",
    b"\r\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\r\n\n\r\r\r\n",
    b"no newline at the end",
    b"unix\nlines\n",
    b"unix\nlines",
    b"dos\r\nlines\r\n",
    b"dos\r\nlines",
    b"mac\rlines\r",
    b"mixed\nlines\r\nof\rall kinds\n\r",
    b"ends in cr\r",
    b"ends in crlf and cr\r\n\r",
    b"\0 and \xff are \xff\xf4 bytes as well\r\n",
];

/// What is stored of what an upload sends.
fn stored(wire: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for (at, &byte) in wire.iter().enumerate() {
        if byte != b'\r' || wire.get(at + 1) != Some(&b'\n') {
            file.push(byte);
        }
    }
    file
}

/// What a download sends of what is stored.
fn sent(file: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (at, &byte) in file.iter().enumerate() {
        if byte == b'\n' && (at == 0 || file[at - 1] != b'\r') {
            wire.push(b'\r');
        }
        wire.push(byte);
    }
    wire
}

/// A session in TYPE A.
fn login(server: &Server, gateway: &Gateway) -> Ftp {
    let mut client = Ftp::login(gateway.address, server);
    client.command("TYPE A").expect(&[200]);
    client
}

/// Line ends of every kind, many of them, and at every place of a buffer.
fn large() -> Vec<u8> {
    let kinds: [&[u8]; 4] = [b"\n", b"\r\n", b"\r", b""];
    let letters = bytes(41, 5 << 20);
    let mut text = Vec::new();
    for (number, part) in letters.chunks(61).enumerate() {
        text.extend(part.iter().take(1 + number % 61).map(|byte| b' ' + byte % 90));
        text.extend_from_slice(kinds[number % 4]);
    }
    while text.len() < 5 << 20 {
        text.extend_from_within(..);
    }
    text.truncate(5 << 20);
    text
}

#[test]
fn uploads_are_stored_with_lf_and_downloads_are_sent_with_crlf() {
    with_every_server(|server, gateway| {
        let large = large();
        let mut client = login(server, gateway);
        for (round, text) in TEXTS.into_iter().chain([&*large]).enumerate() {
            let name = format!("up-{round}");
            client.upload(&format!("STOR {name}"), text).expect(&[226]);
            let found = server.read(&name);
            assert!(found == stored(text), "{:?}, {round}: {}", server.kind, show(&found));

            let name = format!("down-{round}");
            server.write(&name, text);
            let (found, reply) = client.download(&format!("RETR {name}"));
            assert_eq!(reply.code, 226);
            assert!(found == sent(text), "{:?}, {round}: {}", server.kind, show(&found));
        }
        // In TYPE I everything is as it is again.
        client.command("TYPE I").expect(&[200]);
        client.upload("STOR image", &large).expect(&[226]);
        assert!(server.read("image") == large);
        assert!(client.download("RETR image").0 == large);
    });
}

fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
}

#[test]
fn it_does_not_matter_where_the_network_cuts_a_line_end() {
    with_every_server(|server, gateway| {
        let text = b"a\r\nb\r\r\n\n\rc\r\n\r";
        let mut client = login(server, gateway);
        for cut in 0..=text.len() {
            let mut data = client.begin(&format!("STOR cut-{cut}"));
            data.set_nodelay(true).unwrap();
            let (first, second) = text.split_at(cut);
            data.write_all(first).unwrap();
            // So that the gateway sees it by itself, mostly.
            thread::sleep(Duration::from_millis(5));
            data.write_all(second).unwrap();
            finish(data);
            client.reply().expect(&[226]);
            assert_eq!(server.read(&format!("cut-{cut}")), stored(text), "{:?}", server.kind);
        }
        let mut data = client.begin("STOR bytes");
        data.set_nodelay(true).unwrap();
        for byte in text.chunks(1) {
            data.write_all(byte).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        finish(data);
        client.reply().expect(&[226]);
        assert_eq!(server.read("bytes"), stored(text), "{:?}", server.kind);
    });
}

#[test]
fn an_appended_text_and_one_of_a_unique_name_are_translated_too() {
    with_every_server(|server, gateway| {
        let mut client = login(server, gateway);
        client.upload("STOR file", b"one\r\n").expect(&[226]);
        client.upload("APPE file", b"two\r\nthree\r").expect(&[226]);
        assert_eq!(server.read("file"), b"one\ntwo\nthree\r", "{:?}", server.kind);
    });
}

#[test]
fn sizes_and_offsets_are_not_to_be_had_in_type_a() {
    with_every_server(|server, gateway| {
        server.write("file", b"one\ntwo\n");
        let mut client = login(server, gateway);
        client.command("SIZE file").expect(&[550]);
        client.command("REST 4").expect(&[504]);
        assert_eq!(client.download("RETR file").0, b"one\r\ntwo\r\n", "{:?}", server.kind);
        client.command("TYPE I").expect(&[200]);
        assert!(client.command("SIZE file").expect(&[213]).text.contains('8'));
        // An offset of TYPE I must not become one of TYPE A.
        client.command("REST 4").expect(&[350]);
        client.command("TYPE A").expect(&[503]);
        client.command("REST 0").expect(&[350]);
        client.command("TYPE A").expect(&[200]);
        assert_eq!(client.download("RETR file").0, b"one\r\ntwo\r\n", "{:?}", server.kind);
        client.command("TYPE L 8").expect(&[200]);
        assert_eq!(client.download("RETR file").0, b"one\ntwo\n", "{:?}", server.kind);
        for (line, code) in
            [("TYPE A N", 200), ("type a", 200), ("TYPE A T", 504), ("TYPE A C", 504)]
        {
            client.command(line).expect(&[code]);
        }
        assert_eq!(client.download("RETR file").0, b"one\r\ntwo\r\n", "{:?}", server.kind);
    });
}

#[test]
fn a_server_that_knows_only_images_serves_every_client_that_asks_for_what_there_is() {
    let server = CannedServer::script()
        .says("STRU", b"502 unknown\r\n")
        .says("MODE", b"502 unknown\r\n")
        .says("TYPE", b"200 image\r\n")
        .start();
    let gateway = Gateway::to_address(server.address).start();
    let mut client = Ftp::connect(gateway.address);
    client.log_in_as("anyone");
    for (line, code) in [
        ("STRU F", 200),
        ("stru f", 200),
        ("MODE S", 200),
        ("STRU R", 502),
        ("MODE B", 504),
        ("TYPE A", 200),
        ("TYPE L 8", 200),
        ("TYPE A N", 200),
    ] {
        client.command(line).expect(&[code]);
    }
    assert_eq!(server.times("TYPE A"), 0, "the server was told TYPE A");
    assert!(!server.heard().iter().any(|line| line.starts_with("TYPE L")));
}

#[test]
fn passed_through_type_a_is_what_the_server_makes_of_it() {
    thread::scope(|scope| {
        for kind in Kind::ALL {
            scope.spawn(move || {
                let server = Server::start(kind);
                let gateway = Gateway::to(&server).listener("ascii = \"pass-through\"").start();
                let [direct, through] = [server.address, gateway.address].map(|address| {
                    let mut client = Ftp::login(address, &server);
                    let told = client.command("TYPE A").text;
                    let mut seen = vec![told.into_bytes()];
                    for (round, text) in TEXTS.into_iter().enumerate() {
                        let name = format!("file-{round}");
                        client.upload(&format!("STOR {name}"), text).expect(&[226]);
                        seen.push(server.read(&name));
                        server.write(&name, text);
                        seen.push(client.download(&format!("RETR {name}")).0);
                        std::fs::remove_file(server.path(&name)).unwrap();
                    }
                    seen.push(client.command("SIZE nothing").text.into_bytes());
                    seen
                });
                assert_eq!(through, direct, "{kind:?}");
            });
        }
    });
}

#[test]
fn an_announced_size_counts_what_is_sent_and_a_size_on_disk_will_do() {
    let server = Server::start(Kind::ApacheFtpServer);
    let tap = Tap::before(server.address);
    let gateway = Gateway::to_address(tap.address()).start();
    let mut client = login(&server, &gateway);
    let wire = b"line\r\n".repeat(10_000);
    let local = 50_000;
    for (round, (announced, whole)) in
        [(wire.len(), true), (local, true), (wire.len() + 1, false), (2 * local, false)]
            .into_iter()
            .enumerate()
    {
        let name = format!("allo-{round}-");
        client.command(&format!("ALLO {announced}"));
        let mut data = client.begin(&format!("STOR {name}"));
        data.write_all(&wire).unwrap();
        fin(&data);
        let reply = client.final_reply();
        assert_eq!(reply.code == 226, whole, "{announced}: {}", reply.text);
        assert_eq!(tap.verdict(&name) < 400, whole, "{announced}");
        if whole {
            assert_eq!(server.read(&name).len(), local);
        }
    }
}

#[test]
fn listings_are_the_same_in_every_type() {
    with_every_server(|server, gateway| {
        for name in ["one", "two.txt", "grüße"] {
            server.write(name, b"content\n");
        }
        server.create_dir("directory");
        let mut client = Ftp::login(gateway.address, server);
        let mut lists = |kind: &str| {
            client.command(kind).expect(&[200]);
            let commands = match server.kind {
                Kind::Vsftpd => &["LIST", "NLST", "LIST one"][..],
                _ => &["LIST", "NLST", "LIST one", "MLSD"],
            };
            commands
                .iter()
                .map(|command| {
                    let (list, reply) = client.download(command);
                    reply.expect(&[226]);
                    String::from_utf8_lossy(&list).into_owned()
                })
                .collect::<Vec<_>>()
        };
        let [image, text] = ["TYPE I", "TYPE A"].map(&mut lists);
        assert_eq!(text, image, "{:?}", server.kind);
        assert!(image[1].contains("two.txt\r\n"), "{image:?}");
    });
}

#[test]
fn type_a_outlives_the_server() {
    let root = tempfile::tempdir().unwrap();
    let start = || Server::options(Kind::ApacheFtpServer).root(root.path()).start();
    let (mut first, second) = (start(), start());
    first.write("file", b"one\ntwo\n");
    let gateway = Gateway::to(&first).or_to(&second).start();
    let mut client = login(&first, &gateway);
    first.sigkill();
    assert_eq!(client.download("RETR file").0, b"one\r\ntwo\r\n");
    client.upload("STOR new", b"one\r\ntwo\r\n").expect(&[226]);
    assert_eq!(second.read("new"), b"one\ntwo\n");
    client.command("SIZE file").expect(&[550]);
    client.command("TYPE I").expect(&[200]);
    assert_eq!(client.download("RETR file").0, b"one\ntwo\n");
    assert_eq!(gateway.metric("ftpgate_session_resumes_total{result=\"resumed\"}"), 1.0);
}
