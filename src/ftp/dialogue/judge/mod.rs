//! Plays any sequence of events to a dialogue and judges what it wants done: the property test
//! and the fuzz target share it, so it uses nothing but the public interface.

mod step;
mod upstream;

use std::sync::Arc;

use super::{
    Action, Ascii, Command, Commands, DataFailure, Dialogue, Direction, Lines, Outcome, Permit,
    Replies, Security, SessionEnd, Terms, Verb, Verdict,
};
pub(crate) use step::Step;
use upstream::is_harmless;

/// The longest line that a judged client may send.
pub(crate) const LINE_LIMIT: usize = 200;
/// The longest reply that a judged upstream may send.
const REPLY_LIMIT: usize = 1000;

/// Bytes that an event may add to what the client is told, besides those that either peer has sent.
const WORDS: usize = 256;

/// The driver's side of the data connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Data {
    Absent,
    Awaiting,
    Calling,
    Reserving,
    Reserved,
    Expired,
    Refused,
    Open,
    Relaying(Direction),
    Delivered(Direction),
    Finished,
}

/// The terms of a judged or scripted session: everything is offered.
pub(crate) fn terms() -> Terms {
    Terms {
        client_ipv6: false,
        passive_ipv4: true,
        upstream_ipv6: false,
        upstream_ports: 1024..=65535,
        resume: true,
        security: Security { offered: true, ..Security::default() },
        ascii: Ascii::Translate,
        active: true,
        client: [127, 0, 0, 1].into(),
        own_address: [127, 0, 0, 2].into(),
        own_ports: vec![8192..=8200, 21..=21],
        permit: None,
        penalties: false,
        locate: false,
    }
}

/// The rule of the user `limited`, whose transfers are counted and who may not DELE.
const LIMITED: usize = 1;
/// The rule of the user `remote`, who is served at every other endpoint only.
const REMOTE: usize = 2;

fn permit(rule: usize) -> Arc<Permit> {
    let commands = match rule {
        LIMITED => Commands::Without(vec!["DELE".into()]),
        _ => Commands::All,
    };
    let limits_transfers = rule == LIMITED;
    Arc::new(Permit { rule, name: format!("rule-{rule}"), commands, limits_transfers })
}

/// Plays the steps; an error says which promise of the dialogue was broken.
pub(crate) fn judge(steps: &[Step]) -> Result<(), String> {
    let mut judge = Judge {
        dialogue: Dialogue::new(Terms { penalties: true, locate: true, ..terms() }),
        lines: Lines::new(LINE_LIMIT),
        replies: Replies::new(REPLY_LIMIT),
        data: Data::Absent,
        asked: 0,
        answered: 0,
        complete: false,
        link: Link::Up,
        penalised: false,
        asked_for: 0,
        placed: false,
        visited: 0,
        securing: false,
        secured: false,
        restart: Restart::None,
        told: Vec::new(),
        given: Vec::new(),
        verbs: Vec::new(),
        own: Vec::new(),
        heard: 0,
        said: 0,
        owed: 0,
        closed: false,
    };
    steps.iter().try_for_each(|step| judge.play(step))
}

/// The driver's side of the upstream connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Up,
    Lost,
    Connecting,
    Replaying,
}

/// What has become of the latest REST.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Restart {
    /// None, or used.
    None,
    Asked,
    Accepted,
    /// Its upstream is gone, and nobody else knows of it.
    Lost,
}

struct Judge {
    dialogue: Dialogue,
    lines: Lines,
    replies: Replies,
    data: Data,
    /// Lines that the dialogue was given.
    asked: usize,
    /// Final replies that it gave.
    answered: usize,
    /// The latest transfer's bytes are proven complete and closed with FIN.
    complete: bool,
    link: Link,
    /// The refusal of a login is kept back.
    penalised: bool,
    /// Transfers that were asked for.
    asked_for: usize,
    /// One of them has its place.
    placed: bool,
    /// Endpoints that the session has been at besides the first.
    visited: usize,
    /// The client shakes hands, and nothing may be said until it has.
    securing: bool,
    secured: bool,
    restart: Restart,
    /// Everything that an upstream was told outside of replays.
    told: Vec<Vec<u8>>,
    /// Commands of the client's that have not gone upstream.
    given: Vec<Vec<u8>>,
    /// The verbs of all that it has sent.
    verbs: Vec<Verb>,
    /// Lines that this upstream was told and the client has not sent.
    own: Vec<Vec<u8>>,
    /// Bytes from both peers, with a bonus for each event.
    heard: usize,
    /// Bytes that the client was told.
    said: usize,
    /// Lines of a replay that have no reply yet.
    owed: usize,
    closed: bool,
}

impl Judge {
    fn play(&mut self, step: &Step) -> Result<(), String> {
        self.heard += WORDS;
        if let Step::Client(bytes) | Step::Upstream(bytes) = step {
            self.heard += bytes.len();
        }
        match (step, self.data) {
            (Step::Client(bytes), _) => {
                self.lines.push(bytes);
                self.take_lines()?;
            }
            (Step::Upstream(bytes), _) if matches!(self.link, Link::Up | Link::Replaying) => {
                self.replies.push(bytes);
                while let Some(reply) = self.replies.next_reply() {
                    match reply {
                        Ok(reply) => {
                            self.heard += WORDS;
                            self.owed =
                                self.owed.saturating_sub(usize::from(!reply.is_preliminary()));
                            self.dialogue.handle_reply(reply);
                        }
                        Err(_) => {
                            self.dialogue
                                .handle_upstream_closed(SessionEnd::ProtocolError, "nonsense");
                            self.replies = Replies::new(REPLY_LIMIT);
                        }
                    }
                    self.perform()?;
                }
                self.take_lines()?;
            }
            (Step::Secured, _) if self.securing => {
                self.securing = false;
                self.secured = true;
                self.dialogue.handle_secured();
                self.perform()?;
                self.take_lines()?;
            }
            (Step::ClientClosed, _) => self.dialogue.handle_client_closed(),
            (Step::UpstreamClosed, _) => {
                self.dialogue.handle_upstream_closed(SessionEnd::UpstreamClosed, "gone")
            }
            (Step::UpstreamLost, _) if matches!(self.link, Link::Up | Link::Replaying) => {
                self.link = Link::Lost;
                if self.restart == Restart::Accepted {
                    self.restart = Restart::Lost;
                }
                self.replies = Replies::new(REPLY_LIMIT);
                self.own.clear();
                // What had no answer, the next one may be asked again, if that does no harm.
                let unanswered = self.asked.saturating_sub(self.answered);
                let again = self.told.iter().rev().take(unanswered);
                self.given.extend(again.filter(|line| is_harmless(line)).cloned());
                self.dialogue.handle_upstream_lost();
            }
            (Step::UpstreamConnected, _) if self.link == Link::Connecting => {
                self.link = Link::Replaying;
                self.owed = 0;
                self.visited += 1;
                self.dialogue.handle_upstream_connected(false);
            }
            (Step::ReconnectFailed, _) if self.link == Link::Connecting => {
                self.link = Link::Lost;
                self.dialogue.handle_reconnect_failed();
            }
            (Step::PenaltyOver { banned }, _) if self.penalised => {
                self.penalised = false;
                self.dialogue.handle_penalty_over(*banned);
            }
            (Step::Timeout, _) => self.dialogue.handle_timeout(self.dialogue.waiting()),
            (Step::Reserved, Data::Reserving) => {
                self.data = Data::Reserved;
                self.dialogue.handle_port_reserved(([127, 0, 0, 2], 8192).into());
            }
            (Step::Exhausted, Data::Reserving) => {
                self.data = Data::Absent;
                self.dialogue.handle_ports_exhausted();
            }
            (Step::Expired, Data::Reserved) => {
                self.data = Data::Expired;
                self.dialogue.handle_reservation_expired();
            }
            (Step::Unreachable, Data::Calling) => {
                self.data = Data::Expired;
                self.dialogue.handle_client_unreachable();
            }
            (Step::DialFailed, Data::Reserved | Data::Calling) => {
                self.data = Data::Absent;
                self.dialogue.handle_dial_failed();
            }
            (Step::Opened, Data::Reserved | Data::Calling) => {
                self.data = Data::Open;
                self.dialogue.handle_data_opened();
            }
            (Step::Opened, Data::Refused) => self.dialogue.handle_data_refused(),
            (Step::Ended, Data::Relaying(direction)) => {
                self.data = Data::Delivered(direction);
                self.dialogue.handle_data_ended(40);
            }
            (Step::Failed(failure), Data::Relaying(_)) => {
                self.data = Data::Absent;
                self.dialogue.handle_data_failed(*failure);
            }
            _ => {}
        }
        self.perform()?;
        if self.dialogue.is_idle() && !self.closed && self.answered != self.asked {
            return Err(format!("{} commands, {} answers", self.asked, self.answered));
        }
        if self.dialogue.is_idle() && self.placed {
            return Err("a transfer's place is not given back".into());
        }
        Ok(())
    }

    fn take_lines(&mut self) -> Result<(), String> {
        while self.dialogue.wants_line() && !self.dialogue.client_closed() {
            let Some(line) = self.lines.next_line() else { return Ok(()) };
            if self.securing {
                return Err("a line in the clear is taken behind AUTH".into());
            }
            self.asked += 1;
            self.heard += WORDS;
            let line = line.map(Command::parse);
            if let Ok(Ok(command)) = &line {
                self.given.push(command.to_line().to_vec());
                self.verbs.push(command.verb());
            }
            self.dialogue.handle_line(line);
            self.perform()?;
        }
        Ok(())
    }

    /// Does what the dialogue wants, as far as it may want it.
    fn perform(&mut self) -> Result<(), String> {
        while let Some(action) = self.dialogue.poll_action() {
            if self.closed {
                return Err(format!("{action:?} after the end"));
            }
            self.data = match (action, self.data) {
                (Action::StartTls(bytes), data) => {
                    if self.secured || data != Data::Absent {
                        return Err("TLS is started when it must not".into());
                    }
                    if self.lines.is_empty() {
                        self.answered += 1;
                        self.securing = bytes.starts_with(b"234");
                    } else {
                        self.dialogue.handle_plaintext_behind_auth();
                    }
                    data
                }
                (Action::AwaitTransfer { to, .. }, Data::Absent) if to.ip() == terms().client => {
                    Data::Awaiting
                }
                (Action::CallBack, Data::Awaiting) => Data::Calling,
                (Action::CallbackRefused(_), data) => data,
                (Action::ToClient(bytes), data) => {
                    self.said += bytes.len();
                    if self.said > self.heard {
                        return Err(format!("{} bytes of {}", self.said, self.heard));
                    }
                    // The one reply that nobody asked for is the last: 421.
                    self.answered +=
                        usize::from(!bytes.starts_with(b"1") && !bytes.starts_with(b"421"));
                    if self.restart == Restart::Asked {
                        let accepted = bytes.starts_with(b"350");
                        self.restart = if accepted { Restart::Accepted } else { Restart::None };
                    }
                    if self.answered > self.asked {
                        return Err(format!("an answer too many: {}", bytes.escape_ascii()));
                    }
                    data
                }
                (Action::ToUpstream(bytes), data) => {
                    if bytes.iter().filter(|&&byte| byte == b'\n').count() != 1
                        || !bytes.ends_with(b"\r\n")
                    {
                        return Err(format!("not one command: {}", bytes.escape_ascii()));
                    }
                    self.judge_line(&bytes)?;
                    data
                }
                (Action::Reconnect, data) => {
                    self.link = Link::Connecting;
                    self.replies = Replies::new(REPLY_LIMIT);
                    data
                }
                (Action::TransferStarted(_), data) => {
                    if self.restart == Restart::Lost {
                        return Err("a transfer from where the client did not ask for".into());
                    }
                    self.restart = Restart::None;
                    self.complete = false;
                    data
                }
                (Action::ReservePort(_), Data::Absent | Data::Expired) => Data::Reserving,
                (Action::RefuseData, Data::Reserved | Data::Calling | Data::Expired) => {
                    Data::Refused
                }
                (Action::Relay(course), Data::Open) => Data::Relaying(course.direction),
                (Action::FinishData, Data::Delivered(Direction::Upload)) => Data::Finished,
                (Action::FinishData, Data::Delivered(_))
                | (Action::ReleaseData, Data::Finished) => {
                    self.complete = true;
                    Data::Absent
                }
                (Action::ResetData, _) => Data::Absent,
                (Action::Judge { user }, data) => {
                    self.dialogue.handle_verdict(self.judge_user(&user));
                    data
                }
                (Action::Penalise, data) => {
                    self.penalised = true;
                    data
                }
                (Action::AskTransfer, data) => {
                    if std::mem::replace(&mut self.placed, self.asked_for.is_multiple_of(2)) {
                        return Err("a second transfer is asked for".into());
                    }
                    self.asked_for += 1;
                    self.dialogue.handle_transfer_verdict(self.placed);
                    data
                }
                (Action::CommandDenied { rule: LIMITED }, data) => data,
                (Action::Audit(end), data) => {
                    self.restart = Restart::None;
                    self.placed = false;
                    let positive = end.reply.is_some_and(|code| code < 300);
                    let told = end.outcome == Outcome::Complete;
                    let as_sent = end.as_sent && (!told || end.verb != Verb::Stor);
                    if positive != told || (told && !self.complete) || as_sent {
                        return Err(format!("told otherwise than it was: {end:?}"));
                    }
                    data
                }
                (Action::Close(_), data) => {
                    self.closed = true;
                    data
                }
                (Action::Resume { succeeded } | Action::Moved { succeeded }, data) => {
                    if succeeded {
                        self.link = Link::Up;
                    }
                    data
                }
                (
                    Action::FileGone { .. } | Action::Login { .. } | Action::UploadStarted(_),
                    data,
                ) => data,
                (action, data) => return Err(format!("{action:?} while {data:?}")),
            };
        }
        Ok(())
    }

    fn judge_user(&self, user: &[u8]) -> Verdict {
        match user {
            b"denied" => Verdict::Denied("no".into()),
            b"limited" => Verdict::Permitted(Some(permit(LIMITED))),
            b"remote" if self.visited.is_multiple_of(2) => Verdict::Elsewhere(Some(permit(REMOTE))),
            b"remote" => Verdict::Permitted(Some(permit(REMOTE))),
            _ => Verdict::Permitted(None),
        }
    }
}
