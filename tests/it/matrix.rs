//! Clients in every mode that they have, through the gateway to every server, though the server
//! takes only passive mode, only TYPE I, only IPv4 and no TLS: each file arrives as it should.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::harness::certificates::Authority;
use crate::harness::clients::{Client, Mode, Operation, Target, Tls};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};
use crate::harness::{address, bytes};

/// By which mode and over which IP.
const MODES: [(&str, Mode, bool); 6] = [
    ("EPSV", Mode::Epsv, false),
    ("PASV", Mode::Pasv, false),
    ("PORT", Mode::Port, false),
    ("EPRT", Mode::Eprt, false),
    ("EPSV/6", Mode::Epsv, true),
    ("EPRT/6", Mode::Eprt, true),
];
/// Bytes of a binary file.
const SIZE: usize = 300_001;

/// A gateway that listens for every kind of client.
struct Entrances {
    plain: [SocketAddr; 2],
    explicit: [SocketAddr; 2],
    implicit: [SocketAddr; 2],
    gateway: Gateway,
}

/// One line of the table.
struct Row {
    title: String,
    /// What went wrong, or `None` where the client does not have the mode.
    cells: Vec<(String, Option<Result<(), String>>)>,
}

#[test]
fn every_client_works_in_every_mode_though_the_server_takes_only_passive_binary_clear() {
    let authority = Authority::new();
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let visits: Vec<_> = Kind::ALL
            .into_iter()
            .flat_map(|kind| Client::ALL.map(|client| (kind, client)))
            .map(|(kind, client)| {
                let authority = &authority;
                scope.spawn(move || visit(kind, client, authority))
            })
            .collect();
        visits.into_iter().flat_map(|rows| rows.join().unwrap()).collect()
    });
    let table = render(&rows);
    println!("{table}");
    // tests/run shows it at the end.
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/target/matrix.txt"), &table).unwrap();
    let failed =
        rows.iter().flat_map(|row| &row.cells).any(|(_, cell)| matches!(cell, Some(Err(_))));
    assert!(!failed, "\n{table}");
}

impl Entrances {
    fn before(server: &Server, authority: &Authority) -> Self {
        let ports = address::unused_ports();
        let six = |offset| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, ports + offset));
        // lftp does not say TYPE A: it is the default.
        let ascii = "ascii = \"translate-by-default\"";
        let required = &*format!("{ascii}\ntls = \"required\"");
        let implicit = &*format!("{ascii}\ntls = \"implicit\"");
        let gateway = Gateway::to(server)
            .passive(&format!("{}-{}", ports + 4, ports + 12))
            .certified(authority)
            .listener(ascii)
            .also_listening("2122", required)
            .also_listening("2990", implicit)
            .also_listening(&six(0).to_string(), ascii)
            .also_listening(&six(1).to_string(), required)
            .also_listening(&six(2).to_string(), implicit)
            .start();
        let four = |port| SocketAddr::new(gateway.address.ip(), port);
        Self {
            plain: [four(2121), six(0)],
            explicit: [four(2122), six(1)],
            implicit: [four(2990), six(2)],
            gateway,
        }
    }
}

fn visit(kind: Kind, client: Client, authority: &Authority) -> Vec<Row> {
    let server = Server::start(kind);
    let entrances = Entrances::before(&server, authority);
    let trusted = &*authority.file;
    let ways = [
        ("", entrances.plain, Tls::Off),
        ("FTPS", entrances.explicit, Tls::Explicit(trusted)),
        ("implicit", entrances.implicit, Tls::Implicit(trusted)),
    ];
    let mut rows = Vec::new();
    for (way, [four, six], tls) in ways {
        let mut cells = Vec::new();
        for (ascii, (name, mode, ipv6)) in
            [false, true].into_iter().flat_map(|ascii| MODES.map(|mode| (ascii, mode)))
        {
            let address = if ipv6 { six } else { four };
            let target = Target { ascii, tls, ..Target::new(address, kind.user(), mode) };
            let directory = format!("visit-{way}-{}-{ascii}", name.replace('/', ""));
            let cell = client.can(target).then(|| round_trip(&server, client, target, &directory));
            cells.push((format!("{name}{}", if ascii { "a" } else { "" }), cell));
        }
        if cells.iter().any(|(_, cell)| cell.is_some()) {
            let title = format!("{:<17} {:<7} {way}", kind.name(), client.name());
            rows.push(Row { title, cells });
        }
    }
    drop(entrances.gateway);
    rows
}

/// Up, looked at where it is stored, and down again.
fn round_trip(
    server: &Server,
    client: Client,
    target: Target<'_>,
    directory: &str,
) -> Result<(), String> {
    server.create_dir(directory);
    let scratch = TempDir::new().unwrap();
    let [up, down] = ["up", "down"].map(|name| scratch.path().join(name));
    let content = if target.ascii { text() } else { bytes(77, SIZE) };
    fs::write(&up, &content).unwrap();
    let remote = format!("{directory}/file");
    client.run(target, Operation::Upload { local: &up, remote: &remote })?;
    same("stored", &server.path(&remote), &content)?;
    client.run(target, Operation::Download { remote: &remote, local: &down })?;
    same("fetched", &down, &content)?;
    let listing = client.run(target, Operation::Nlst(directory))?;
    if listing.contains("file") { Ok(()) } else { Err(format!("not listed: {listing}")) }
}

fn same(what: &str, path: &Path, expected: &[u8]) -> Result<(), String> {
    match fs::read(path) {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => {
            Err(format!("{what}: {} bytes for {}, or others", found.len(), expected.len()))
        }
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// Lines of many lengths, empty ones too, as they are stored: ended by LF.
fn text() -> Vec<u8> {
    let letters = bytes(78, 200_000);
    let mut text = Vec::new();
    for (number, part) in letters.chunks(97).enumerate() {
        text.extend(part.iter().take(number % 98).map(|byte| b'!' + byte % 90));
        text.push(b'\n');
    }
    text
}

fn render(rows: &[Row]) -> String {
    let mut table = format!("{:<36}", "a: TYPE A; /6: over IPv6");
    let mut faults = String::new();
    for (name, _) in rows.first().map(|row| row.cells.as_slice()).unwrap_or_default() {
        table += &format!("{name:<9}");
    }
    for row in rows {
        table += &format!("\n{:<36}", row.title);
        for (name, cell) in &row.cells {
            let word = match cell {
                None => "-",
                Some(Ok(())) => "ok",
                Some(Err(why)) => {
                    faults += &format!("\n{} {name}: {why}\n", row.title);
                    "FAILED"
                }
            };
            table += &format!("{word:<9}");
        }
    }
    format!("{table}\n-: not a mode of this client\n{faults}")
}
