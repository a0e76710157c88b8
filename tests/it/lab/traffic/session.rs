//! A session of a client that takes nothing for granted: whatever goes wrong is told apart, and
//! everything that was said is kept.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::super::client::pasv_address;
use crate::harness::ftp::{Ftp, Reply, Wire};
use crate::harness::ftps::{Secure, Tls};
use crate::harness::servers::PASSWORD;

/// Longer than any time-out of a gateway and all of them that can follow each other in one wait, and
/// than what TCP adds: a reply that cut after cut meets is sent again 26, 51, 102 seconds later. Whoever
/// is silent for so long hangs.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(120);
/// How long a connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A peer that is gone without a word is found out after three of these.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Why a client cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It was told so, or nobody was there.
    Refused,
    /// A connection broke.
    Broken,
    /// Nothing happened for [`WATCHDOG`].
    Hung,
    /// What must not happen; what it is.
    Wrong(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        // The socket's own time-out, unlike keepalive's, says so.
        if error.kind() == io::ErrorKind::WouldBlock { Self::Hung } else { Self::Broken }
    }
}

/// How a session is.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) tls: Option<Tls>,
    pub(crate) active: bool,
    /// EPSV or EPRT, not PASV or PORT.
    pub(crate) extended: bool,
}

/// What was said, and when since the beginning of the run.
#[derive(Debug, Clone)]
pub(crate) struct Transcript {
    began: Instant,
    lines: Vec<String>,
}

impl Transcript {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, lines: Vec::new() }
    }

    pub(crate) fn add(&mut self, line: impl Display) {
        self.lines.push(format!("{:9.3} {line}", self.began.elapsed().as_secs_f64()));
    }
}

impl Display for Transcript {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(out, "    {line}"))
    }
}

/// A connection, in the clear or not.
#[derive(Debug)]
pub(crate) enum Line {
    Clear(TcpStream),
    Secure(Box<Secure>),
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(bytes),
            Self::Secure(stream) => stream.read(bytes),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}

impl Wire for Line {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Secure(stream) => &stream.sock,
        }
    }
}

impl Line {
    /// The end of what is sent: with TLS by close_notify first.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Self::Secure(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }

    /// RST when it is dropped.
    pub(crate) fn reset(self) {
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

/// A data connection, there or still to come.
pub(crate) enum Door {
    There(TcpStream),
    Expected(TcpListener),
}

/// A control connection and what it is for.
#[derive(Debug)]
pub(crate) struct Session {
    ftp: Ftp<Line>,
    pub(crate) manner: Manner,
    pub(crate) transcript: Transcript,
}

impl Session {
    /// Connects and logs in.
    pub(crate) fn open(
        from: IpAddr,
        to: SocketAddr,
        manner: Manner,
        mut transcript: Transcript,
    ) -> Result<Self, (Stop, Transcript)> {
        let stream = match connect(from, to) {
            Ok(stream) => stream,
            Err(error) => {
                transcript.add(format!("no connection to {to}: {error}"));
                return Err((Stop::Refused, transcript));
            }
        };
        transcript.add(format!("connected to {to} from {}", local(&stream)));
        Self { ftp: Ftp::upon(Line::Clear(stream)), manner, transcript }.log_in()
    }

    fn log_in(mut self) -> Result<Self, (Stop, Transcript)> {
        fn begin(session: &mut Session) -> Result<(), Stop> {
            session.expect_reply(&[220])?;
            if session.manner.tls.is_some() {
                session.expect("AUTH TLS", &[234])?;
            }
            Ok(())
        }
        fn end(session: &mut Session) -> Result<(), Stop> {
            session.expect("USER alice", &[331])?;
            session.expect(&format!("PASS {PASSWORD}"), &[230])?;
            if session.manner.tls.is_some() {
                session.expect("PBSZ 0", &[200])?;
                session.expect("PROT P", &[200])?;
            }
            Ok(())
        }
        if let Err(stop) = begin(&mut self) {
            return Err((stop, self.transcript));
        }
        let Self { mut ftp, manner, mut transcript } = self;
        if let (Some(tls), Line::Clear(_)) = (&manner.tls, ftp.wire()) {
            let Line::Clear(stream) = ftp.into_inner() else { unreachable!() };
            match tls.shake(stream) {
                Ok(secure) => ftp = Ftp::upon(Line::Secure(Box::new(secure))),
                Err(error) => {
                    transcript.add(format!("no TLS: {error}"));
                    return Err((error.into(), transcript));
                }
            }
        }
        let mut session = Self { ftp, manner, transcript };
        match end(&mut session) {
            Ok(()) => Ok(session),
            Err(stop) => Err((stop, session.transcript)),
        }
    }

    /// Sends a line.
    pub(crate) fn send(&mut self, line: &str) -> Result<(), Stop> {
        self.transcript.add(format!("> {line}"));
        self.ftp
            .wire()
            .write_all(format!("{line}\r\n").as_bytes())
            .map_err(|error| self.stopped(error))
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Result<Reply, Stop> {
        let reply = self.ftp.try_reply().map_err(|error| self.stopped(error))?;
        self.transcript.add(format!("< {}", reply.text.trim_end()));
        Ok(reply)
    }

    pub(crate) fn command(&mut self, line: &str) -> Result<Reply, Stop> {
        self.send(line)?;
        self.reply()
    }

    fn expect_reply(&mut self, codes: &[u16]) -> Result<Reply, Stop> {
        let reply = self.reply()?;
        match reply.code {
            code if codes.contains(&code) => Ok(reply),
            400.. => Err(Stop::Refused),
            code => Err(Stop::Wrong(format!("{code} came out of order"))),
        }
    }

    /// A command that has to be answered so.
    pub(crate) fn expect(&mut self, line: &str, codes: &[u16]) -> Result<Reply, Stop> {
        self.send(line)?;
        self.expect_reply(codes)
    }

    /// A data connection for the next transfer.
    pub(crate) fn door(&mut self) -> Result<Door, Stop> {
        let socket = self.ftp.stream();
        let (Ok(local), Ok(peer)) = (socket.local_addr(), socket.peer_addr()) else {
            return Err(Stop::Broken);
        };
        if self.manner.active {
            let listener = TcpListener::bind((local.ip(), 0))?;
            SockRef::from(&listener).set_read_timeout(Some(WATCHDOG))?;
            let port = listener.local_addr()?.port();
            let line = match (self.manner.extended, local.ip()) {
                (false, IpAddr::V4(ip)) => port_line(ip, port),
                (_, ip) => format!("EPRT |1|{ip}|{port}|"),
            };
            self.expect(&line, &[200])?;
            return Ok(Door::Expected(listener));
        }
        let to = if self.manner.extended {
            let reply = self.expect("EPSV", &[229])?;
            let port = reply.text.split('|').nth(3).and_then(|port| port.parse().ok());
            port.map(|port: u16| SocketAddr::new(peer.ip(), port))
        } else {
            pasv_address(&self.expect("PASV", &[227])?.text)
        };
        let to = to.ok_or_else(|| Stop::Wrong("no address in the reply".into()))?;
        if to.ip() != peer.ip() {
            return Err(Stop::Wrong(format!("another host in the reply: {to}")));
        }
        connect(local.ip(), to).map(Door::There).map_err(|error| self.stopped(error))
    }

    /// The data connection, after its 150.
    pub(crate) fn enter(&mut self, door: Door) -> Result<Line, Stop> {
        let stream = match door {
            Door::There(stream) => stream,
            Door::Expected(listener) => {
                let (stream, _) = listener.accept().map_err(|error| self.stopped(error))?;
                prepare(&stream).map_err(|error| self.stopped(error))?;
                stream
            }
        };
        match self.manner.tls.clone() {
            None => Ok(Line::Clear(stream)),
            Some(tls) => {
                let secure = tls.shake(stream).map_err(|error| self.stopped(error))?;
                Ok(Line::Secure(Box::new(secure)))
            }
        }
    }

    /// Leaves in order.
    pub(crate) fn quit(&mut self) -> Result<(), Stop> {
        self.expect("QUIT", &[221]).map(|_| ())
    }

    /// Sends FIN, and hears on.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.ftp.wire().finish()
    }

    /// Leaves without a word.
    pub(crate) fn leave(self) -> Transcript {
        self.ftp.into_inner().reset();
        self.transcript
    }

    pub(crate) fn stopped(&mut self, error: io::Error) -> Stop {
        self.transcript.add(format!("! {error}"));
        error.into()
    }
}

fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    // The port is chosen at connect, when four numbers decide whether it is free.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), CONNECT_LIMIT)?;
    let stream = socket.into();
    prepare(&stream)?;
    Ok(stream)
}

/// A peer whose end no packet tells of is found out, and one that only does nothing meets the watchdog.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(WATCHDOG))?;
    stream.set_write_timeout(Some(WATCHDOG))?;
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(KEEPALIVE * 6))
}

fn local(stream: &TcpStream) -> String {
    stream.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}

fn port_line(ip: Ipv4Addr, port: u16) -> String {
    let ([a, b, c, d], [high, low]) = (ip.octets(), port.to_be_bytes());
    format!("PORT {a},{b},{c},{d},{high},{low}")
}
