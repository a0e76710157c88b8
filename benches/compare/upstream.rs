//! The FTP server behind all peers, in a process of its own. It drops what is stored and sends lines of
//! text, so that it is never the bottleneck.
//!
//! RETR takes the number of bytes for a name. Of what is stored only the size is kept, for SIZE.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::wire::{LINES, discard, send};

/// Where data connections arrive, the same at every peer: enough for all transfers of a crowd, as
/// each session needs a port to itself behind a balancer that shows one address for all clients.
pub(crate) const PASSIVE_PORTS: RangeInclusive<u16> = 8192..=8703;
/// How long a data connection may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all sessions share.
struct Shared {
    address: IpAddr,
    /// Ports that no session has at the moment.
    free: Mutex<VecDeque<TcpListener>>,
    sizes: Mutex<HashMap<String, u64>>,
}

/// A port that a session has for its next transfer.
struct Port {
    listener: Option<TcpListener>,
    shared: Arc<Shared>,
}

impl Port {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        // The one that has been free for longest, so that its connections are over.
        let listener = shared.free.lock().unwrap().pop_front()?;
        Some(Self { listener: Some(listener), shared: shared.clone() })
    }

    fn number(&self) -> u16 {
        self.listener.as_ref().unwrap().local_addr().unwrap().port()
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(timeout(PATIENCE, self.listener.as_ref().unwrap().accept()).await??.0)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shared.free.lock().unwrap().extend(self.listener.take());
    }
}

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listen = |port| listen(SocketAddr::new(address.ip(), port)).unwrap();
        let shared = Arc::new(Shared {
            address: address.ip(),
            free: Mutex::new(PASSIVE_PORTS.map(listen).collect()),
            sizes: Mutex::default(),
        });
        let clients = listen(address.port());
        loop {
            let (stream, _) = clients.accept().await.unwrap();
            // A client that is gone ends its session.
            tokio::spawn(session(stream, shared.clone()));
        }
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

async fn session(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (lines, mut replies) = stream.split();
    let mut lines = BufReader::with_capacity(256, lines);
    replies.write_all(b"220 Sink and source\r\n").await?;
    let (mut line, mut scratch, mut port) = (String::new(), Vec::new(), None);
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end();
        let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "USER" => "331 Password".into(),
            "PASS" => "230 Logged in".into(),
            "FEAT" => "211-Features:\r\n EPSV\r\n SIZE\r\n UTF8\r\n211 End".into(),
            "SYST" => "215 UNIX".into(),
            "TYPE" | "NOOP" | "OPTS" | "MODE" | "STRU" | "CWD" => "200 Fine".into(),
            "PWD" => "257 \"/\"".into(),
            "SIZE" => match shared.sizes.lock().unwrap().get(argument) {
                Some(size) => format!("213 {size}"),
                None => "550 Not here".into(),
            },
            verb @ ("EPSV" | "PASV") => {
                // The one before must be free again first.
                drop(port.take());
                port = Port::take(&shared);
                match &port {
                    Some(port) => passive(verb, shared.address, port.number()),
                    None => "425 No port is free".into(),
                }
            }
            verb @ ("STOR" | "RETR") => match port.take() {
                Some(port) => {
                    replies.write_all(b"150 Go on\r\n").await?;
                    let data = port.accept().await;
                    match transfer(verb, argument, data, &mut scratch, &shared).await {
                        Ok(()) => "226 Complete".into(),
                        Err(error) => format!("426 {error}"),
                    }
                }
                None => "425 EPSV first".into(),
            },
            "QUIT" => return replies.write_all(b"221 Goodbye\r\n").await,
            _ => "502 Not here".into(),
        };
        replies.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

fn passive(verb: &str, address: IpAddr, port: u16) -> String {
    if verb == "EPSV" {
        return format!("229 Entering extended passive mode (|||{port}|)");
    }
    let host = address.to_string().replace('.', ",");
    let [high, low] = port.to_be_bytes();
    format!("227 Entering passive mode ({host},{high},{low})")
}

async fn transfer(
    verb: &str,
    name: &str,
    data: io::Result<TcpStream>,
    scratch: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<()> {
    let mut data = data?;
    if verb == "STOR" {
        let size = discard(&data, scratch).await?;
        shared.sizes.lock().unwrap().insert(name.into(), size);
    } else {
        send(&data, &LINES, name.parse().map_err(io::Error::other)?).await?;
        data.shutdown().await?;
    }
    Ok(())
}
