//! The session state machine.
//!
//! [`Dialogue`] stands between one client and one upstream and does no I/O. Its driver calls
//!
//! - `handle_*` with what came in: a client's line, an upstream's reply, news of the data
//!   connections, the end of a connection, a time-out;
//! - [`Dialogue::poll_action`] after each of them until it gives nothing, and performs what it says;
//! - [`Dialogue::waiting`] after that, to know which timer to run;
//! - [`Dialogue::wants_line`] before it reads from the client, so that a fast client waits in TCP
//!   and not in memory.
//!
//! Commands go upstream one at a time, so a reply belongs to the command in flight. Only STAT and
//! NOOP, and an ABOR before any byte can move, overtake, and only a transfer (RFC 959 4.1.3);
//! whose reply comes is then told by its code. ABOR of moving bytes resets them and is answered
//! here.
//!
//! What it promises, whatever the two peers do:
//!
//! - each command gets one final reply, in order, or the session ends;
//! - a 2yz for a transfer reaches the client only after every byte has been delivered and the
//!   upstream has said that it is complete; a FIN likewise ([`Action::FinishData`]). All else is a
//!   reset ([`Action::ResetData`]);
//! - the upstream's word is never trusted for an address, only for a port in the allowed range.

mod action;
mod active;
mod end;
mod location;
mod memory;
mod outcome;
mod passive;
mod permit;
mod representation;
mod resume;
mod security;
mod terms;
mod transfer;
mod turns;

#[cfg(test)]
mod judge;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::command::{Command, Direction, MalformedCommand, Verb};
use super::line::LineTooLong;
use super::reply::Reply;
#[cfg(test)]
use super::{line::Lines, reply::Replies};
pub use action::{Action, Waiting};
pub use active::CallbackRefusal;
pub use end::SessionEnd;
use location::Location;
pub use location::Place;
use memory::Memory;
pub use outcome::{Course, DataFailure, InFlight, Outcome, TransferEnd};
pub use passive::DataTarget;
use passive::PassiveRequest;
use permit::Permits;
pub use permit::{Commands, Permit, Verdict};
use resume::Link;
use security::Protection;
pub use security::Security;
pub use terms::{Ascii, Terms};
use transfer::Transfer;

/// Commands that may wait for their turn before no more are read; more than any client pipelines.
const QUEUE_LIMIT: usize = 64;
/// Commands that may wait for the end of a transfer, during which the client must be read: a NOOP
/// every half minute of eight hours, which some upstreams answer only then.
const TRANSFER_QUEUE_LIMIT: usize = 1024;
/// Bytes of all commands that wait; many are short, as a NOOP is.
const QUEUE_BYTES_LIMIT: usize = 64 * 1024;
/// Commands, and actions, for which room is kept when there are none: a session that is idle for hours
/// shall not keep that for the most it has ever had.
const ROOM: usize = 4;
/// Commands that may overtake one transfer at a time. pure-ftpd takes two that it reads at once
/// for one.
const OVERTAKER_LIMIT: usize = 1;

/// One session's conversation, as the module says.
#[derive(Debug)]
pub struct Dialogue {
    terms: Terms,
    actions: VecDeque<Action>,
    /// Client commands whose turn has not come.
    queue: VecDeque<Queued>,
    /// The sum of their sizes.
    queued_bytes: usize,
    /// What the upstream owes replies to: one, or a transfer and its overtakers behind it.
    pending: VecDeque<Pending>,
    link: Link,
    /// What another upstream connection must be told; `None` if there shall be none.
    memory: Option<Box<Memory>>,
    /// Where the client is; `None` if nobody wants to know.
    location: Option<Box<Location>>,
    channel: Channel,
    protection: Protection,
    permits: Permits,
    /// The client is in TYPE A, and the gateway translates.
    ascii: bool,
    user: Vec<u8>,
    logged_in: bool,
    /// The upstream has not refused EPSV so far.
    upstream_epsv: bool,
    /// The client has said EPSV ALL (RFC 2428 4).
    epsv_all: bool,
    /// Bytes that ALLO announced for the next upload.
    announced: Option<u64>,
    /// Where REST told the next transfer to start.
    restart: u64,
    /// The upstream has answered a nudge ahead of the broken transfer, whose 426 may yet come.
    overdue: bool,
    /// The client has sent QUIT: its leaving is no accident.
    quit: bool,
    client_closed: bool,
    closed: bool,
}

/// A client's turn that has not come yet.
#[derive(Debug)]
enum Queued {
    Command(Command),
    /// The answer to a line that is no command, kept in its place.
    Reply(Reply),
}

/// What the upstream owes a final reply to.
#[derive(Debug)]
enum Pending {
    /// The client's TYPE A, for which the upstream was told TYPE I.
    Ascii(Command),
    /// A transfer that waits for [`Dialogue::handle_transfer_verdict`].
    Asked(Command, Direction),
    /// A transfer of which the upstream hears when the client has been called.
    Calling(Command, Direction),
    Command(Command),
    /// A TYPE I of our own, as [`Dialogue::translate_by_default`] says.
    Image,
    /// A USER that waits for [`Dialogue::handle_verdict`].
    Judged(Command),
    /// A PWD of our own, as [`Dialogue::remember`] says.
    Locate,
    /// A NOOP or REST of our own, as [`Dialogue::nudge`] and [`Dialogue::forget_restart`] say.
    Nudge,
    Passive(PassiveRequest),
    /// The refusal of a login, kept back until [`Dialogue::handle_penalty_over`].
    Penalty(Reply),
    Transfer(Box<Transfer>),
}

/// The data connection that the client has been promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    /// None, or used up.
    Absent,
    /// The client waits for a connection to the port that it has named.
    Callback,
    /// A 227 or 229 has been given.
    Ready,
    /// Both sides are connected.
    Open,
    /// The client's is given up, and the upstream's opened only to be reset.
    Refused,
}

// === impl Queued ===

impl Queued {
    /// What it takes, roughly, in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Command(command) => command.len(),
            Self::Reply(reply) => reply.bytes().len(),
        }
    }
}

// === impl Dialogue ===

impl Dialogue {
    /// A session whose upstream has sent its banner.
    pub fn new(terms: Terms) -> Self {
        Self {
            actions: VecDeque::new(),
            queue: VecDeque::with_capacity(1),
            queued_bytes: 0,
            pending: VecDeque::with_capacity(1),
            link: Link::Up,
            memory: terms.resume.then(Box::default),
            location: terms.locate.then(Box::default),
            protection: Protection::new(terms.security),
            permits: Permits::new(terms.permit.clone()),
            ascii: terms.ascii == Ascii::TranslateByDefault,
            terms,
            channel: Channel::Absent,
            user: Vec::new(),
            logged_in: false,
            upstream_epsv: true,
            epsv_all: false,
            announced: None,
            restart: 0,
            overdue: false,
            quit: false,
            client_closed: false,
            closed: false,
        }
    }

    /// A line from the client, as a command if it is one, or the news that one was too long.
    pub fn handle_line(&mut self, line: Result<Result<Command, MalformedCommand>, LineTooLong>) {
        if self.closed {
            return;
        }
        let queued = match line {
            // The reset tells the upstream; ABOR as well would race with it, and some servers
            // answer such a pair once, others twice.
            Ok(Ok(command)) if command.verb() == Verb::Abor && self.abort_transfer() => {
                Queued::Reply(Reply::new(226, "ABOR command successful."))
            }
            Ok(Ok(command)) => Queued::Command(command),
            Ok(Err(MalformedCommand::Empty)) => {
                Queued::Reply(Reply::new(500, "Empty command line."))
            }
            Ok(Err(error)) => {
                Queued::Reply(Reply::new(501, format_args!("Not forwarded: {error}.")))
            }
            Err(LineTooLong) => Queued::Reply(Reply::new(500, "Command line too long.")),
        };
        let queued = match queued {
            Queued::Command(command) if self.may_overtake(&command) => {
                return self.forward(command);
            }
            queued => queued,
        };
        if let Queued::Command(command) = &queued {
            self.quit |= command.verb() == Verb::Quit;
        }
        self.queued_bytes += queued.size();
        self.queue.push_back(queued);
        if self.queue.len() > TRANSFER_QUEUE_LIMIT || self.queued_bytes > QUEUE_BYTES_LIMIT {
            self.give_up(SessionEnd::ProtocolError, "Too many commands at once.");
        }
        self.pump();
    }

    /// A reply from the upstream.
    pub fn handle_reply(&mut self, reply: Reply) {
        if self.closed {
            return;
        }
        if matches!(self.link, Link::Replaying { .. }) {
            return self.handle_replay_reply(&reply);
        }
        self.note_answer();
        if reply.code() == 421 {
            self.finish_unanswered(Outcome::UpstreamFailed, None);
            self.end_penalty();
            self.tell(reply);
            self.close(SessionEnd::UpstreamClosed);
            return;
        }
        if self.overdue && reply.code() == 426 {
            // Taken for the next command's it would put every later answer one command too late.
            self.overdue = false;
            return;
        }
        match self.pending.front_mut() {
            // Nobody asked: passing it on would put every later answer one command too late.
            None
            | Some(
                Pending::Asked(..)
                | Pending::Calling(..)
                | Pending::Judged(_)
                | Pending::Penalty(_),
            ) => {}
            Some(Pending::Passive(_)) => self.handle_passive_reply(reply),
            Some(Pending::Transfer(_)) => self.handle_transfer_reply(reply),
            Some(Pending::Command(_)) if reply.is_preliminary() => self.tell(reply),
            Some(Pending::Ascii(_)) if reply.is_preliminary() => {}
            Some(Pending::Ascii(_)) => self.handle_ascii_reply(reply),
            Some(Pending::Image | Pending::Locate) if reply.is_preliminary() => {}
            Some(Pending::Image) => self.handle_image_reply(&reply),
            Some(Pending::Locate) => self.handle_location(&reply),
            Some(Pending::Nudge) => {
                self.pending.pop_front();
            }
            Some(Pending::Command(_)) => {
                if let Some(Pending::Command(command)) = self.pending.pop_front() {
                    self.finish_command(&command, reply);
                }
            }
        }
        self.pump();
    }

    /// The client's control connection has ended: by FIN, after which it may still read.
    pub fn handle_client_closed(&mut self) {
        self.client_closed = true;
        if !self.quit && self.in_transfer() {
            self.handle_client_lost();
        }
        self.pump();
    }

    /// The client's control connection is broken: nothing more can be read or written.
    pub fn handle_client_lost(&mut self) {
        self.client_closed = true;
        self.finish_unanswered(Outcome::ClientFailed, None);
        self.close(SessionEnd::ClientClosed);
    }

    /// The upstream's control connection has ended or made no sense; `why` is told to the client.
    pub fn handle_upstream_closed(&mut self, end: SessionEnd, why: &str) {
        if self.quit_in_flight() && !self.closed {
            self.tell(Reply::new(221, "Goodbye."));
            self.close(SessionEnd::Quit);
            return;
        }
        if self.link.is_resuming() {
            self.tell_resumed(false);
        }
        self.give_up(end, why);
    }

    /// The client began with a header of the PROXY protocol, and is nobody whose word counts.
    pub fn handle_proxy_header(&mut self) {
        if self.closed {
            return;
        }
        self.answer(500, "A PROXY protocol header is not taken from your address.");
        self.close(SessionEnd::ProxyHeader);
    }

    /// The timer of [`Dialogue::waiting`] has run out.
    pub fn handle_timeout(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Nothing => {}
            Waiting::Command => self.give_up(SessionEnd::IdleTimeout, "Idle for too long."),
            Waiting::Handshake => {
                self.give_up(SessionEnd::HandshakeTimeout, "No TLS handshake in time.");
            }
            Waiting::Login => self.give_up(SessionEnd::LoginTimeout, "No login in time."),
            Waiting::Reply | Waiting::Settle => {
                self.give_up(SessionEnd::ReplyTimeout, "The FTP server does not answer.");
            }
            Waiting::Nudge => self.nudge(),
            Waiting::Resume => self.give_up_resume("No FTP server answers; try again later."),
            Waiting::Retry { .. } => self.retry_passive(),
            Waiting::DataConnect => {
                self.refuse_data(
                    Outcome::ClientFailed,
                    "Can't open data connection: nobody came to it in time.",
                );
            }
        }
    }

    /// This node stops and waits no longer.
    pub fn handle_drain(&mut self) {
        self.give_up(SessionEnd::Drained, "This gateway is stopping; please connect again.");
    }

    /// An operator ends this session and no other.
    pub fn handle_kill(&mut self) {
        self.give_up(SessionEnd::Killed, "This session was ended by the operator.");
    }

    /// What to do next; nothing when all is done until the next event.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() && self.pending.is_empty() && self.queue.is_empty() {
            self.actions.shrink_to(ROOM);
            self.pending.shrink_to(ROOM);
            self.queue.shrink_to(ROOM);
        }
        action
    }

    /// The timer that the session is under now.
    pub fn waiting(&self) -> Waiting {
        if self.link.is_resuming() {
            return Waiting::Resume;
        }
        if self.protection.is_securing() {
            return Waiting::Handshake;
        }
        match self.pending.front() {
            Some(Pending::Passive(request)) if request.is_pausing() => request.waiting(),
            _ if !self.logged_in => Waiting::Login,
            None => Waiting::Command,
            Some(
                Pending::Ascii(_)
                | Pending::Asked(..)
                | Pending::Command(_)
                | Pending::Image
                | Pending::Judged(_)
                | Pending::Locate
                | Pending::Nudge,
            ) => Waiting::Reply,
            Some(Pending::Penalty(_)) => Waiting::Nothing,
            Some(Pending::Calling(..)) => Waiting::DataConnect,
            Some(Pending::Passive(request)) => request.waiting(),
            Some(Pending::Transfer(transfer)) => transfer.waiting(),
        }
    }

    /// Whether to read from the client now. While a transfer runs, always: an ABOR or the
    /// client's death must be seen.
    pub fn wants_line(&self) -> bool {
        let room = self.queue.len() < QUEUE_LIMIT && self.queued_bytes < QUEUE_BYTES_LIMIT / 2;
        !self.closed && !self.protection.is_securing() && (room || self.in_transfer())
    }

    /// Whether nothing is in flight: neither a command nor a transfer.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.queue.is_empty()
    }

    /// Whether the client has logged in.
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// The transfer in flight, if there is one.
    pub fn transfer(&self) -> Option<InFlight<'_>> {
        match self.pending.front() {
            Some(Pending::Transfer(transfer)) => Some(transfer.shown(self.protection.private)),
            _ => None,
        }
    }

    /// Whether a transfer command is in flight.
    pub fn in_transfer(&self) -> bool {
        matches!(self.pending.front(), Some(Pending::Calling(..) | Pending::Transfer(_)))
    }

    /// Whether the session has ended: behind what is still to be performed there is [`Action::Close`].
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the client's control connection has ended.
    pub fn client_closed(&self) -> bool {
        self.client_closed
    }

    /// The argument of the last USER.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// A final reply of the gateway's own.
    fn answer(&mut self, code: u16, text: &str) {
        self.tell(Reply::new(code, text));
    }

    fn tell(&mut self, reply: Reply) {
        self.actions.push_back(Action::ToClient(reply.into_bytes()));
    }

    /// Takes back the data connection that a 227 or 229 promised.
    fn drop_channel(&mut self) {
        if self.channel != Channel::Absent {
            self.channel = Channel::Absent;
            self.actions.push_back(Action::ResetData);
        }
    }
}
