//! A raw FTP client: every line and every FIN and RST in the test's own hand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::apache::{PASSWORD, USER};

/// A control connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    from: Ipv4Addr,
}

/// A reply with all its lines.
#[derive(Debug, Clone)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

/// How a connection ended for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

impl Client {
    /// Connects from 127.0.0.1 and reads the banner.
    pub fn connect(to: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, to)
    }

    /// Connects from a loopback address and reads the banner.
    pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Self {
        let mut client = Self::open(from, to);
        assert_eq!(client.reply().code, 220);
        client
    }

    /// Connects and reads nothing.
    pub fn open(from: Ipv4Addr, to: SocketAddr) -> Self {
        let stream = connect(from, to).unwrap();
        Self { stream: BufReader::new(stream), from }
    }

    /// Connects and logs in.
    pub fn login(to: SocketAddr) -> Self {
        Self::login_from(Ipv4Addr::LOCALHOST, to)
    }

    /// Connects from a loopback address and logs in.
    pub fn login_from(from: Ipv4Addr, to: SocketAddr) -> Self {
        let mut client = Self::connect_from(from, to);
        assert_eq!(client.command(&format!("USER {USER}")).code, 331);
        assert_eq!(client.command(&format!("PASS {PASSWORD}")).code, 230);
        assert_eq!(client.command("TYPE I").code, 200);
        client
    }

    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a line and reads its first reply.
    pub fn command(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// The next reply; fails the test if there is none.
    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a reply")
    }

    /// The next reply, or how the connection ended.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            text += &line;
            let code = text.get(..3).and_then(|digits| digits.parse().ok());
            let code = code.unwrap_or_else(|| panic!("no reply: {text:?}"));
            let closes = line.get(..3) == text.get(..3) && line.get(3..4) != Some("-");
            if closes {
                return Ok(Reply { code, text });
            }
        }
    }

    /// The final reply to a transfer: passes over 1yz.
    pub fn final_reply(&mut self) -> Reply {
        loop {
            let reply = self.reply();
            if reply.code >= 200 {
                return reply;
            }
        }
    }

    /// PASV; the address that the 227 names.
    pub fn pasv(&mut self) -> SocketAddr {
        let reply = self.command("PASV");
        assert_eq!(reply.code, 227, "{}", reply.text);
        let inside = reply.text.split(['(', ')']).nth(1).unwrap();
        let numbers: Vec<u8> = inside.split(',').map(|number| number.parse().unwrap()).collect();
        let &[a, b, c, d, high, low] = numbers.as_slice() else { panic!("{}", reply.text) };
        (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()
    }

    /// EPSV; the address to connect to.
    pub fn epsv(&mut self) -> SocketAddr {
        let reply = self.command("EPSV");
        assert_eq!(reply.code, 229, "{}", reply.text);
        let port = reply.text.split('|').nth(3).unwrap().parse().unwrap();
        SocketAddr::new(self.stream().peer_addr().unwrap().ip(), port)
    }

    /// PASV and its data connection.
    pub fn data(&mut self) -> TcpStream {
        let to = self.pasv();
        connect(self.from, to).unwrap()
    }

    /// Starts a transfer: data connection first, then the command, then its 150.
    pub fn begin(&mut self, command: &str) -> TcpStream {
        let data = self.data();
        let reply = self.command(command);
        assert_eq!(reply.code, 150, "{}", reply.text);
        data
    }

    /// Uploads in good order; the final reply.
    pub fn store(&mut self, name: &str, bytes: &[u8]) -> Reply {
        let mut data = self.data();
        self.send(format!("STOR {name}\r\n"));
        data.write_all(bytes).unwrap();
        drop(data);
        self.final_reply()
    }

    /// Downloads in good order; the bytes and the final reply.
    pub fn retrieve(&mut self, command: &str) -> (Vec<u8>, Reply) {
        let data = self.data();
        self.send(format!("{command}\r\n"));
        let (bytes, end) = read_to_end(data);
        let reply = self.final_reply();
        assert!(reply.code >= 400 || end == End::Fin, "reset, and yet {}", reply.text);
        (bytes, reply)
    }
}

/// A TCP connection from a chosen loopback address.
pub fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if to.is_ipv4() && from != Ipv4Addr::LOCALHOST {
        socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Everything until the end, and which end it was.
pub fn read_to_end(mut stream: TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, End::Fin),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (bytes, End::Reset),
        Err(error) => panic!("neither FIN nor RST: {error}"),
    }
}

/// Closes with RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends FIN and keeps reading.
pub fn fin(stream: &TcpStream) {
    // The other side may have reset it already.
    let _ = stream.shutdown(Shutdown::Write);
}

/// Status and body of a GET.
pub fn http_get(to: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = connect(Ipv4Addr::LOCALHOST, to).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
