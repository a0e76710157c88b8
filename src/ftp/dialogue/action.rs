//! What the dialogue asks of its driver.

use std::net::SocketAddr;

#[cfg(doc)]
use super::Dialogue;
use super::{CallbackRefusal, Course, DataTarget, Place, SessionEnd, TransferEnd};
use crate::ftp::command::{Direction, Line};

/// What the driver is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Say whether one more transfer may begin, by [`Dialogue::handle_transfer_verdict`]. If so, its
    /// place is taken until its audit line.
    AskTransfer,
    /// Write the audit line of a transfer.
    Audit(TransferEnd),
    /// PORT or EPRT: keep in mind where the client waits, and where the upstream does.
    AwaitTransfer {
        /// The client's port.
        to: SocketAddr,
        /// The upstream's.
        target: DataTarget,
    },
    /// Connect to the client's port, then to the upstream's, and say
    /// [`Dialogue::handle_data_opened`], [`Dialogue::handle_client_unreachable`] or
    /// [`Dialogue::handle_dial_failed`].
    CallBack,
    /// A PORT or EPRT that could do harm has been refused.
    CallbackRefused(CallbackRefusal),
    /// Flush what goes to the client and end the session.
    Close(SessionEnd),
    /// A command was refused for a rule.
    CommandDenied {
        /// The driver's number of that rule.
        rule: usize,
    },
    /// A file was deleted or renamed.
    FileGone {
        /// Where it was, if somebody knows.
        from: Option<Place>,
        /// Where it is, if it was renamed to where somebody knows.
        to: Option<Place>,
    },
    /// The transfer is proven complete: send FIN to the data connection's receiver.
    FinishData,
    /// Say whether this user may log in, by [`Dialogue::handle_verdict`].
    Judge {
        /// The argument of USER.
        user: Vec<u8>,
    },
    /// A login was answered.
    Login {
        /// By 230, not by 530.
        accepted: bool,
    },
    /// A session that was to go on at another endpoint for its user's sake does so, or cannot.
    Moved {
        /// It goes on.
        succeeded: bool,
    },
    /// The upstream has refused a login. Say [`Dialogue::handle_penalty_over`] when the client may
    /// hear of it.
    Penalise,
    /// Connect to an endpoint again, one that [`Dialogue::latest_rule`] permits, wait for its banner, and say
    /// [`Dialogue::handle_upstream_connected`] or [`Dialogue::handle_reconnect_failed`].
    Reconnect,
    /// The upstream waits for a data connection that will not come: open it and reset it, so that
    /// it says so now and not in a minute.
    RefuseData,
    /// Move bytes that way until the sender's EOF, then say [`Dialogue::handle_data_ended`].
    Relay(Course),
    /// An upload's final reply is there: close its data connections in order.
    ReleaseData,
    /// Reserve a passive port; when the client comes to it, dial this upstream target.
    ReservePort(DataTarget),
    /// Give up the data connections and the reserved port; whatever is open is reset.
    ResetData,
    /// A session whose upstream was lost goes on, or cannot.
    Resume {
        /// It goes on.
        succeeded: bool,
    },
    /// Send this to the client, the last in the clear, and let it shake hands; then say
    /// [`Dialogue::handle_secured`]. If it has sent anything behind its AUTH, say
    /// [`Dialogue::handle_plaintext_behind_auth`] instead and send nothing.
    StartTls(Vec<u8>),
    /// Send to the client.
    ToClient(Vec<u8>),
    /// Send to the upstream.
    ToUpstream(Line),
    /// A transfer command has gone upstream: from here its time counts.
    TransferStarted(Direction),
    /// It writes to this place, until its audit line.
    UploadStarted(Place),
}

/// Which timer the session is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// For the client's next command (idle).
    Command,
    /// For the data connections of a transfer command.
    DataConnect,
    /// For the client's TLS handshake.
    Handshake,
    /// For a login to succeed, from the start or from REIN.
    Login,
    /// For something that has a limit of its own: the relay, the port pool.
    Nothing,
    /// To ask an upstream that keeps silent after a broken transfer whether it is done with it.
    Nudge,
    /// For the upstream to answer.
    Reply,
    /// For another upstream connection to be where the lost one was.
    Resume,
    /// To ask the upstream again for a passive port.
    Retry {
        /// 1 for the first time; each pause should be longer than the one before.
        attempt: u8,
    },
    /// For the upstream to admit that a transfer has failed.
    Settle,
}
