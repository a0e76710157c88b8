//! Real servers × real clients: whatever works directly works through the gateway, with the same
//! outcome. What a server or a client cannot do directly is shown as such.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::bytes;
use crate::harness::clients::{Client, Mode, Operation, Target};
use crate::harness::gateway::Gateway;
use crate::harness::servers::{Kind, Server};

/// Something that a client does.
type Step = fn(&Visit<'_>) -> Outcome;

/// What a step saw, or why it failed.
type Outcome = Result<String, String>;

/// Done by every client with every server in every mode.
const STEPS: [(&str, Step); 12] = [
    ("upload", upload),
    ("download", download),
    ("append", append),
    ("resume", resume),
    ("empty", empty),
    ("names", names),
    ("LIST", |visit| listing(visit, |path| Operation::List(path))),
    ("NLST", |visit| listing(visit, |path| Operation::Nlst(path))),
    ("MLSD", |visit| listing(visit, |path| Operation::Mlsd(path))),
    ("rename", rename),
    ("delete", delete),
    ("mkdir", make_and_remove_directory),
];

/// Bytes of an ordinary file: several buffers and a bit.
const SIZE: usize = 300_001;
const GIBIBYTE: u64 = 1 << 30;
/// Not ASCII, and with blanks.
const NAME: &str = "grüße an  世界 (1).txt";

/// One client at work in one directory of one server.
struct Visit<'a> {
    client: Client,
    target: Target<'a>,
    server: &'a Server,
    /// The remote directory that is this visit's own.
    directory: String,
    /// The local one.
    scratch: TempDir,
}

/// One line of the table.
struct Row {
    title: String,
    cells: Vec<Cell>,
}

struct Cell {
    step: &'static str,
    direct: Outcome,
    gateway: Outcome,
}

#[test]
fn every_client_works_with_every_server_as_it_does_directly() {
    // Side by side, each pair with a server of its own: proftpd pauses for 0.4 s after each session.
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let pairs = Kind::ALL.into_iter().flat_map(|kind| Client::ALL.map(|client| (kind, client)));
        let visits: Vec<_> =
            pairs.map(|(kind, client)| scope.spawn(move || visit(kind, client))).collect();
        visits.into_iter().flat_map(|rows| rows.join().unwrap()).collect()
    });
    let table = render(&rows);
    println!("{table}");
    // tests/run shows it at the end.
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/target/interop.txt"), &table).unwrap();
    let differences =
        rows.iter().flat_map(|row| &row.cells).filter(|cell| cell.word() == "DIFFERS").count();
    assert_eq!(differences, 0, "\n{table}");
    for row in &rows {
        for cell in row.cells.iter().filter(|cell| cell.direct.is_err()) {
            let known = row.title.starts_with("vsftpd") && cell.step == "MLSD";
            assert!(
                known,
                "this test or its server is broken: {} {}\n{table}",
                row.title, cell.step
            );
        }
    }
}

#[test]
fn a_gibibyte_arrives_whole_both_ways_with_every_client_and_server() {
    let source = TempDir::new().unwrap();
    let big = source.path().join("big");
    write_gibibyte(&big);
    for kind in Kind::ALL {
        let server = Server::start(kind);
        let gateway = Gateway::to(&server).start();
        for client in Client::ALL {
            let visit = Visit::new(client, &server, gateway.address, Mode::Pasv, "gibibyte");
            visit.run(Operation::Upload { local: &big, remote: &visit.remote("big") }).unwrap();
            assert_same(&big, &visit.stored("big"));
            let back = visit.local("back");
            visit.run(Operation::Download { remote: &visit.remote("big"), local: &back }).unwrap();
            assert_same(&big, &back);
            fs::remove_file(visit.stored("big")).unwrap();
        }
    }
}

fn visit(kind: Kind, client: Client) -> [Row; 2] {
    let server = Server::start(kind);
    let gateway = Gateway::to(&server).start();
    [Mode::Epsv, Mode::Pasv].map(|mode| {
        let cells = STEPS.map(|(step, run)| {
            let way = |name: &str, address| {
                let directory = format!("{}-{mode:?}-{step}-{name}", client.name());
                run(&Visit::new(client, &server, address, mode, &directory))
            };
            Cell {
                step,
                direct: way("direct", server.address),
                gateway: way("gateway", gateway.address),
            }
        });
        let mode = format!("{mode:?}").to_uppercase();
        Row {
            title: format!("{:<17} {:<7} {mode}", kind.name(), client.name()),
            cells: cells.into(),
        }
    })
}

impl Cell {
    fn word(&self) -> &'static str {
        match (&self.direct, &self.gateway) {
            (Ok(direct), Ok(gateway)) if direct == gateway => "ok",
            (Err(_), Err(_)) => "same",
            _ => "DIFFERS",
        }
    }
}

/// By which the telling line of a client's output is found.
const WORDS_OF_FAILURE: [&str; 4] = ["curl: (", "error_perm", "not supported", "---> LIST"];

/// The table, and below it what went wrong where.
fn render(rows: &[Row]) -> String {
    let mut table = format!("{:<32}", "");
    STEPS.iter().for_each(|(step, _)| table += &format!("{step:<9}"));
    let mut notes = String::from("\nsame: the server or the client cannot do it directly either\n");
    for row in rows {
        table += &format!("\n{:<32}", row.title);
        for cell in &row.cells {
            table += &format!("{:<9}", cell.word());
            if cell.word() == "DIFFERS" {
                notes += &format!(
                    "\n{} {}\n  direct:  {:?}\n  gateway: {:?}\n",
                    row.title, cell.step, cell.direct, cell.gateway
                );
            } else if let Err(reason) = &cell.direct {
                let told = |line: &&str| WORDS_OF_FAILURE.iter().any(|word| line.contains(word));
                let why = reason.lines().rev().find(told).unwrap_or(reason).trim();
                notes +=
                    &format!("{} {}: direct: fails, gateway: same ({why})\n", row.title, cell.step);
            }
        }
    }
    table + "\n" + &notes
}

impl<'a> Visit<'a> {
    fn new(
        client: Client,
        server: &'a Server,
        address: std::net::SocketAddr,
        mode: Mode,
        directory: &str,
    ) -> Self {
        server.create_dir(directory);
        let target = Target::new(address, server.kind.user(), mode);
        Self {
            client,
            target,
            server,
            directory: directory.into(),
            scratch: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self, operation: Operation<'_>) -> Outcome {
        self.client.run(self.target, operation)
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn stored(&self, name: &str) -> PathBuf {
        self.server.path(&self.remote(name))
    }

    fn local(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A local file with this content.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        fs::write(self.local(name), content).unwrap();
        self.local(name)
    }

    /// Ok when that file holds that.
    fn holds(path: &Path, expected: &[u8]) -> Outcome {
        match fs::read(path) {
            Ok(found) if found == expected => Ok(String::new()),
            Ok(found) => {
                Err(format!("{} bytes instead of {}, or others", found.len(), expected.len()))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn upload(visit: &Visit<'_>) -> Outcome {
    let content = bytes(1, SIZE);
    visit.run(Operation::Upload {
        local: &visit.file("up", &content),
        remote: &visit.remote("file"),
    })?;
    Visit::holds(&visit.stored("file"), &content)
}

fn download(visit: &Visit<'_>) -> Outcome {
    let content = bytes(2, SIZE);
    visit.server.write(&visit.remote("file"), &content);
    visit
        .run(Operation::Download { remote: &visit.remote("file"), local: &visit.local("down") })?;
    Visit::holds(&visit.local("down"), &content)
}

fn append(visit: &Visit<'_>) -> Outcome {
    let content = bytes(3, SIZE);
    let (start, end) = content.split_at(SIZE / 3);
    visit.server.write(&visit.remote("file"), start);
    // lftp appends what the remote file lacks of the local one.
    let local = visit.file("up", if visit.client == Client::Lftp { &content } else { end });
    visit.run(Operation::Append { local: &local, remote: &visit.remote("file") })?;
    Visit::holds(&visit.stored("file"), &content)
}

fn resume(visit: &Visit<'_>) -> Outcome {
    let content = bytes(4, SIZE);
    visit.server.write(&visit.remote("file"), &content);
    let local = visit.file("down", &content[..SIZE / 3]);
    visit.run(Operation::Resume { remote: &visit.remote("file"), local: &local })?;
    Visit::holds(&local, &content)
}

fn empty(visit: &Visit<'_>) -> Outcome {
    visit
        .run(Operation::Upload { local: &visit.file("up", b""), remote: &visit.remote("file") })?;
    Visit::holds(&visit.stored("file"), b"")?;
    visit
        .run(Operation::Download { remote: &visit.remote("file"), local: &visit.local("down") })?;
    // Some clients do not create a file for nothing.
    Ok(format!("{:?}", fs::read(visit.local("down")).ok()))
}

fn names(visit: &Visit<'_>) -> Outcome {
    let content = bytes(5, 1000);
    visit.run(Operation::Upload {
        local: &visit.file(NAME, &content),
        remote: &visit.remote(NAME),
    })?;
    Visit::holds(&visit.stored(NAME), &content)?;
    visit.run(Operation::Download { remote: &visit.remote(NAME), local: &visit.local("down") })?;
    Visit::holds(&visit.local("down"), &content)?;
    visit.run(Operation::Delete(&visit.remote(NAME)))?;
    Ok(visit.stored(NAME).exists().to_string())
}

fn listing(visit: &Visit<'_>, operation: impl Fn(&str) -> Operation<'_>) -> Outcome {
    let entries = ["one.txt", "two words.txt", "größe.bin", "some-directory", "none.txt"];
    entries[..3].iter().for_each(|name| visit.server.write(&visit.remote(name), b"x"));
    visit.server.create_dir(&visit.remote(entries[3]));
    let printed = visit.run(operation(&visit.directory))?;
    let seen: Vec<&str> = entries.into_iter().filter(|name| printed.contains(name)).collect();
    if seen.is_empty() { Err(printed) } else { Ok(seen.join(", ")) }
}

fn rename(visit: &Visit<'_>) -> Outcome {
    visit.server.write(&visit.remote("old name"), b"x");
    visit.run(Operation::Rename {
        from: &visit.remote("old name"),
        to: &visit.remote("new name"),
    })?;
    Visit::holds(&visit.stored("new name"), b"x")?;
    Ok(visit.stored("old name").exists().to_string())
}

fn delete(visit: &Visit<'_>) -> Outcome {
    visit.server.write(&visit.remote("file"), b"x");
    visit.run(Operation::Delete(&visit.remote("file")))?;
    Ok(visit.stored("file").exists().to_string())
}

fn make_and_remove_directory(visit: &Visit<'_>) -> Outcome {
    visit.run(Operation::MakeDirectory(&visit.remote("new")))?;
    if !visit.stored("new").is_dir() {
        return Err("no directory".into());
    }
    visit.run(Operation::RemoveDirectory(&visit.remote("new")))?;
    Ok(visit.stored("new").exists().to_string())
}

/// Blocks that differ from each other, so that a lost, doubled or swapped one is seen.
fn write_gibibyte(path: &Path) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut block = bytes(6, 1 << 16);
    for number in 0..GIBIBYTE >> 16 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
}

/// Every byte compared, which no hash does better.
fn assert_same(expected: &Path, found: &Path) {
    let [mut left, mut right] = [expected, found].map(|path| File::open(path).unwrap());
    assert_eq!(left.metadata().unwrap().len(), right.metadata().unwrap().len());
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for block in 0..GIBIBYTE >> 20 {
        left.read_exact(&mut a).unwrap();
        right.read_exact(&mut b).unwrap();
        assert!(a == b, "{} differs in MiB {block}", found.display());
    }
}
