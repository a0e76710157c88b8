//! A client of the first VPC that goes by the name, keeps what it stands for as long as the record's
//! TTL allows, and checks what it has transferred.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::network::{Host, Place};
use crate::harness::servers::PASSWORD;
use crate::harness::{bytes, number};

/// How long an attempt to connect may take, and an answer of the resolver.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Where clients go.
#[derive(Debug)]
pub(crate) enum Destination {
    Name(CachedName),
    Fixed(Ipv4Addr),
}

/// A name that is not looked up again before its record's TTL is over.
#[derive(Debug)]
pub(crate) struct CachedName {
    name: String,
    cached: Mutex<Option<(Ipv4Addr, Instant)>>,
}

/// A client's host and where it goes.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) host: Host,
    pub(crate) destination: Destination,
}

impl Client {
    pub(crate) fn of_name(host: &Host, name: &str) -> Self {
        let name = CachedName { name: name.into(), cached: Mutex::default() };
        Self { host: host.clone(), destination: Destination::Name(name) }
    }

    pub(crate) fn of_address(host: &Host, address: Ipv4Addr) -> Self {
        Self { host: host.clone(), destination: Destination::Fixed(address) }
    }

    /// Looks up, connects, logs in, uploads a new file, downloads it, compares, and quits, all of
    /// it within `limit`: how long it took, or what went wrong.
    pub(crate) fn transfer_once(&self, limit: Duration) -> Result<Duration, String> {
        self.host.inside(|| self.transfer(limit))
    }

    /// The same from a thread that is there already.
    pub(crate) fn transfer(&self, limit: Duration) -> Result<Duration, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let started = Instant::now();
        let number_of = NEXT.fetch_add(1, Ordering::Relaxed);
        let content = bytes(number_of, 10_000 + number(number_of, 90_000));
        let to = self.address()?;
        let work = || {
            let mut session = Session::open(SocketAddr::from((to, 21)), started + limit)?;
            session.command("USER alice", 331)?;
            session.command(&format!("PASS {PASSWORD}"), 230)?;
            session.command("TYPE I", 200)?;
            let name = format!("transfer-{}-{number_of}", std::process::id());
            let mut data = session.passive(to)?;
            session.command(&format!("STOR {name}"), 150)?;
            data.write_all(&content)?;
            data.shutdown(Shutdown::Write)?;
            data.read_to_end(&mut Vec::new())?;
            session.reply("STOR", 226)?;
            let mut data = session.passive(to)?;
            session.command(&format!("RETR {name}"), 150)?;
            let mut found = Vec::new();
            data.read_to_end(&mut found)?;
            session.reply("RETR", 226)?;
            if found != content {
                return Err(io::Error::other(format!("RETR gave {} other bytes", found.len())));
            }
            session.command("QUIT", 221)
        };
        work().map_err(|error: io::Error| format!("{to}: {error}"))?;
        Ok(started.elapsed())
    }

    /// What the destination stands for now, from the cache or not.
    pub(crate) fn address(&self) -> Result<Ipv4Addr, String> {
        match &self.destination {
            Destination::Fixed(address) => Ok(*address),
            Destination::Name(name) => name.resolve(),
        }
    }
}

impl CachedName {
    fn resolve(&self) -> Result<Ipv4Addr, String> {
        let mut cached = self.cached.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        if let Some((address, until)) = *cached
            && now < until
        {
            return Ok(address);
        }
        let (address, ttl) =
            look_up(&self.name).map_err(|error| format!("{}: {error}", self.name))?;
        *cached = Some((address, now + Duration::from_secs(ttl.into())));
        Ok(address)
    }
}

/// Asks the VPC's resolver from here: the first address and its TTL.
pub(crate) fn look_up(name: &str) -> io::Result<(Ipv4Addr, u32)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(CONNECT_LIMIT))?;
    socket.connect((Place::Aws.address(), 53))?;
    // RFC 1035 4.1: ID, RD, one question; the name in labels, type A, class IN.
    let mut query = vec![0x46, 0x47, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send(&query)?;
    let mut answer = [0; 512];
    let size = socket.recv(&mut answer)?;
    let answer = &answer[..size];
    let answers_well = answer.get(3).is_some_and(|flags| flags & 15 == 0);
    answers_well
        .then(|| first_address(answer.get(query.len()..)?))
        .flatten()
        .ok_or_else(|| io::Error::other("the resolver knows no address"))
}

/// What a record of type A says: its owner in labels or as a pointer, then type, class, TTL, length.
fn first_address(mut record: &[u8]) -> Option<(Ipv4Addr, u32)> {
    loop {
        match *record.first()? {
            0 => {
                record = record.get(1..)?;
                break;
            }
            0xc0.. => {
                record = record.get(2..)?;
                break;
            }
            length => record = record.get(1 + usize::from(length)..)?,
        }
    }
    let [0, 1, 0, 1, first, second, third, fourth, 0, 4, a, b, c, d, ..] = *record else {
        return None;
    };
    Some((Ipv4Addr::new(a, b, c, d), u32::from_be_bytes([first, second, third, fourth])))
}

/// A control connection that is over at a certain time.
struct Session {
    stream: BufReader<TcpStream>,
    end: Instant,
}

impl Session {
    fn open(to: SocketAddr, end: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, CONNECT_LIMIT)
            .map_err(|error| said("connect", &error))?;
        let mut session = Self { stream: BufReader::new(stream), end };
        session.reply("connect", 220)?;
        Ok(session)
    }

    fn command(&mut self, line: &str, code: u16) -> io::Result<()> {
        self.exchange(line, code).map(|_| ())
    }

    fn exchange(&mut self, line: &str, code: u16) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply(line, code)
    }

    /// The next reply, which is to have that code. Servers here say no more than one line.
    fn reply(&mut self, to: &str, code: u16) -> io::Result<String> {
        self.stream.get_ref().set_read_timeout(Some(left(self.end)?))?;
        let mut reply = String::new();
        self.stream.read_line(&mut reply).map_err(|error| said(to, &error))?;
        match reply.starts_with(&code.to_string()) {
            true => Ok(reply),
            false => Err(io::Error::other(format!("{to}: {reply:?}"))),
        }
    }

    /// A data connection to where 227 points, which is to be the same host.
    fn passive(&mut self, host: Ipv4Addr) -> io::Result<TcpStream> {
        let reply = self.exchange("PASV", 227)?;
        let to = pasv_address(&reply).ok_or_else(|| io::Error::other(reply.clone()))?;
        if to.ip() != host {
            return Err(io::Error::other(format!("227 names {to}")));
        }
        let data = TcpStream::connect_timeout(&to, CONNECT_LIMIT)
            .map_err(|error| said("data connection", &error))?;
        data.set_read_timeout(Some(left(self.end)?))?;
        data.set_write_timeout(Some(left(self.end)?))?;
        Ok(data)
    }
}

/// What a 227 names.
pub(crate) fn pasv_address(reply: &str) -> Option<SocketAddr> {
    let numbers = reply.split_once('(')?.1.split_once(')')?.0.split(',');
    let numbers: Vec<u8> = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low]))))
}

fn said(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
