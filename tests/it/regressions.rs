//! What has gone wrong in other gateways (ProFTPD's mod_proxy above all), with its issue numbers.

use crate::harness::bytes;
use crate::harness::ftp::{End, Ftp, read_to_end};
use crate::harness::gateway::with_every_server;
use crate::harness::servers::{Kind, Server};

/// Runs `test` in a session with every server at once, each behind a gateway of its own.
fn in_a_session_with_every_server(test: fn(&Server, &mut Ftp)) {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        test(server, &mut ftp);
        ftp.command("QUIT").expect(&[221]);
    });
}

/// mod_proxy #283: some 550s to STOR, and the next data connection failed with 425 until the
/// client logged in again.
#[test]
fn after_hundreds_of_refused_uploads_the_next_one_works() {
    in_a_session_with_every_server(|server, ftp| {
        // Apache FtpServer opens its data connection before it finds out that there is no directory.
        let bad_upload = match server.kind {
            Kind::ApacheFtpServer => "STOR",
            _ => "STOR no-such-directory/file",
        };
        for round in 0..300 {
            let address = ftp.pasv();
            // Some clients connect before the command, some not until they see 150.
            let data = (round % 2 == 0).then(|| ftp.open(address));
            let command = if round % 3 == 0 { "RETR nothing" } else { bad_upload };
            let reply = ftp.command(command);
            assert!(
                [501, 550, 553].contains(&reply.code),
                "{} {command}, round {round}: {}",
                server.kind.name(),
                reply.text
            );
            if let Some(data) = data {
                let (rest, _) = read_to_end(data);
                assert_eq!(rest, b"", "nothing comes after a refusal");
            }
        }
        let content = bytes(1, 100_000);
        ftp.upload("STOR file", &content).expect(&[226]);
        assert_eq!(server.read("file"), content);
    });
}

/// mod_proxy #131 and its like: uploads that broke at the size of a buffer.
#[test]
fn files_of_every_size_around_a_buffers_arrive_whole() {
    in_a_session_with_every_server(|server, ftp| {
        let around = (9..=20).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]);
        for size in [0, 1].into_iter().chain(around) {
            let content = bytes(2, size);
            ftp.upload("STOR file", &content).expect(&[226]);
            assert!(server.read("file") == content, "an upload of {size} bytes");
            let (back, reply) = ftp.download("RETR file");
            reply.expect(&[226]);
            assert!(back == content, "a download of {size} bytes");
        }
    });
}

/// mod_proxy #130, #172: LIST hung now and then, or the second transfer of a session did.
#[test]
fn a_listing_comes_every_time() {
    in_a_session_with_every_server(|server, ftp| {
        server.write("first file", b"1");
        server.write("second file", b"2");
        for round in 0..300 {
            let (listing, reply) = ftp.download("LIST");
            reply.expect(&[226]);
            let listing = String::from_utf8(listing).unwrap();
            assert!(
                listing.contains("first file") && listing.contains("second file"),
                "{round}: {listing}"
            );
            assert!(listing.ends_with("\r\n"), "{round}: {listing}");
        }
    });
}

/// mod_proxy #335: a transfer's 226 overtook its data.
#[test]
fn when_226_is_there_the_data_is_too() {
    in_a_session_with_every_server(|server, ftp| {
        let content = bytes(3, 3_000_000);
        server.write("file", &content);
        for _ in 0..20 {
            let data = ftp.begin("RETR file");
            let (whole, end) = read_to_end(data);
            assert!(whole == content && end == End::Fin);
            ftp.reply().expect(&[226]);
            ftp.upload("STOR copy", &content).expect(&[226]);
            assert!(server.read("copy") == content, "226, but the file is not complete");
        }
    });
}

/// unFTP #459: passive ports asked for and never used ran out, or hung the session.
#[test]
fn passive_ports_that_are_never_used_do_not_run_out() {
    in_a_session_with_every_server(|server, ftp| {
        for _ in 0..100 {
            ftp.pasv();
            ftp.epsv();
        }
        ftp.upload("STOR file", b"x").expect(&[226]);
        assert_eq!(server.read("file"), b"x");
    });
}
