//! A small FTP client that shows every reply and lets a test choose how a connection ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::servers::{PASSWORD, Server};

/// A control connection, in the clear unless it says otherwise.
#[derive(Debug)]
pub(crate) struct Ftp<S = TcpStream> {
    pub(super) stream: BufReader<S>,
}

/// What a control connection may run over.
pub(crate) trait Wire: Read + Write {
    /// The socket at the bottom.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// How a connection ended for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// One whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// All its lines as they came; what is no UTF-8 as U+FFFD.
    pub(crate) text: String,
}

impl Reply {
    /// Panics unless it has one of these codes.
    #[track_caller]
    pub(crate) fn expect(self, codes: &[u16]) -> Self {
        assert!(codes.contains(&self.code), "expected one of {codes:?}, got: {}", self.text);
        self
    }
}

impl Ftp {
    /// Connects and reads the banner.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::over(connect(to, None).unwrap())
    }

    /// Connects to whoever may not say 220.
    pub(crate) fn knock(to: SocketAddr) -> Self {
        Self::upon(connect(to, None).unwrap())
    }

    /// The same from a chosen address.
    pub(crate) fn knock_from(local: IpAddr, to: SocketAddr) -> Self {
        Self::upon(connect(to, Some(local)).unwrap())
    }

    /// Connects from a chosen address and reads the banner.
    pub(crate) fn connect_from(local: IpAddr, to: SocketAddr) -> Self {
        Self::over(connect(to, Some(local)).unwrap())
    }

    /// Connects and logs in as the server's user.
    pub(crate) fn login(to: SocketAddr, server: &Server) -> Self {
        let mut ftp = Self::connect(to);
        ftp.log_in(server);
        ftp
    }

    /// Uploads by `command`, such as `STOR name`, over PASV; gives the final reply.
    #[track_caller]
    pub(crate) fn upload(&mut self, command: &str, content: &[u8]) -> Reply {
        let address = self.pasv();
        let mut data = self.open(address);
        let first = self.command(command);
        if first.code >= 200 {
            return first;
        }
        data.write_all(content).unwrap();
        finish(data);
        self.reply()
    }

    /// Downloads or lists by `command`, such as `RETR name`, over PASV; gives the bytes and the final reply.
    #[track_caller]
    pub(crate) fn download(&mut self, command: &str) -> (Vec<u8>, Reply) {
        let address = self.pasv();
        let mut data = self.open(address);
        let first = self.command(command);
        if first.code >= 200 {
            return (Vec::new(), first);
        }
        let mut content = Vec::new();
        data.read_to_end(&mut content).unwrap();
        // Some servers wait for that before they reply.
        drop(data);
        (content, self.reply())
    }

    /// Starts a transfer: its data connection over PASV, its command, its 150.
    #[track_caller]
    pub(crate) fn begin(&mut self, command: &str) -> TcpStream {
        let address = self.pasv();
        let data = self.open(address);
        self.command(command).expect(&[150]);
        data
    }
}

impl<S: Wire> Ftp<S> {
    /// Over a connection whose banner may be still to come, or long read.
    pub(crate) fn upon(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The connection, without what was read ahead of it.
    pub(crate) fn into_inner(self) -> S {
        self.stream.into_inner()
    }

    /// What a line is sent over.
    pub(crate) fn wire(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    /// Over a connection that is there already; reads the banner.
    #[track_caller]
    pub(crate) fn over(stream: S) -> Self {
        let mut ftp = Self::upon(stream);
        ftp.reply().expect(&[220]);
        ftp
    }

    /// USER, PASS, and TYPE I.
    pub(crate) fn log_in(&mut self, server: &Server) {
        self.log_in_as(server.kind.user());
    }

    /// The same as a user whose server is not at hand.
    pub(crate) fn log_in_as(&mut self, user: &str) {
        self.command(&format!("USER {user}")).expect(&[331]);
        self.command(&format!("PASS {PASSWORD}")).expect(&[230]);
        self.command("TYPE I").expect(&[200]);
    }

    /// Sends a line.
    pub(crate) fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// Reads a reply, and panics when there is none.
    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// Reads a reply of one or more lines (RFC 959 4.2).
    pub(crate) fn try_reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        let mut start = 0;
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text += &String::from_utf8_lossy(&line);
            let line = &text[start..];
            if line.get(..3) == text.get(..3) && line.as_bytes().get(3) != Some(&b'-') {
                let code = text[..3].parse().map_err(|_| io::Error::other(text.clone()))?;
                return Ok(Reply { code, text });
            }
            start = text.len();
        }
    }

    /// Sends a line and reads the reply to it.
    #[track_caller]
    pub(crate) fn command(&mut self, line: &str) -> Reply {
        self.send(line);
        self.reply()
    }

    /// PASV, and the address that 227 names.
    #[track_caller]
    pub(crate) fn pasv(&mut self) -> SocketAddr {
        let reply = self.command("PASV").expect(&[227]);
        let (_, numbers) = reply.text.split_once('(').unwrap();
        let numbers: Vec<u8> = numbers
            .split_once(')')
            .unwrap()
            .0
            .split(',')
            .map(|number| number.parse().unwrap())
            .collect();
        let host: [u8; 4] = numbers[..4].try_into().unwrap();
        SocketAddr::from((host, u16::from_be_bytes([numbers[4], numbers[5]])))
    }

    /// EPSV, and the address of the control connection with the port that 229 names.
    #[track_caller]
    pub(crate) fn epsv(&mut self) -> SocketAddr {
        let reply = self.command("EPSV").expect(&[229]);
        let port = reply.text.split('|').nth(3).unwrap().parse().unwrap();
        SocketAddr::new(self.stream().peer_addr().unwrap().ip(), port)
    }

    /// A data connection from the control connection's own address.
    #[track_caller]
    pub(crate) fn open(&self, data: SocketAddr) -> TcpStream {
        let local = self.stream().local_addr().unwrap().ip();
        connect(data, Some(local))
            .unwrap_or_else(|error| panic!("cannot connect to {data}: {error}"))
    }

    /// The reply that ends a transfer: passes over 1yz.
    #[track_caller]
    pub(crate) fn final_reply(&mut self) -> Reply {
        loop {
            let reply = self.reply();
            if reply.code >= 200 {
                return reply;
            }
        }
    }

    /// Says that the client waits at `to`.
    #[track_caller]
    pub(crate) fn port(&mut self, to: SocketAddr) -> Reply {
        match to {
            SocketAddr::V4(four) => {
                let ([a, b, c, d], [high, low]) = (four.ip().octets(), to.port().to_be_bytes());
                self.command(&format!("PORT {a},{b},{c},{d},{high},{low}"))
            }
            SocketAddr::V6(six) => self.command(&format!("EPRT |2|{}|{}|", six.ip(), to.port())),
        }
    }

    /// The control connection itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.get_ref().socket()
    }

    /// Whether the other side has ended the control connection in order.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

/// Connects with a limit on the wait and on each later read and write.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(local) = from {
        // The port is chosen at connect, when four numbers decide whether it is free.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Ends an upload: FIN, then waits until the other side has closed too.
pub(crate) fn finish(mut data: TcpStream) {
    data.shutdown(Shutdown::Write).unwrap();
    let rest = data.read_to_end(&mut Vec::new());
    assert_eq!(rest.unwrap(), 0, "nothing comes back on an upload");
}

/// Everything until the end, and which end it was.
#[track_caller]
pub(crate) fn read_to_end(mut data: TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    match data.read_to_end(&mut bytes) {
        Ok(_) => (bytes, End::Fin),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (bytes, End::Reset),
        Err(error) => panic!("neither FIN nor RST: {error}"),
    }
}

/// Panics unless a connection is reset, as early as the connect or at the first read.
#[track_caller]
pub(crate) fn assert_nobody_there(to: SocketAddr, from: IpAddr) {
    if let Ok(stranger) = connect(to, Some(from)) {
        assert_eq!(read_to_end(stranger), (Vec::new(), End::Reset));
    }
}

/// Sends FIN, unless the other side has reset the connection already.
pub(crate) fn fin(data: &TcpStream) {
    let _ = data.shutdown(Shutdown::Write);
}

/// Ends a connection by RST.
pub(crate) fn reset(data: TcpStream) {
    SockRef::from(&data).set_linger(Some(Duration::ZERO)).unwrap();
    drop(data);
}
