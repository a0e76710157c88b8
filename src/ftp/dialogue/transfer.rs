//! A transfer: its command, its bytes, its final reply, and which of them the client may see.

use super::outcome::{Course, DataFailure, InFlight, Outcome, TransferEnd};
use super::{Action, Channel, Dialogue, OVERTAKER_LIMIT, Pending, Waiting};
use crate::ftp::command::{Command, Direction, Line, Verb};
use crate::ftp::reply::Reply;

/// A transfer command in flight.
#[derive(Debug)]
pub(super) struct Transfer {
    verb: Verb,
    path: Vec<u8>,
    direction: Direction,
    ascii: bool,
    data: DataState,
    /// The size that ALLO announced for it.
    announced: Option<u64>,
    /// The upstream's file will have the bytes that it is sent, no more and no others.
    as_sent: bool,
    /// A 1yz has come.
    preliminary: bool,
    /// The upstream's final reply, kept until the data has caught up with it.
    held: Option<Reply>,
    /// Replies to overtakers that came behind a held final reply.
    late: Vec<Reply>,
    /// Why it failed, once it has.
    cause: Option<Outcome>,
    /// What the client is told of that, if we know better than the upstream.
    verdict: Option<&'static str>,
    /// The client already has its final reply; the upstream's will be swallowed.
    answered: bool,
    /// The upstream's data connection was open, so the upstream knows that it is no more.
    connected: bool,
    /// The upstream has been asked whether it is done.
    nudged: bool,
}

/// How far the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataState {
    /// A data connection is missing.
    Waiting,
    /// Bytes move.
    Running,
    /// A download's bytes are all with the client; FIN waits for the upstream's 2yz.
    Ended,
    /// An upload's bytes and its FIN are all with the upstream.
    Finished,
    /// They were reset.
    Failed,
}

impl Transfer {
    /// What an operator is told of it.
    pub(super) fn shown(&self, private: bool) -> InFlight<'_> {
        let Self { verb, path, direction, ascii, announced, .. } = self;
        let announced = announced.filter(|_| *direction == Direction::Upload);
        InFlight { verb: *verb, path, direction: *direction, ascii: *ascii, private, announced }
    }

    pub(super) fn waiting(&self) -> Waiting {
        match self.data {
            DataState::Failed if self.connected && !self.nudged => Waiting::Nudge,
            _ if self.answered => Waiting::Settle,
            DataState::Waiting => Waiting::DataConnect,
            DataState::Running => Waiting::Nothing,
            DataState::Ended | DataState::Finished => Waiting::Reply,
            DataState::Failed => Waiting::Settle,
        }
    }

    /// Whether only bytes are missing: the upstream has said its last word.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some() && self.data == DataState::Running && !self.answered
    }

    /// Whether this final reply answers a command that overtook the transfer, told by its code:
    /// 226 and 250 end a transfer, 200, 211, 221, 225 and the like do not; once data has been
    /// promised by a 1yz, "unknown command" is not about the transfer either.
    fn is_overtakers(&self, reply: &Reply) -> bool {
        match reply.code() {
            226 | 250 => false,
            200..=299 => true,
            500..=504 => self.preliminary,
            _ => false,
        }
    }
}

impl Dialogue {
    /// Both data connections are open.
    pub fn handle_data_opened(&mut self) {
        if self.channel == Channel::Ready {
            self.channel = Channel::Open;
        }
        if let Some(Pending::Calling(..)) = self.pending.front() {
            if let Some(Pending::Calling(command, direction)) = self.pending.pop_front() {
                self.launch_transfer(command, direction);
            }
            return;
        }
        if let Some(Pending::Transfer(transfer)) = self.pending.front_mut()
            && transfer.data == DataState::Waiting
            && !transfer.answered
        {
            transfer.data = DataState::Running;
            transfer.connected = true;
            self.actions.push_back(Action::Relay(Course {
                direction: transfer.direction,
                ascii: transfer.ascii,
                private: self.protection.private,
            }));
        } else if let Some(Pending::Transfer(transfer)) = self.pending.front_mut() {
            // Aborted meanwhile.
            transfer.connected = true;
            self.drop_channel();
        }
    }

    /// What [`Action::RefuseData`] asked for is done.
    pub fn handle_data_refused(&mut self) {
        if let Some(Pending::Transfer(transfer)) = self.pending.front_mut() {
            transfer.connected = true;
        }
    }

    /// The upstream's data port could not be reached. A transfer in flight waits for the
    /// upstream's word: it may have refused the command and closed the port for that.
    pub fn handle_dial_failed(&mut self) {
        let why = "Can't open data connection: the FTP server's port cannot be reached.";
        if self.refuse_call(Outcome::UpstreamFailed, Some((425, why))) {
            return self.pump();
        }
        self.drop_channel();
        self.fail_transfer(Outcome::UpstreamFailed);
        self.settle();
        self.pump();
    }

    /// The client did not come to its reserved port in time.
    pub fn handle_reservation_expired(&mut self) {
        self.refuse_data(
            Outcome::ClientFailed,
            "Can't open data connection: nobody came to it in time.",
        );
    }

    /// The sender has closed in order and every one of its `bytes` has been delivered. The driver
    /// must have handed over all that the client's control connection holds before it says so: a
    /// client that dies sends FIN on both, the control connection's first. `bytes` are those that
    /// the sender sent, before any translation.
    pub fn handle_data_ended(&mut self, bytes: u64) {
        let client_gone = self.client_closed && !self.quit;
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else { return };
        if transfer.data != DataState::Running {
            return;
        }
        if transfer.direction != Direction::Upload {
            transfer.data = DataState::Ended;
        } else if client_gone || transfer.announced.is_some_and(|announced| bytes < announced) {
            self.fail_transfer(Outcome::ClientFailed);
        } else {
            transfer.data = DataState::Finished;
            self.actions.push_back(Action::FinishData);
        }
        self.settle();
        self.pump();
    }

    /// The relay stopped short.
    pub fn handle_data_failed(&mut self, failure: DataFailure) {
        let verdict = match failure {
            DataFailure::NoTls => Some("Can't open data connection: no TLS handshake on it."),
            DataFailure::NotResumed => Some(
                "Can't open data connection: it must resume the TLS session of the control connection.",
            ),
            _ => None,
        };
        if let Some(Pending::Transfer(transfer)) = self.pending.front_mut()
            && transfer.data == DataState::Running
        {
            transfer.verdict = verdict;
        }
        self.fail_transfer(match failure {
            DataFailure::Idle => Outcome::GatewayFailed,
            DataFailure::Upstream => Outcome::UpstreamFailed,
            _ => Outcome::ClientFailed,
        });
        self.settle();
        self.pump();
    }

    pub(super) fn start_transfer(&mut self, command: Command, direction: Direction) {
        if self.channel == Channel::Absent {
            let why = match self.terms.active {
                true => "Use PASV, EPSV, PORT or EPRT first.",
                false => "Use PASV or EPSV first.",
            };
            return self.refuse_transfer(&command, 425, why);
        }
        if self.await_upstream(&command) || self.ask_transfer(&command, direction) {
            return;
        }
        self.launch_transfer(command, direction);
    }

    /// Begins a transfer that may: the client is called first, if it waits for that.
    pub(super) fn launch_transfer(&mut self, command: Command, direction: Direction) {
        if self.channel == Channel::Callback {
            // First of all, as an upstream that has heard of an upload waits for its bytes, deaf to
            // ABOR, for as long as it likes.
            self.channel = Channel::Ready;
            self.actions.push_back(Action::CallBack);
            self.pending.push_back(Pending::Calling(command, direction));
            return;
        }
        // lftp announces the whole file also when it resumes an upload.
        let restart = std::mem::take(&mut self.restart);
        let announced = self.announced.take().map(|size| size.saturating_sub(restart));
        let as_sent = self.locate_upload(&command, restart);
        self.actions.push_back(Action::TransferStarted(direction));
        self.actions.push_back(Action::ToUpstream(command.to_line()));
        self.pending.push_back(Pending::Transfer(Box::new(Transfer {
            verb: command.verb(),
            path: command.into_argument(),
            direction,
            ascii: self.ascii && direction != Direction::Listing,
            data: DataState::Waiting,
            announced,
            as_sent,
            preliminary: false,
            held: None,
            late: Vec::new(),
            cause: None,
            verdict: None,
            answered: false,
            connected: false,
            nudged: false,
        })));
        if self.channel == Channel::Open {
            self.handle_data_opened();
        }
    }

    /// Answers a transfer command that does not go upstream.
    pub(super) fn refuse_transfer(&mut self, command: &Command, code: u16, why: &str) {
        self.audit(command.verb(), command.argument().to_vec(), Outcome::Refused, Some(code));
        self.answer(code, why);
        self.forget_restart();
    }

    /// The same for one for which the client is being called; with no reply if the client is gone.
    /// Says whether there was one.
    fn refuse_call(&mut self, outcome: Outcome, reply: Option<(u16, &str)>) -> bool {
        let Some(Pending::Calling(command, _)) = self.pending.front() else { return false };
        let (verb, path) = (command.verb(), command.argument().to_vec());
        self.pending.pop_front();
        self.drop_channel();
        self.audit(verb, path, outcome, reply.map(|(code, _)| code));
        if let Some((code, why)) = reply {
            self.answer(code, why);
            self.forget_restart();
        }
        true
    }

    /// Has the upstream forget what was said of a transfer that it will not hear of. An offset
    /// would count for the next one, and write that file at the wrong place.
    fn forget_restart(&mut self) {
        self.announced = None;
        if self.link.is_up() && std::mem::take(&mut self.restart) > 0 {
            self.pending.push_back(Pending::Nudge);
            self.actions.push_back(Action::ToUpstream(Line::new(b"REST 0")));
        }
    }

    pub(super) fn handle_transfer_reply(&mut self, reply: Reply) {
        let overtakers = self.pending.len() - 1;
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else { return };
        if reply.is_preliminary() {
            transfer.preliminary = true;
            // From here on a 426 is this transfer's.
            self.overdue &= transfer.answered;
            if !transfer.answered {
                self.tell(reply);
            }
        } else if transfer.held.is_some() {
            // More replies than overtakers: nobody asked for the rest.
            if transfer.late.len() < overtakers {
                transfer.late.push(reply);
            }
        } else if overtakers > 0 && transfer.is_overtakers(&reply) {
            match self.pending.remove(1) {
                Some(Pending::Command(command)) => self.finish_command(&command, reply),
                // It answers the nudge that came later: likely it will never answer the transfer.
                _ => {
                    self.overdue = true;
                    self.hold(Reply::new(426, "Connection closed; transfer aborted."));
                }
            }
        } else {
            self.hold(reply);
        }
    }

    /// Keeps the transfer's final reply until the data has caught up with it.
    fn hold(&mut self, reply: Reply) {
        if let Some(Pending::Transfer(transfer)) = self.pending.front_mut() {
            transfer.held = Some(reply);
            self.settle();
        }
    }

    /// Asks by NOOP whether the upstream is done with a transfer whose data connection broke a
    /// while ago: pure-ftpd ends some broken downloads without a final reply, and the client would
    /// wait for it for ever.
    pub(super) fn nudge(&mut self) {
        if let Some(Pending::Transfer(transfer)) = self.pending.front_mut() {
            transfer.nudged = true;
            self.pending.push_back(Pending::Nudge);
            self.actions.push_back(Action::ToUpstream(Line::new(b"NOOP")));
        }
    }

    /// Whether a command may go upstream while a transfer is in flight there. STAT of a path may
    /// not: its 450 or 550 could be the transfer's.
    pub(super) fn may_overtake(&self, command: &Command) -> bool {
        let Some(Pending::Transfer(transfer)) = self.pending.front() else { return false };
        let may = match command.verb() {
            Verb::Abor | Verb::Noop => true,
            Verb::Stat => command.argument().trim_ascii().is_empty(),
            _ => false,
        };
        may && self.is_permitted(command)
            && self.queue.is_empty()
            && self.pending.len() <= OVERTAKER_LIMIT
            && !transfer.answered
            && transfer.held.is_none()
    }

    /// ABOR: what has not been delivered shall not look delivered. Says whether the upstream sees
    /// its data connection reset, which ends the transfer.
    pub(super) fn abort_transfer(&mut self) -> bool {
        let aborted = Some((426, "Connection closed; transfer aborted."));
        if self.refuse_call(Outcome::Aborted, aborted) {
            return true;
        }
        let Some(Pending::Transfer(transfer)) = self.pending.front() else { return false };
        let reset = match transfer.data {
            DataState::Waiting => transfer.direction != Direction::Upload,
            DataState::Running | DataState::Ended => true,
            DataState::Failed => transfer.connected,
            DataState::Finished => false,
        };
        self.fail_transfer(Outcome::Aborted);
        self.settle();
        reset
    }

    /// Resets the data connections of the transfer in flight, if its bytes are still on their way.
    fn fail_transfer(&mut self, outcome: Outcome) {
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else { return };
        if matches!(transfer.data, DataState::Failed | DataState::Finished) || transfer.answered {
            return;
        }
        let waiting = transfer.data == DataState::Waiting;
        transfer.data = DataState::Failed;
        transfer.cause = Some(outcome);
        match transfer.direction {
            Direction::Upload if waiting => {}
            _ if waiting => self.refuse_channel(),
            _ => self.drop_channel(),
        }
    }

    /// Takes back the data connection of a transfer that the upstream may be waiting to begin, for
    /// a minute and deaf to ABOR. An upload's is better left to the client, to be reset if it comes
    /// after all: an upstream could take a connection that brings nothing for an empty file.
    fn refuse_channel(&mut self) {
        if self.channel == Channel::Ready {
            self.channel = Channel::Refused;
            self.actions.push_back(Action::RefuseData);
        }
    }

    /// There will be no data connection: a transfer in flight is answered at once, since the
    /// upstream may wait for minutes before it says so itself.
    pub(super) fn refuse_data(&mut self, outcome: Outcome, why: &str) {
        if self.refuse_call(outcome, Some((425, why))) {
            return self.pump();
        }
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else {
            return self.drop_channel();
        };
        if transfer.data != DataState::Waiting || transfer.answered {
            return self.drop_channel();
        }
        transfer.data = DataState::Failed;
        transfer.cause = Some(outcome);
        match transfer.direction {
            Direction::Upload => self.drop_channel(),
            Direction::Download | Direction::Listing => self.refuse_channel(),
        }
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else { return };
        if transfer.held.is_some() {
            self.settle();
        } else {
            transfer.answered = true;
            let (verb, path) = (transfer.verb, transfer.path.clone());
            self.audit(verb, path, outcome, Some(425));
            self.answer(425, why);
        }
        self.pump();
    }

    /// Ends the transfer if its final reply is there and the data has caught up.
    fn settle(&mut self) {
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else { return };
        let Some(reply) = &transfer.held else { return };
        let positive = reply.is_positive();
        if positive
            && matches!(transfer.data, DataState::Waiting | DataState::Running)
            && !transfer.answered
        {
            return;
        }
        let Some(Pending::Transfer(transfer)) = self.pending.pop_front() else { return };
        let transfer = *transfer;
        let Some(mut reply) = transfer.held else { return };
        if transfer.data == DataState::Failed {
            self.drop_channel();
        }
        if !transfer.answered {
            let outcome = match (transfer.data, positive) {
                (DataState::Ended, true) => {
                    self.channel = Channel::Absent;
                    self.actions.push_back(Action::FinishData);
                    Outcome::Complete
                }
                (DataState::Finished, positive) => {
                    self.channel = Channel::Absent;
                    self.actions.push_back(Action::ReleaseData);
                    if positive { Outcome::Complete } else { Outcome::UpstreamFailed }
                }
                (DataState::Failed, true) => {
                    reply = Reply::new(426, "Connection closed; transfer aborted.");
                    transfer.cause.unwrap_or(Outcome::UpstreamFailed)
                }
                _ => {
                    self.drop_channel();
                    match transfer.cause {
                        None | Some(Outcome::UpstreamFailed) if !transfer.preliminary => {
                            Outcome::Refused
                        }
                        cause => cause.unwrap_or(Outcome::UpstreamFailed),
                    }
                }
            };
            if let Some(why) = transfer.verdict {
                reply = Reply::new(425, why);
            }
            let as_sent = transfer.as_sent && outcome == Outcome::Complete;
            let Transfer { verb, path, .. } = transfer;
            let end = TransferEnd { verb, path, outcome, reply: Some(reply.code()), as_sent };
            self.actions.push_back(Action::Audit(end));
            self.tell(reply);
        }
        for reply in transfer.late {
            if let Some(Pending::Command(command)) = self.pending.pop_front() {
                self.finish_command(&command, reply);
            }
        }
    }

    /// Ends the transfer in flight without the upstream's word; `text` goes into a 426 if the
    /// client is there to read it.
    pub(super) fn finish_unanswered(&mut self, outcome: Outcome, text: Option<&str>) {
        if self.refuse_call(outcome, text.map(|text| (426, text))) {
            return;
        }
        let Some(Pending::Transfer(transfer)) = self.pending.front_mut() else { return };
        if transfer.answered {
            return;
        }
        transfer.answered = true;
        let (verb, path, cause) =
            (transfer.verb, std::mem::take(&mut transfer.path), transfer.cause);
        self.drop_channel();
        self.audit(verb, path, cause.unwrap_or(outcome), text.map(|_| 426));
        if let Some(text) = text {
            self.answer(426, text);
        }
    }

    fn audit(&mut self, verb: Verb, path: Vec<u8>, outcome: Outcome, reply: Option<u16>) {
        let end = TransferEnd { verb, path, outcome, reply, as_sent: false };
        self.actions.push_back(Action::Audit(end));
    }
}
