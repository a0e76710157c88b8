//! Plays any sequence of events to a dialogue and judges what it wants done: the property test
//! and the fuzz target share it, so it uses nothing but the public interface.

use super::{Action, DataFailure, Dialogue, Direction, Lines, Outcome, Replies, SessionEnd, Terms};

/// The longest line that a judged client may send.
pub(crate) const LINE_LIMIT: usize = 200;
/// The longest reply that a judged upstream may send.
const REPLY_LIMIT: usize = 1000;

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
    /// A passive port is reserved.
    Reserved,
    /// No passive port can be had.
    Exhausted,
    /// The client does not come to its port.
    Expired,
    /// The upstream's data port cannot be reached.
    DialFailed,
    /// Both data connections are open.
    Opened,
    /// The relay has moved 40 bytes and seen the end.
    Ended,
    /// The relay stops short.
    Failed(DataFailure),
}

/// The driver's side of the data connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Data {
    Absent,
    Reserving,
    Reserved,
    Expired,
    Refused,
    Open,
    Relaying(Direction),
    Delivered(Direction),
    Finished,
}

/// Plays the steps; an error says which promise of the dialogue was broken.
pub(crate) fn judge(steps: &[Step]) -> Result<(), String> {
    let terms = Terms {
        client_ipv6: false,
        passive_ipv4: true,
        upstream_ipv6: false,
        upstream_ports: 1024..=65535,
        resume: true,
    };
    let mut judge = Judge {
        dialogue: Dialogue::new(terms),
        lines: Lines::new(LINE_LIMIT),
        replies: Replies::new(REPLY_LIMIT),
        data: Data::Absent,
        asked: 0,
        answered: 0,
        complete: false,
        link: Link::Up,
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
    closed: bool,
}

impl Judge {
    fn play(&mut self, step: &Step) -> Result<(), String> {
        match (step, self.data) {
            (Step::Client(bytes), _) => {
                self.lines.push(bytes);
                self.take_lines()?;
            }
            (Step::Upstream(bytes), _) if self.link == Link::Up => {
                self.replies.push(bytes);
                while let Some(reply) = self.replies.next_reply() {
                    match reply {
                        Ok(reply) => self.dialogue.handle_reply(reply),
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
            (Step::ClientClosed, _) => self.dialogue.handle_client_closed(),
            (Step::UpstreamClosed, _) => {
                self.dialogue.handle_upstream_closed(SessionEnd::UpstreamClosed, "gone")
            }
            (Step::UpstreamLost, _) if self.link == Link::Up => {
                self.link = Link::Lost;
                self.replies = Replies::new(REPLY_LIMIT);
                self.dialogue.handle_upstream_lost();
            }
            (Step::UpstreamConnected, _) if self.link == Link::Connecting => {
                self.link = Link::Up;
                self.dialogue.handle_upstream_connected(false);
            }
            (Step::ReconnectFailed, _) if self.link == Link::Connecting => {
                self.link = Link::Lost;
                self.dialogue.handle_reconnect_failed();
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
            (Step::DialFailed, Data::Reserved) => {
                self.data = Data::Absent;
                self.dialogue.handle_dial_failed();
            }
            (Step::Opened, Data::Reserved) => {
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
        Ok(())
    }

    fn take_lines(&mut self) -> Result<(), String> {
        while self.dialogue.wants_line() && !self.dialogue.client_closed() {
            let Some(line) = self.lines.next_line() else { return Ok(()) };
            self.asked += 1;
            self.dialogue.handle_line(line.as_deref().map_err(|&error| error));
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
                (Action::ToClient(bytes), data) => {
                    // The one reply that nobody asked for is the last: 421.
                    self.answered +=
                        usize::from(!bytes.starts_with(b"1") && !bytes.starts_with(b"421"));
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
                    if self.link != Link::Up {
                        return Err(format!("to nobody: {}", bytes.escape_ascii()));
                    }
                    data
                }
                (Action::Reconnect, data) => {
                    self.link = Link::Connecting;
                    self.replies = Replies::new(REPLY_LIMIT);
                    data
                }
                (Action::TransferStarted(_), data) => {
                    self.complete = false;
                    data
                }
                (Action::ReservePort(_), Data::Absent | Data::Expired) => Data::Reserving,
                (Action::RefuseData, Data::Reserved | Data::Expired) => Data::Refused,
                (Action::Relay(direction), Data::Open) => Data::Relaying(direction),
                (Action::FinishData, Data::Delivered(Direction::Upload)) => Data::Finished,
                (Action::FinishData, Data::Delivered(_))
                | (Action::ReleaseData, Data::Finished) => {
                    self.complete = true;
                    Data::Absent
                }
                (Action::ResetData, _) => Data::Absent,
                (Action::Audit(end), data) => {
                    let positive = end.reply.is_some_and(|code| code < 300);
                    let told = end.outcome == Outcome::Complete;
                    if positive != told || (told && !self.complete) {
                        return Err(format!("told otherwise than it was: {end:?}"));
                    }
                    data
                }
                (Action::Close(_), data) => {
                    self.closed = true;
                    data
                }
                (Action::Login { .. } | Action::Resume { .. }, data) => data,
                (action, data) => return Err(format!("{action:?} while {data:?}")),
            };
        }
        Ok(())
    }
}
