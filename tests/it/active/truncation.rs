//! Never a truncated file that looks complete, in active mode.

use std::fs::File;
use std::io::{Read, Write};

use super::Port;
use crate::harness::ftp::{End, Ftp, fin, read_to_end, reset};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::tap::Tap;
use crate::harness::{bytes, eventually, number};

/// How often each transfer is cut.
const TIMES: usize = 30;
/// More than the sockets on the way can grow to.
const LARGE: u64 = 256 << 20;

#[test]
fn what_is_cut_in_active_mode_never_looks_complete() {
    let server = Server::start(Kind::ApacheFtpServer);
    File::create(server.path("whole")).unwrap().set_len(LARGE).unwrap();
    let tap = Tap::before(server.address);
    let gateway = Gateway::to_address(tap.address()).start();
    let login = |gateway: &Gateway| {
        let mut client = Ftp::connect(gateway.address);
        client.log_in(&server);
        client
    };
    let begin_upload = |client: &mut Ftp, name: &str, seed: u64| {
        let port = Port::open(client);
        client.send(&format!("STOR {name}"));
        let (mut data, _) = port.accept();
        data.write_all(&bytes(seed, 1 + number(seed, 1 << 20))).unwrap();
        eventually("the file", || server.path(name).exists().then_some(()));
        data
    };
    let begin_download = |client: &mut Ftp, seed: u64| {
        let port = Port::open(client);
        client.send("RETR whole");
        let (mut data, _) = port.accept();
        data.read_exact(&mut vec![0; 1 + number(seed, 1 << 20)]).unwrap();
        data
    };
    for index in 0..TIMES {
        let seed = index as u64;
        let (name, mut client) = (format!("reset-{index}-"), login(&gateway));
        reset(begin_upload(&mut client, &name, seed));
        assert!(tap.verdict(&name) >= 400);
        assert!(client.final_reply().code >= 400);

        let name = format!("aborted-{index}-");
        let data = begin_upload(&mut client, &name, 100 + seed);
        // Whoever ends his data at once may be faster than his own ABOR.
        client.send("ABOR");
        assert!(tap.verdict(&name) >= 400);
        fin(&data);
        assert!(client.final_reply().code >= 400);
        client.final_reply().expect(&[226]);

        let data = begin_download(&mut client, 200 + seed);
        client.send("ABOR");
        assert_eq!(read_to_end(data).1, End::Reset);
        assert!(client.final_reply().code >= 400);
        client.final_reply().expect(&[226]);

        let name = format!("control-first-{index}-");
        let data = begin_upload(&mut client, &name, 300 + seed);
        // Not by a close, which takes effect when no process that is being started has a copy.
        fin(client.stream());
        fin(&data);
        assert!(tap.verdict(&name) >= 400);
    }
    for round in 0..3 {
        let mut gateway = Gateway::to_address(tap.address()).start();
        let cuts: Vec<_> = (0..TIMES / 3)
            .map(|index| {
                let seed = (1000 * (round + 1) + index) as u64;
                let (name, mut client) = (format!("gateway-{round}-{index}-"), login(&gateway));
                let upload = begin_upload(&mut client, &name, seed);
                let mut other = login(&gateway);
                let download = begin_download(&mut other, 500 + seed);
                (name, upload, download, client, other)
            })
            .collect();
        gateway.sigkill();
        for (name, _upload, download, ..) in cuts {
            assert!(tap.verdict(&name) >= 400);
            assert_eq!(read_to_end(download).1, End::Reset);
        }
    }
}
