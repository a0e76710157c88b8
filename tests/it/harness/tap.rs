//! A listener-in on the control connections between gateway and server. It stays on the server's
//! side when the gateway dies, and so hears the verdict that the gateway can no longer hear.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::eventually;
use super::ftp::connect;

/// What was said, in the server's order.
#[derive(Debug, Clone)]
struct Said {
    /// The number of the control connection.
    session: usize,
    /// By the server, or else by the gateway.
    server: bool,
    line: String,
}

/// A tap before one server.
pub(crate) struct Tap {
    address: SocketAddr,
    said: Arc<Mutex<Vec<Said>>>,
}

impl Tap {
    /// On the server's own address, so that its passive ports are the tap's.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((server.ip(), server.port() + 1)).unwrap();
        let (address, said) = (listener.local_addr().unwrap(), Arc::default());
        let record: Arc<Mutex<Vec<Said>>> = Arc::clone(&said);
        thread::spawn(move || {
            for (session, gateway) in listener.incoming().flatten().enumerate() {
                // A server that was killed is not there.
                let Ok(server) = connect(server, None) else { continue };
                let (to_server, to_gateway) =
                    (server.try_clone().unwrap(), gateway.try_clone().unwrap());
                let (a, b) = (Arc::clone(&record), Arc::clone(&record));
                thread::spawn(move || copy(gateway, to_server, &a, session, false));
                thread::spawn(move || {
                    copy(server, to_gateway.try_clone().unwrap(), &b, session, true);
                    let _ = to_gateway.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, said }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's final reply to the transfer command that names `file`, once it has come.
    pub(crate) fn verdict(&self, file: &str) -> u16 {
        eventually("the server's verdict", || {
            let said = self.said.lock().unwrap();
            let at = said.iter().position(|said| !said.server && said.line.ends_with(file))?;
            let session = said[at].session;
            said[at..]
                .iter()
                .filter(|said| said.server && said.session == session)
                .filter_map(|said| said.line.get(..3)?.parse().ok())
                .find(|&code: &u16| code >= 200)
        })
    }
}

/// Passes lines on. The end is not passed on: the server shall believe that the gateway's control
/// connection lives, and judge a transfer by its data connection alone.
fn copy(from: TcpStream, mut to: TcpStream, said: &Mutex<Vec<Said>>, session: usize, server: bool) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = from.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        said.lock().unwrap().push(Said { session, server, line: text });
        let _ = to.write_all(&line);
        line.clear();
    }
}
