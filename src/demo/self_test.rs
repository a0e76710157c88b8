//! `ftpgate demo --self-test`: files through both gateways, compared by hash.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest, Sha256};
use suppaftp::tokio::AsyncFtpStream;
use suppaftp::types::FileType;
use suppaftp::{FtpError, Mode, Status};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::picture::{Picture, RunningGateway};
use super::{Event, PASSWORD, Step, USER};

/// Nothing at all, one byte, around the relay's buffer sizes, odd ones, and one that takes a while.
const SIZES: [usize; 9] =
    [0, 1, 1_023, 32 << 10, (64 << 10) - 1, (128 << 10) + 1, 1_000_003, 5 << 20, 64 << 20];
/// A step that takes longer has failed.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// Takes every step, also after one has failed.
///
/// # Errors
///
/// If any step has failed; which and why has been told.
pub(super) async fn run(
    picture: &mut Picture,
    tell: &mut (dyn FnMut(Event) + Send),
) -> anyhow::Result<()> {
    let [gateway_a, gateway_c] = &picture.gateways;
    let (a, c) = (&Door::of(gateway_a), &Door::of(gateway_c));
    let mut steps = Steps { tell, started: Instant::now(), count: 0, failed: 0 };
    // Of its own, so that a directory given by --directory keeps what is in it.
    let directory = format!("/ftpgate-self-test-{}", std::process::id());
    let stored = picture.overview().directory.join(directory.trim_start_matches('/'));
    let round = |through, other, mode| Round {
        through,
        other,
        mode,
        directory: &directory,
        stored: &stored,
    };

    steps.take(format!("MKD {directory}"), round(a, c, Mode::Passive).make_directory()).await;
    for (through, other) in [(a, c), (c, a)] {
        for mode in [Mode::Passive, Mode::ExtendedPassive] {
            round(through, other, mode).run(&mut steps).await;
        }
    }

    let [first, second] = &mut picture.endpoints;
    let before = second.sessions();
    steps.take(format!("kill the endpoint in the zone of {}", a.name), first.kill()).await;
    let round = round(a, c, Mode::Passive);
    let name = format!("new sessions through {} are served by the other endpoint", a.name);
    let work = async {
        round.round_trip(1_000_003).await?;
        round.remove_all(1).await?;
        // Two through each gateway.
        let sessions = second.sessions() - before;
        ensure!(sessions == 4, "the other endpoint has seen {sessions} sessions, not 4");
        Ok(())
    };
    steps.take(name, work).await;
    steps.take(format!("RMD {directory}"), round.remove_directory()).await;
    steps.finish()
}

/// A gateway as a client sees it.
#[derive(Debug)]
struct Door {
    name: &'static str,
    control: SocketAddr,
    /// What its 227 and 229 may name.
    passive_ports: RangeInclusive<u16>,
}

impl Door {
    fn of(gateway: &RunningGateway) -> Self {
        Self {
            name: gateway.zone.gateway_name,
            control: gateway.control,
            passive_ports: gateway.passive_ports.clone(),
        }
    }
}

/// Counts the steps and tells of each.
struct Steps<'a> {
    tell: &'a mut (dyn FnMut(Event) + Send),
    started: Instant,
    count: usize,
    failed: usize,
}

impl Steps<'_> {
    async fn take(&mut self, name: String, work: impl Future<Output = anyhow::Result<()>>) {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(STEP_LIMIT, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("no end after {} s", STEP_LIMIT.as_secs())),
        };
        self.count += 1;
        self.failed += usize::from(outcome.is_err());
        let failure = outcome.err().map(|error| format!("{error:#}"));
        (self.tell)(Event::Step(Step { name, took: started.elapsed(), failure }));
    }

    fn finish(self) -> anyhow::Result<()> {
        let (steps, failed) = (self.count, self.failed);
        (self.tell)(Event::Summary { steps, failed, took: self.started.elapsed() });
        ensure!(failed == 0, "{failed} of {steps} steps failed");
        Ok(())
    }
}

/// What is done through one gateway in one passive mode, and checked through the other gateway.
struct Round<'a> {
    through: &'a Door,
    other: &'a Door,
    mode: Mode,
    /// Where on the server, absolute.
    directory: &'a str,
    /// Where on this machine.
    stored: &'a Path,
}

impl Round<'_> {
    async fn run(&self, steps: &mut Steps<'_>) {
        let mode = if self.mode == Mode::Passive { "PASV" } else { "EPSV" };
        let (through, other) = (self.through.name, self.other.name);
        for size in SIZES {
            let title = format!("{mode}: up through {through}, down through {other}: {size} bytes");
            steps.take(title, self.round_trip(size)).await;
        }
        let title = |what| format!("{mode}: {what} through {through}");
        steps.take(title("LIST, NLST and MLSD"), self.list()).await;
        steps.take(title("APPE and REST"), self.append_and_resume()).await;
        steps.take(title("RNFR and RNTO"), self.rename()).await;
        steps.take(title("DELE"), self.remove_all(SIZES.len())).await;
    }

    async fn make_directory(&self) -> anyhow::Result<()> {
        let mut client = self.log_in(self.through).await?;
        client.mkdir(self.directory).await.context("MKD")?;
        Ok(client.quit().await?)
    }

    async fn remove_directory(&self) -> anyhow::Result<()> {
        let mut client = self.log_in(self.through).await?;
        client.rmdir(self.directory).await.context("RMD")?;
        Ok(client.quit().await?)
    }

    /// Up through one gateway, down through the other: the same bytes. They are looked at in
    /// between, too: what is spoilt on its way up could be mended on its way down.
    async fn round_trip(&self, size: usize) -> anyhow::Result<()> {
        let bytes = sample(size);
        let sent = Sha256::digest(&bytes);
        let mut client = self.enter(self.through).await?;
        client.put_file(file_name(size), &mut bytes.as_slice()).await.context("upload")?;
        client.quit().await.context("QUIT")?;
        let stored = self.stored.join(file_name(size));
        let stored = spawn_blocking(|| std::fs::read(stored)).await??;
        ensure!(stored == bytes, "{size} bytes went up, others were stored ({})", stored.len());

        let mut client = self.enter(self.other).await?;
        let (received, length) = download(&mut client, &file_name(size)).await?;
        client.quit().await.context("QUIT")?;
        ensure!(length == size, "{size} bytes went up, {length} came down");
        ensure!(received == sent, "SHA-256 differs: {sent:x} up, {received:x} down");
        Ok(())
    }

    /// Each kind of list names each file.
    async fn list(&self) -> anyhow::Result<()> {
        let mut client = self.enter(self.through).await?;
        let lists = [
            ("LIST", client.list(None).await.context("LIST")?),
            ("NLST", client.nlst(None).await.context("NLST")?),
            ("MLSD", client.mlsd(None).await.context("MLSD")?),
        ];
        for (verb, lines) in lists {
            for size in SIZES {
                let name = file_name(size);
                let named = lines.iter().any(|line| line.ends_with(&name));
                ensure!(named, "{verb} does not name {name:?}: {lines:?}");
            }
        }
        Ok(client.quit().await?)
    }

    /// An upload in two parts, and a download of the second part only.
    async fn append_and_resume(&self) -> anyhow::Result<()> {
        let bytes = sample(300_001);
        let (head, mut tail) = bytes.split_at(100_000);
        let mut client = self.enter(self.through).await?;
        client.put_file("parts", &mut { head }).await.context("upload of the first part")?;
        client.append_file("parts", &mut tail).await.context("APPE")?;
        let (whole, _) = download(&mut client, "parts").await?;
        ensure!(whole == Sha256::digest(&bytes), "the appended file differs");

        client.resume_transfer(head.len()).await.context("REST")?;
        let (rest, length) = download(&mut client, "parts").await?;
        let (_, tail) = bytes.split_at(head.len());
        ensure!(rest == Sha256::digest(tail), "the part after REST differs: {length} bytes");
        client.rm("parts").await.context("DELE")?;
        Ok(client.quit().await?)
    }

    /// There and back again; in between the other gateway sees only the new name.
    async fn rename(&self) -> anyhow::Result<()> {
        let (old, new) = (file_name(1_000_003), "renamed".to_owned());
        let mut client = self.enter(self.through).await?;
        let mut witness = self.enter(self.other).await?;
        client.rename(&old, &new).await.context("rename")?;
        let names = witness.nlst(None).await.context("NLST")?;
        ensure!(names.contains(&new) && !names.contains(&old), "after the rename: {names:?}");
        client.rename(&new, &old).await.context("rename back")?;
        witness.quit().await?;
        Ok(client.quit().await?)
    }

    /// Removes the files of the round trips and sees that there is nothing else.
    async fn remove_all(&self, expected: usize) -> anyhow::Result<()> {
        let mut client = self.enter(self.through).await?;
        let names = client.nlst(None).await.context("NLST")?;
        ensure!(names.len() == expected, "{expected} files expected: {names:?}");
        for name in &names {
            client.rm(name).await.with_context(|| format!("DELE {name}"))?;
        }
        let mut witness = self.enter(self.other).await?;
        let left = witness.nlst(None).await.context("NLST of nothing")?;
        ensure!(left.is_empty(), "still there: {left:?}");
        match witness.size(file_name(1)).await {
            Err(FtpError::UnexpectedResponse(reply)) if reply.status == Status::FileUnavailable => {
            }
            answer => bail!("SIZE of a deleted file: {answer:?}"),
        }
        witness.quit().await?;
        Ok(client.quit().await?)
    }

    /// A session in the self-test's directory.
    async fn enter(&self, door: &Door) -> anyhow::Result<AsyncFtpStream> {
        let mut client = self.log_in(door).await?;
        client.cwd(self.directory).await.context("CWD")?;
        Ok(client)
    }

    /// A session that fails as soon as a passive reply names anything but the gateway itself. The
    /// endpoints are reachable from here, so without this a gateway that handed out an endpoint's
    /// address would pass.
    async fn log_in(&self, door: &Door) -> anyhow::Result<AsyncFtpStream> {
        let (host, ports) = (door.control.ip(), door.passive_ports.clone());
        let mut client = AsyncFtpStream::connect(door.control)
            .await
            .with_context(|| format!("connect to {}", door.name))?
            .passive_stream_builder(move |told| Box::pin(dial(told, host, ports.clone())));
        client.set_mode(self.mode);
        client.login(USER, PASSWORD).await.context("login")?;
        client.transfer_type(FileType::Binary).await.context("TYPE I")?;
        Ok(client)
    }
}

async fn dial(
    told: SocketAddr,
    host: IpAddr,
    ports: RangeInclusive<u16>,
) -> Result<TcpStream, FtpError> {
    if told.ip() != host || !ports.contains(&told.port()) {
        let fault = format!("the passive reply names {told}, not {host} and a port in {ports:?}");
        return Err(FtpError::ConnectionError(std::io::Error::other(fault)));
    }
    TcpStream::connect(told).await.map_err(FtpError::ConnectionError)
}

/// The hash and the length of a file.
async fn download(client: &mut AsyncFtpStream, name: &str) -> anyhow::Result<(Hash, usize)> {
    let mut data = client.retr_as_stream(name).await.context("RETR")?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = data.read(&mut buffer).await.context("download")?;
        let Some(bytes @ [_, ..]) = buffer.get(..count) else { break };
        hash.update(bytes);
        length += count;
    }
    data.finish().await.context("end of download")?;
    Ok((hash.finalize(), length))
}

type Hash = sha2::digest::Output<Sha256>;

/// With a blank and a letter beyond ASCII, as users have them.
fn file_name(size: usize) -> String {
    format!("größe {size}.bin")
}

/// Bytes of a xorshift generator (Marsaglia, 2003), started from the size: no two files share a
/// block, so that bytes of another file are noticed.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
