//! The Unix socket between two processes: packets that arrive whole or not at all, each with at most
//! one descriptor (SOCK_SEQPACKET, SCM_RIGHTS).

use std::fs::{Permissions, remove_file, set_permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, bind, connect, listen, recvmsg, sendmsg, shutdown, socket_with, sockopt,
};
use rustix::process::geteuid;
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixListener};
use tracing::warn;

use super::message::Message;

/// More than the longest packet.
const LONGEST: usize = 64 * 1024;
/// Processes that may wait to take over.
const BACKLOG: i32 = 16;
/// The owner alone; whoever gets in gets every socket.
const MODE: u32 = 0o600;
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// One end.
#[derive(Debug)]
pub(super) struct Wire {
    /// It is none, but what tokio has for packets.
    socket: UnixDatagram,
}

/// Where the next process knocks.
#[derive(Debug)]
pub struct Bell {
    socket: UnixListener,
}

/// Where the next process of the node knocks whose admin socket is there.
pub(super) fn beside(admin: &Path) -> PathBuf {
    let mut path = admin.as_os_str().to_owned();
    path.push(".handover");
    path.into()
}

// === impl Wire ===

impl Wire {
    /// Must be called within a Tokio runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = net::UnixDatagram::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixDatagram::from_std(socket)? })
    }

    /// Knocks. Must be called within a Tokio runtime.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::new(socket)
    }

    /// The process at the other end, if it may hear what this one says: the same user's, or root's.
    pub(super) fn peer(&self) -> io::Result<i32> {
        let peer = sockopt::socket_peercred(&self.socket)?;
        if peer.uid.is_root() || peer.uid == geteuid() {
            return Ok(peer.pid.as_raw_nonzero().get());
        }
        let why = format!("it is user {}'s", peer.uid.as_raw());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }

    /// Sends a packet, and a copy of a descriptor with it. Dropped before its end, it has sent
    /// nothing.
    pub(super) async fn send(
        &self,
        message: &Message,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let sockets = socket.as_slice();
        self.socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !sockets.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(sockets));
                }
                let bytes = [IoSlice::new(&bytes)];
                sendmsg(&self.socket, &bytes, &mut control, SendFlags::NOSIGNAL)?;
                Ok(())
            })
            .await
    }

    /// Receives a packet. Dropped before its end, it has received nothing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the other process has ended.
    pub(super) async fn receive(&self) -> io::Result<(Message, Option<OwnedFd>)> {
        self.socket.async_io(Interest::READABLE, || receive(self.socket.as_fd())).await
    }

    /// Hears nothing more but what has arrived already, which comes first: then the other process
    /// cannot believe that it was heard when it was not.
    pub(super) fn last_word(&self) -> Option<Message> {
        let _ = shutdown(&self.socket, Shutdown::Read);
        receive(self.socket.as_fd()).ok().map(|(message, _)| message)
    }

    /// The descriptor, for another process to go on with.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<(Message, Option<OwnedFd>)> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut sent = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            sent = sockets.last();
        }
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is cut"));
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // The connection is lost, and nothing else.
        warn!("no file descriptor is left for a socket of another process: raise LimitNOFILE");
    }
    let bytes = bytes.get(..received.bytes).unwrap_or_default();
    Ok((serde_json::from_slice(bytes)?, sent))
}

// === impl Bell ===

impl Bell {
    /// Makes the socket. One that a killed process has left is replaced.
    ///
    /// Must be called within a Tokio runtime.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        match remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        set_permissions(path, Permissions::from_mode(MODE))?;
        listen(&socket, BACKLOG)?;
        Self::new(socket)
    }

    /// One that is there already. Must be called within a Tokio runtime.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixListener::from_std(socket)? })
    }

    pub(super) async fn accept(&self) -> io::Result<Wire> {
        let (socket, _) = self.socket.accept().await?;
        Wire::new(socket.into_std()?.into())
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
pub(super) fn pair() -> [Wire; 2] {
    let (one, other) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).unwrap();
    [one, other].map(|end| Wire::new(end).unwrap())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::super::message::{Kind, Process};
    use super::*;

    #[tokio::test]
    async fn packets_arrive_whole_in_order_with_their_descriptor_and_the_end_is_told() {
        let [one, other] = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        one.send(&Message::Ready, None).await.unwrap();
        one.send(&Message::Socket(Kind::Tcp), Some(listener.as_fd())).await.unwrap();
        let version = "x".repeat(60_000);
        one.send(&Message::Older(Process { pid: 1, version: version.clone() }), None)
            .await
            .unwrap();
        assert!(matches!(other.receive().await.unwrap(), (Message::Ready, None)));
        let (message, socket) = other.receive().await.unwrap();
        assert!(matches!(message, Message::Socket(Kind::Tcp)));
        let copy = TcpListener::from(socket.unwrap());
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(copy.accept().unwrap().1, client.local_addr().unwrap());
        let (message, _) = other.receive().await.unwrap();
        assert!(matches!(message, Message::Older(process) if process.version == version));
        assert_eq!(one.peer().unwrap(), i32::try_from(std::process::id()).unwrap());
        drop(one);
        let ended = other.receive().await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn after_the_last_word_nothing_can_be_said() {
        let [one, other] = pair();
        one.send(&Message::Serving, None).await.unwrap();
        assert!(matches!(other.last_word(), Some(Message::Serving)));
        assert!(other.last_word().is_none());
        assert!(one.send(&Message::Serving, None).await.is_err());
    }

    #[tokio::test]
    async fn a_sender_waits_for_a_reader_that_is_slow() {
        const PACKETS: usize = 2_000;
        let [one, other] = pair();
        let send = async {
            for _ in 0..PACKETS {
                one.send(&Message::Done, None).await.unwrap();
            }
        };
        let receive = async {
            for _ in 0..PACKETS {
                other.receive().await.unwrap();
            }
        };
        tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn a_bell_is_the_owners_alone_and_replaces_one_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = beside(&directory.path().join("admin.sock"));
        drop(Bell::bind(&path).unwrap());
        let refused = Wire::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let bell = Bell::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let knocking = Wire::connect(&path).unwrap();
        let opened = bell.accept().await.unwrap();
        knocking.send(&Message::Ready, None).await.unwrap();
        assert!(matches!(opened.receive().await.unwrap().0, Message::Ready));
        let long = directory.path().join("x".repeat(120));
        assert!(Bell::bind(&long).is_err());
    }
}
