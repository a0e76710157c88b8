//! FTP clients, many at once: sessions that log in, transfer, and say NOOP. Data connections are
//! always passive, by EPSV, which names no address that a balancer would have to change.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::servers::PASSWORD;
use crate::wire::{CRLF_LINES, LINES, discard, line_ends, send};

/// The name that anyone may have at every upstream here.
pub(crate) const USER: &str = "anonymous";
/// How many clients QUIT at the same time.
const QUITS: usize = 64;

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// A control connection.
pub(crate) struct Session {
    control: BufReader<TcpStream>,
    to: SocketAddr,
    /// The last reply.
    reply: String,
    scratch: Vec<u8>,
}

impl Session {
    /// Connects and waits for 220.
    pub(crate) async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let control = BufReader::with_capacity(256, stream);
        let mut session = Self { control, to, reply: String::new(), scratch: Vec::new() };
        session.expect(220).await.context("waiting for the banner")?;
        Ok(session)
    }

    /// USER and PASS.
    pub(crate) async fn login(to: SocketAddr) -> Result<Self> {
        let mut session = Self::connect(to).await?;
        session.command(&format!("USER {USER}"), 331).await?;
        session.command(&format!("PASS {PASSWORD}"), 230).await?;
        Ok(session)
    }

    /// QUIT, and waits for the answer.
    pub(crate) async fn quit(mut self) -> Result<()> {
        self.command("QUIT", 221).await
    }

    pub(crate) async fn command(&mut self, line: &str, code: u16) -> Result<()> {
        self.control.get_mut().write_all(format!("{line}\r\n").as_bytes()).await?;
        self.expect(code).await.with_context(|| line.to_owned())
    }

    async fn expect(&mut self, code: u16) -> Result<()> {
        loop {
            self.reply.clear();
            ensure!(self.control.read_line(&mut self.reply).await? > 0, "the session is over");
            let bytes = self.reply.as_bytes();
            // The last line of a reply (RFC 959 4.2).
            if bytes.len() > 3 && bytes[..3].iter().all(u8::is_ascii_digit) && bytes[3] == b' ' {
                break;
            }
        }
        ensure!(self.reply.starts_with(&code.to_string()), "expected {code}: {:?}", self.reply);
        Ok(())
    }

    /// EPSV, and the connection to the port in its 229 (RFC 2428 3).
    async fn open(&mut self) -> Result<TcpStream> {
        self.command("EPSV", 229).await?;
        let port = self.reply.split('|').nth(3).and_then(|port| port.parse().ok());
        let port = port.with_context(|| self.reply.clone())?;
        let data = TcpStream::connect((self.to.ip(), port)).await.context("data connection")?;
        Ok(data)
    }

    async fn upload(&mut self, name: &str, pattern: &[u8], bytes: u64) -> Result<()> {
        let mut data = self.open().await?;
        self.command(&format!("STOR {name}"), 150).await?;
        send(&data, pattern, bytes).await.context("sending")?;
        data.shutdown().await?;
        self.expect(226).await
    }

    /// How many bytes there were.
    async fn download(&mut self, name: &str) -> Result<u64> {
        let data = self.open().await?;
        self.command(&format!("RETR {name}"), 150).await?;
        let bytes = discard(&data, &mut self.scratch).await.context("receiving")?;
        drop(data);
        self.expect(226).await?;
        Ok(bytes)
    }

    /// What the upstream says about a file's size.
    async fn size(&mut self, name: &str) -> Result<u64> {
        self.command(&format!("SIZE {name}"), 213).await?;
        self.reply[4..].trim().parse().with_context(|| self.reply.clone())
    }
}

/// What a session is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    /// One file in binary type, all of which must arrive. Gives 1.
    Bulk { how: Direction, bytes: u64 },
    /// One file of that many bytes on the upstream's side, or the client's for an upload, in ASCII
    /// type. Gives 1 if the line ends were translated, else 0.
    Ascii { how: Direction, bytes: u64 },
    /// Files one after another until then, each through a data connection of its own. Gives how many.
    Files { how: Direction, bytes: u64, end: Instant },
}

impl Job {
    /// Does it; sessions that do it at the same time have numbers, so that each has its own files.
    async fn run(self, it: &mut Session, number: usize) -> Result<u64> {
        let name = format!("from-{number}");
        match self {
            Self::Bulk { how, bytes } => {
                one(it, how, &name, bytes).await?;
                if how == Direction::Up {
                    complete(it.size(&name).await?, bytes)?;
                }
                Ok(1)
            }
            Self::Ascii { how, bytes } => {
                it.command("TYPE A", 200).await?;
                let (arrived, translated) = match how {
                    Direction::Up => {
                        it.upload(&name, &CRLF_LINES, bytes).await?;
                        it.command("TYPE I", 200).await?;
                        (it.size(&name).await?, bytes - line_ends(bytes))
                    }
                    Direction::Down => {
                        let arrived = it.download(&bytes.to_string()).await?;
                        (arrived, bytes + line_ends(bytes))
                    }
                };
                if arrived == translated {
                    return Ok(1);
                }
                complete(arrived, bytes)?;
                Ok(0)
            }
            Self::Files { how, bytes, end } => {
                let mut count = 0;
                while Instant::now() < end {
                    one(it, how, &name, bytes).await?;
                    count += 1;
                }
                Ok(count)
            }
        }
    }
}

async fn one(it: &mut Session, how: Direction, name: &str, bytes: u64) -> Result<()> {
    match how {
        Direction::Up => it.upload(name, &LINES, bytes).await,
        Direction::Down => complete(it.download(&bytes.to_string()).await?, bytes),
    }
}

fn complete(arrived: u64, bytes: u64) -> Result<()> {
    ensure!(arrived == bytes, "{arrived} of {bytes} bytes arrived");
    Ok(())
}

/// All sessions at work at once: the sum of what their jobs give.
pub(crate) async fn all(sessions: &mut Vec<Session>, job: Job) -> Result<u64> {
    let jobs = std::mem::take(sessions).into_iter().enumerate();
    let jobs = jobs.map(|(number, mut session)| async move {
        let count = job.run(&mut session, number).await?;
        Ok((session, count))
    });
    let (back, counts): (Vec<_>, Vec<u64>) = together(jobs).await?.into_iter().unzip();
    *sessions = back;
    Ok(counts.into_iter().sum())
}

/// Sessions that do nothing but log in and QUIT, until `end`: how many.
pub(crate) async fn churn(to: SocketAddr, end: Instant) -> Result<u64> {
    let mut count = 0;
    while Instant::now() < end {
        Session::login(to).await?.quit().await?;
        count += 1;
    }
    Ok(count)
}

/// How long each of so many NOOPs took, in order of length.
pub(crate) async fn noops(it: &mut Session, count: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        it.command("NOOP", 200).await?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

/// That many sessions that have logged in and set binary type, at most `at_once` at a time.
pub(crate) async fn crowd(to: SocketAddr, count: usize, at_once: usize) -> Result<Vec<Session>> {
    let workers = (0..count.min(at_once)).map(|worker| async move {
        let mut sessions = Vec::new();
        for _ in (worker..count).step_by(at_once) {
            let mut session = Session::login(to).await?;
            session.command("TYPE I", 200).await?;
            sessions.push(session);
        }
        Ok(sessions)
    });
    Ok(together(workers).await?.into_iter().flatten().collect())
}

/// Ends them all by QUIT, some at a time.
pub(crate) async fn disperse(mut sessions: Vec<Session>) -> Result<()> {
    while !sessions.is_empty() {
        let some = sessions.split_off(sessions.len().saturating_sub(QUITS));
        together(some.into_iter().map(Session::quit)).await?;
    }
    Ok(())
}

/// All at once; the first error ends the rest.
pub(crate) async fn together<T, F>(all: impl Iterator<Item = F>) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut set: JoinSet<Result<T>> = all.collect();
    let mut done = Vec::with_capacity(set.len());
    while let Some(one) = set.join_next().await {
        done.push(one??);
    }
    Ok(done)
}
