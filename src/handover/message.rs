//! What two processes of one node say to each other, each message one JSON text in one packet.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::gateway::{CarriedBlock, Entry, Note};
use crate::ha::Carried;

/// The language of this version. Another one is understood as far as [`Message::Hello`],
/// [`Message::Welcome`] and [`Message::Refused`] go, which may get more fields and never lose one.
pub(super) const PROTOCOL: u32 = 1;

/// Reservations in one packet, so that it stays far below what a socket takes.
pub(super) const ENTRIES: usize = 200;

/// The same of blocks, whose messages may be long.
pub(super) const BLOCKS: usize = 10;

/// One packet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    /// The newer one's first word.
    Hello {
        protocol: u32,
        version: String,
        /// Where it will listen for clients.
        listeners: Vec<SocketAddr>,
    },
    /// The older one's answer. So many [`Message::Socket`] follow.
    Welcome {
        protocol: u32,
        version: String,
        /// Its number. What the kernel says is that of the process that made the socket.
        pid: i32,
        sockets: usize,
    },
    /// Or this one.
    Refused {
        protocol: u32,
        version: String,
        why: String,
        /// They have no listener in common, and so are not the same node.
        stranger: bool,
    },
    /// With the socket.
    Socket(Kind),
    /// From the newer one: it could serve now.
    Ready,
    /// Or it cannot.
    Failed { why: String },
    /// From the older one, which takes no clients any more: how things stand.
    State(Box<State>),
    /// With the line to it: a process that is older still, and finishes its sessions.
    Older(Process),
    /// Who is kept out.
    Blocks(Vec<CarriedBlock>),
    /// What sessions have reserved.
    Reservations(Vec<Entry>),
    /// That was all.
    Done,
    /// From the newer one: it serves. There is no way back.
    Serving,
    /// From the older one: it takes nothing any more, at no socket.
    Left,
    /// From then on.
    Note(Note),
}

/// Which socket goes with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Of `ftpgate status` and the like.
    Admin,
    /// At which the next process knocks.
    Bell,
    /// For clients, or for health and metrics: its address says it.
    Tcp,
}

/// What a process knows that its sockets do not tell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) pair: Carried,
    /// The number of the next session.
    pub(super) next_session: u64,
}

/// A process of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number on this machine.
    pub pid: i32,
    /// Its version of ftpgate.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_versions_may_say_more_in_their_first_words() {
        let hello = r#"{"hello":{"protocol":9,"version":"7.0.0","listeners":[],"more":[1]}}"#;
        let message: Message = serde_json::from_str(hello).unwrap();
        assert!(matches!(message, Message::Hello { protocol: 9, .. }));
        let refused =
            r#"{"refused":{"protocol":9,"version":"7.0.0","why":"x","stranger":false,"more":{}}}"#;
        let message: Message = serde_json::from_str(refused).unwrap();
        assert!(matches!(message, Message::Refused { protocol: 9, .. }));
    }
}
