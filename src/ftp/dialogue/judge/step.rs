//! What a judged session is put through.

use super::DataFailure;

/// What may happen to a session, in any order. What cannot happen in the state that the session
/// is in, is passed over.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Bytes from the client.
    Client(Vec<u8>),
    /// Bytes from the upstream.
    Upstream(Vec<u8>),
    /// The client's control connection ends.
    ClientClosed,
    /// The upstream's control connection ends for good.
    UpstreamClosed,
    /// The upstream's control connection is lost.
    UpstreamLost,
    /// Another one is there.
    UpstreamConnected,
    /// No other one can be had.
    ReconnectFailed,
    /// The timer runs out.
    Timeout,
    /// A client whose login was refused may hear of it; or is also shown the door.
    PenaltyOver { banned: bool },
    /// A passive port is reserved.
    Reserved,
    /// No passive port can be had.
    Exhausted,
    /// The client does not come to its port.
    Expired,
    /// The client's own port cannot be reached.
    Unreachable,
    /// The client's TLS handshake is done.
    Secured,
    /// The upstream's data port cannot be reached.
    DialFailed,
    /// Both data connections are open.
    Opened,
    /// The relay has moved 40 bytes and seen the end.
    Ended,
    /// The relay stops short.
    Failed(DataFailure),
}
