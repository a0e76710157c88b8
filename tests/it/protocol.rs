//! What RFC 959, 2389, 2428 and 3659 ask of whoever stands between: real servers, asked directly
//! and through the gateway.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::harness::ftp::{End, Ftp, assert_nobody_there, finish, read_to_end};
use crate::harness::gateway::{Gateway, with_every_server};
use crate::harness::servers::{Kind, Server};
use crate::harness::{bytes, eventually};

/// More than the sockets on the way hold, so that a transfer is still running when it is disturbed.
const LARGE: usize = 64 << 20;

/// Sessions with the server directly and through the gateway.
fn sessions(server: &Server, gateway: &Gateway) -> [Ftp; 2] {
    [server.address, gateway.address].map(|address| Ftp::login(address, server))
}

/// What `ask` sees must be the same directly and through the gateway.
fn assert_same<T: PartialEq + std::fmt::Debug>(
    server: &Server,
    gateway: &Gateway,
    what: &str,
    ask: impl Fn(&mut Ftp, &str) -> T,
) {
    let [mut direct, mut through] = sessions(server, gateway);
    let direct = ask(&mut direct, "by-itself");
    let through = ask(&mut through, "by-gateway");
    assert_eq!(through, direct, "{}: {what}", server.kind.name());
}

#[test]
fn ordinary_replies_come_byte_for_byte() {
    with_every_server(|server, gateway| {
        server.write("file", b"0123456789");
        let hostile = "227 Entering Passive Mode (1,2,3,4,5,6)";
        server.write(hostile, b"x");
        let commands = [
            "SYST",
            "HELP STOR",
            "PWD",
            "NOOP",
            "SIZE file",
            "SIZE nothing",
            "MDTM file",
            "MLST file",
            "OPTS UTF8 ON",
            "SITE HELP",
            "SITE nonsense",
            "CWD nowhere",
            "CDUP",
            "TYPE E",
            "TYPE I",
            "STRU F",
            "STRU P",
            "MODE S",
            "ALLO 10",
            "REST 10",
            "REST x",
            "RNTO file",
            "RNFR nothing",
            "RNFR file",
            "NOOP",
            "DELE nothing",
            "XYZZY",
            "LANG",
            "STAT file",
            &format!("STAT {hostile}"),
            &format!("MLST {hostile}"),
            &format!("MKD {hostile}/x"),
            &format!("SIZE {hostile}"),
            "PASS again",
            "ACCT x",
            "NOOP   ",
            "noop",
            "SMNT /",
        ];
        assert_same(server, gateway, "replies", |ftp, _| {
            commands
                .iter()
                .map(|command| format!("{command}: {}", ftp.command(command).text))
                .collect::<Vec<_>>()
        });
    });
}

#[test]
fn feat_tells_what_the_gateway_offers() {
    with_every_server(|server, gateway| {
        let [mut direct, mut through] = sessions(server, gateway);
        let lines = |ftp: &mut Ftp| -> Vec<String> {
            ftp.command("FEAT").expect(&[211]).text.lines().map(Into::into).collect()
        };
        let hidden = ["AUTH", "PBSZ", "PROT", "MODE", "EPRT", "EPSV", "CCC"];
        let is_hidden = |line: &String| hidden.iter().any(|name| line.trim().starts_with(name));
        let [direct, through] = [lines(&mut direct), lines(&mut through)];
        let offered: Vec<&String> = direct.iter().filter(|line| !is_hidden(line)).collect();
        let epsv: Vec<&String> = through.iter().filter(|line| is_hidden(line)).collect();
        assert_eq!(through.iter().filter(|line| !is_hidden(line)).collect::<Vec<_>>(), offered);
        assert_eq!(epsv, [" EPRT", " EPSV"], "{}", server.kind.name());
    });
}

#[test]
fn help_is_the_servers_with_a_line_on_what_is_the_gateways() {
    with_every_server(|server, gateway| {
        let [mut direct, mut through] = sessions(server, gateway);
        let note = " This gateway offers PASV EPSV PORT EPRT and not AUTH PBSZ PROT.\r\n";
        let help = through.command("HELP").expect(&[214]).text;
        assert!(help.contains(note), "{help}");
        assert_eq!(help.replace(note, ""), direct.command("HELP").text, "{}", server.kind.name());
        through.command("HELP PORT").expect(&[214]);
        through.command("HELP AUTH").expect(&[502]);
    });
}

#[test]
fn what_is_not_offered_is_refused_in_a_word_and_the_session_goes_on() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        for command in [
            "AUTH TLS",
            "AUTH SSL",
            "MODE Z",
            "MODE B",
            "PORT 10,0,0,5,31,64",
            "EPRT |2|::1|51201|",
            "LPRT 4,4,127,0,0,1,2,200,1",
        ] {
            let reply = ftp.command(command);
            assert!((500..600).contains(&reply.code), "{command}: {}", reply.text);
        }
        ftp.upload("STOR file", b"x").expect(&[226]);
    });
}

#[test]
fn after_epsv_all_there_is_no_pasv() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        ftp.command("EPSV ALL").expect(&[200]);
        let reply = ftp.command("PASV");
        assert!((500..600).contains(&reply.code), "{}", reply.text);
        let address = ftp.epsv();
        let mut data = ftp.open(address);
        ftp.command("STOR file").expect(&[125, 150]);
        data.write_all(b"x").unwrap();
        drop(data);
        ftp.reply().expect(&[226]);
        assert_eq!(server.read("file"), b"x");
    });
}

#[test]
fn a_second_pasv_drops_the_first() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        let first = ftp.pasv();
        let early = ftp.open(first);
        let second = ftp.pasv();
        assert_ne!(first, second);
        assert_eq!(read_to_end(early).0, b"", "the first connection ends");
        let mut data = ftp.open(second);
        // A late connection to the first port reaches nobody.
        assert_nobody_there(first, [127, 0, 0, 1].into());
        ftp.command("STOR file").expect(&[125, 150]);
        data.write_all(b"second").unwrap();
        drop(data);
        ftp.reply().expect(&[226]);
        assert_eq!(server.read("file"), b"second");
    });
}

#[test]
fn listings_of_an_empty_directory_end_as_they_do_directly() {
    with_every_server(|server, gateway| {
        server.create_dir("empty");
        for command in ["NLST", "LIST", "MLSD"] {
            assert_same(server, gateway, command, |ftp, _| {
                ftp.command("CWD empty").expect(&[250]);
                let (listing, reply) = ftp.download(command);
                // MLSD names the directory itself, with a date.
                (listing.is_empty(), reply)
            });
        }
    });
}

#[test]
fn a_restarted_download_begins_where_it_was_told_to() {
    with_every_server(|server, gateway| {
        let content = bytes(4, 500_000);
        server.write("file", &content);
        let mut ftp = Ftp::login(gateway.address, server);
        for offset in [0, 1, 65_536, 499_999, 500_000] {
            let address = ftp.pasv();
            let data = ftp.open(address);
            // The last command before RETR (RFC 3659 5.3); Apache FtpServer forgets it otherwise.
            ftp.command(&format!("REST {offset}")).expect(&[350]);
            ftp.command("RETR file").expect(&[125, 150]);
            let (rest, _) = read_to_end(data);
            ftp.reply().expect(&[226]);
            assert!(rest == content[offset..], "{} from {offset}", server.kind.name());
        }
        let (whole, _) = ftp.download("RETR file");
        assert!(whole == content, "REST is for one transfer only");
    });
}

#[test]
fn appe_appends_and_a_restarted_upload_overwrites_the_rest() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        ftp.upload("APPE file", b"one ").expect(&[226]);
        ftp.upload("APPE file", b"two").expect(&[226]);
        assert_eq!(server.read("file"), b"one two");
        let address = ftp.pasv();
        let mut data = ftp.open(address);
        ftp.command("REST 4").expect(&[350]);
        ftp.command("STOR file").expect(&[125, 150]);
        data.write_all(b"three").unwrap();
        finish(data);
        ftp.reply().expect(&[226]);
        assert_eq!(server.read("file"), b"one three");
    });
}

#[test]
fn stou_stores_under_a_name_of_the_servers_choice() {
    with_every_server(|server, gateway| {
        assert_same(server, gateway, "STOU", |ftp, way| {
            server.create_dir(way);
            ftp.command(&format!("CWD {way}")).expect(&[250]);
            let replies = [ftp.upload("STOU", b"first").code, ftp.upload("STOU", b"second").code];
            let mut stored: Vec<_> = std::fs::read_dir(server.path(way))
                .unwrap()
                .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
                .collect();
            stored.sort();
            (replies, stored)
        });
    });
}

#[test]
fn abor_ends_a_download_by_reset_and_the_session_goes_on() {
    with_every_server(|server, gateway| {
        server.write("large", &bytes(5, LARGE));
        let mut ftp = Ftp::login(gateway.address, server);
        // Again and again: pure-ftpd gives one reply for both when ABOR and the reset race there.
        for _ in 0..10 {
            let mut data = ftp.begin("RETR large");
            data.read_exact(&mut [0; 100_000]).unwrap();
            // As a telnet client sends it: interrupt, data mark, the command (RFC 959 4.1.3).
            ftp.stream().write_all(b"\xFF\xF4\xFF\xF2ABOR\r\n").unwrap();
            let (rest, end) = read_to_end(data);
            assert!(rest.len() < LARGE - 100_000, "{}: nothing was aborted", server.kind.name());
            assert_eq!(end, End::Reset, "{}", server.kind.name());
            assert_aborted(server, &mut ftp);
        }
    });
}

#[test]
fn abor_ends_an_upload_and_the_session_goes_on() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        let mut data = ftp.begin("STOR file");
        data.write_all(&bytes(6, 300_000)).unwrap();
        ftp.send("ABOR");
        assert_aborted(server, &mut ftp);
        drop(data);
    });
}

/// The transfer's failure, ABOR's success, and all is as before.
fn assert_aborted(server: &Server, ftp: &mut Ftp) {
    let [transfer, abor] = [ftp.final_reply(), ftp.final_reply()];
    assert!((400..600).contains(&transfer.code), "{}: {transfer:?}, {abor:?}", server.kind.name());
    // 451 is pure-ftpd's word for it.
    assert!([225, 226, 451].contains(&abor.code), "{}: {transfer:?}, {abor:?}", server.kind.name());
    ftp.command("NOOP").expect(&[200]);
    ftp.upload("STOR after", b"x").expect(&[226]);
    assert_eq!(server.read("after"), b"x");
}

#[test]
fn abor_without_a_transfer_is_answered_once() {
    with_every_server(|server, gateway| {
        assert_same(server, gateway, "ABOR", |ftp, _| [ftp.command("ABOR"), ftp.command("NOOP")]);
    });
}

#[test]
fn quit_during_a_download_does_not_cut_it() {
    with_every_server(|server, gateway| {
        server.write("large", &bytes(7, LARGE));
        let mut ftp = Ftp::login(gateway.address, server);
        let data = ftp.begin("RETR large");
        ftp.send("QUIT");
        let (content, end) = read_to_end(data);
        assert_eq!((content.len(), end), (LARGE, End::Fin), "{}", server.kind.name());
        ftp.reply().expect(&[226]);
        ftp.reply().expect(&[221]);
        assert!(ftp.is_closed());
    });
}

#[test]
fn quit_during_an_upload_does_not_cut_it() {
    with_every_server(|server, gateway| {
        let content = bytes(8, LARGE);
        let mut ftp = Ftp::login(gateway.address, server);
        let mut data = ftp.begin("STOR file");
        let (start, end) = content.split_at(1000);
        data.write_all(start).unwrap();
        ftp.send("QUIT");
        data.write_all(end).unwrap();
        drop(data);
        ftp.reply().expect(&[226]);
        ftp.reply().expect(&[221]);
        assert!(server.read("file") == content, "{}", server.kind.name());
    });
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    with_every_server(|server, gateway| {
        assert_same(server, gateway, "replies", |ftp, _| {
            let commands = [
                "PWD",
                "SYST",
                "NOOP",
                "XYZZY",
                "SIZE nothing",
                "TYPE I",
                "RNFR nothing",
                "PWD",
                "NOOP",
            ];
            ftp.stream().write_all((commands.join("\r\n") + "\r\n").as_bytes()).unwrap();
            commands.map(|_| ftp.reply())
        });
    });
}

#[test]
fn a_command_may_come_byte_by_byte() {
    with_every_server(|server, gateway| {
        let mut ftp = Ftp::login(gateway.address, server);
        ftp.stream().set_nodelay(true).unwrap();
        for byte in b"PASV\r\nNOOP\r\n" {
            ftp.stream().write_all(&[*byte]).unwrap();
        }
        ftp.reply().expect(&[227]);
        ftp.reply().expect(&[200]);
    });
}

#[test]
fn a_name_is_never_taken_for_a_passive_reply() {
    with_every_server(|server, gateway| {
        let name = "227 Entering Passive Mode (1,2,3,4,5,6)";
        assert_same(server, gateway, "listing", |ftp, way| {
            server.create_dir(way);
            ftp.command(&format!("CWD {way}")).expect(&[250]);
            ftp.command(&format!("MKD {name}")).expect(&[257]);
            ftp.command(&format!("CWD {name}")).expect(&[250]);
            let pwd = ftp.command("PWD").expect(&[257]).text.replace(way, "");
            ftp.command("CDUP").expect(&[200, 250]);
            let (listing, reply) = ftp.download("NLST");
            (pwd, String::from_utf8(listing).unwrap(), reply)
        });
    });
}

#[test]
fn rein_forgets_the_user() {
    with_every_server(|server, gateway| {
        assert_same(server, gateway, "REIN", |ftp, _| {
            let replies = [ftp.command("REIN").code, ftp.command("PWD").code];
            if replies[0] == 220 {
                ftp.log_in(server);
            }
            (replies, ftp.upload("STOR file", b"x").code)
        });
    });
}

#[test]
fn a_web_browser_is_shown_the_door() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let mut ftp = Ftp::connect(gateway.address);
    ftp.stream().write_all(b"POST / HTTP/1.1\r\nHost: gateway\r\n\r\nPASV\r\n").unwrap();
    assert!((500..600).contains(&ftp.reply().code));
    assert!(ftp.try_reply().is_err());
}

#[test]
fn a_line_without_end_is_refused_and_the_next_one_answered() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let mut ftp = Ftp::login(gateway.address, &server);
    ftp.stream().write_all(&vec![b'x'; 1 << 20]).unwrap();
    ftp.stream().write_all(b"\r\nNOOP\r\n").unwrap();
    ftp.reply().expect(&[500]);
    ftp.reply().expect(&[200]);
}

#[test]
fn a_connection_nobody_asked_for_is_closed_and_counted() {
    let server = Server::start(Kind::ApacheFtpServer);
    let gateway = Gateway::to(&server).start();
    let mut ftp = Ftp::connect_from([127, 0, 0, 8].into(), gateway.address);
    ftp.log_in(&server);
    let address = ftp.pasv();
    let mut data = ftp.open(address);
    // From another address to the reserved port, and from this one to a port that is not reserved.
    let free = if address.port() == 8192 { 8193 } else { 8192 };
    for (from, port) in [([127, 0, 0, 9], address.port()), ([127, 0, 0, 8], free)] {
        let to = SocketAddr::new(address.ip(), port);
        assert_nobody_there(to, from.into());
    }
    eventually("both to be counted", || {
        (gateway.metric("ftpgate_passive_strangers_total") == 2.0).then_some(())
    });
    ftp.command("STOR file").expect(&[150]);
    data.write_all(b"mine").unwrap();
    drop(data);
    ftp.reply().expect(&[226]);
    assert_eq!(server.read("file"), b"mine");
}
