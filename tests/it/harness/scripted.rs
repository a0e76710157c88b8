//! A server that does what no good server does: it cuts transfers where it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::ftp::{fin, reset};
use super::{address, bytes};

/// How it cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The data connection by RST; then it says 426.
    ResetData,
    /// Both connections by RST.
    ResetDataAndControl,
    /// As a process does that is killed: FIN on both, no reply.
    FinDataThenLeave,
    /// No transfer at all: NOOP gets a reply without end.
    EndlessReply,
}

/// A server whose transfers all end as [`Cut`] says, after `n` bytes of `RETR cut-after-n` or
/// `STOR cut-after-n`.
pub(crate) struct ScriptedServer {
    address: SocketAddr,
}

impl ScriptedServer {
    pub(crate) fn start(cut: Cut) -> Self {
        let listener = TcpListener::bind((address::unused(), 2121)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, cut));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(control: TcpStream, cut: Cut) -> Option<()> {
    let passive = TcpListener::bind((control.local_addr().unwrap().ip(), 0)).unwrap();
    let mut lines = BufReader::new(control.try_clone().unwrap());
    let say = |line: &str| (&control).write_all(format!("{line}\r\n").as_bytes()).ok();
    say("220 scripted")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let verb = line.get(..4).unwrap_or_default();
        match verb {
            "USER" => say("331 password")?,
            "PASS" => say("230 in")?,
            "EPSV" => say(&format!("229 ok (|||{}|)", passive.local_addr().unwrap().port()))?,
            "RETR" | "STOR" => {
                let after: usize = line.trim_end().rsplit('-').next().unwrap().parse().unwrap();
                say("150 go")?;
                let (mut data, _) = passive.accept().ok()?;
                if verb == "RETR" {
                    data.write_all(&bytes(1, after)).ok()?;
                } else {
                    data.read_exact(&mut vec![0; after]).ok()?;
                }
                match cut {
                    Cut::ResetData => {
                        reset(data);
                        say("426 cut")?;
                    }
                    Cut::ResetDataAndControl => {
                        reset(data);
                        reset(control.try_clone().unwrap());
                        return None;
                    }
                    Cut::FinDataThenLeave | Cut::EndlessReply => {
                        fin(&data);
                        return None;
                    }
                }
            }
            "NOOP" if cut == Cut::EndlessReply => {
                say("211-Status")?;
                while say(" and another line").is_some() {}
                return None;
            }
            _ => say("200 ok")?,
        }
    }
}

/// Listens, and hands each connection to `serve` in a thread of its own.
pub(crate) fn listen(serve: fn(TcpStream)) -> SocketAddr {
    listen_at((address::unused(), 2121).into(), serve)
}

/// The same at an address that is given.
pub(crate) fn listen_at(address: SocketAddr, serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || serve(stream))))
    });
    address
}

/// Accepts and never says anything.
pub(crate) fn mute() -> SocketAddr {
    listen(mutely)
}

/// Hears whatever comes until it ends.
pub(crate) fn mutely(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}
