//! Going on at another endpoint when the upstream connection is lost.
//!
//! A session remembers what its upstream must be told to be where it was: the login, the settings,
//! the directory. When the connection is lost nothing happens until the client's next command needs
//! an upstream; then a new connection is asked for, what is remembered is replayed, and the command
//! goes there. An idle session whose client never speaks again costs no login.
//!
//! What was in flight is sent again if that does no harm, and else is answered with 451: nobody
//! knows whether it took effect. A transfer in flight ends in 426. A REST or RNFR that was lost is
//! not replayed: what builds on it is refused, for a STOR without its REST would begin at the
//! file's start.

use std::collections::VecDeque;

use super::memory::{Step, directory};
use super::{Action, Dialogue, Outcome, Pending, Queued};
use crate::ftp::SessionEnd;
use crate::ftp::command::{Command, Line, Verb};
use crate::ftp::reply::Reply;

/// How many connections may be tried for one command: one that kills its server would else be sent
/// to server after server for ever, with a login each time.
const ATTEMPTS: u8 = 3;
/// How often a session may be taken to another endpoint for its user's sake: each time its client has
/// all the time for a login again.
const MOVES: u8 = 3;
/// The connection to the upstream.
#[derive(Debug)]
pub(super) enum Link {
    /// Another one has been asked for.
    Connecting { attempt: u8 },
    /// None; nobody needs one now.
    Lost,
    /// It is told what the session remembers.
    Replaying { steps: VecDeque<Step>, attempt: u8 },
    /// It is there.
    Up,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }

    /// Whether a connection is being made or told what it must know.
    pub(super) fn is_resuming(&self) -> bool {
        matches!(self, Self::Connecting { .. } | Self::Replaying { .. })
    }
}

/// Whether a command whose reply was lost may be sent once more: it changes nothing, or only the
/// state of a connection that is gone. MDTM with a time sets it on some servers, but the same twice.
fn is_repeatable(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Abor
            | Verb::Acct
            | Verb::Allo
            | Verb::Cdup
            | Verb::Clnt
            | Verb::Cwd
            | Verb::Feat
            | Verb::Help
            | Verb::Host
            | Verb::Lang
            | Verb::Mdtm
            | Verb::Mlst
            | Verb::Mode
            | Verb::Noop
            | Verb::Opts
            | Verb::Pass
            | Verb::Pwd
            | Verb::Rein
            | Verb::Rest
            | Verb::Rnfr
            | Verb::Size
            | Verb::Stat
            | Verb::Stru
            | Verb::Syst
            | Verb::Type
            | Verb::User
    )
}

// === impl Dialogue ===

impl Dialogue {
    /// The upstream's control connection has ended without a 421, or is broken.
    pub fn handle_upstream_lost(&mut self) {
        const WHY: &str = "The FTP server closed the connection.";
        if self.closed {
            return;
        }
        let suffices = self.memory.as_ref().is_some_and(|memory| memory.suffices());
        if !suffices || self.quit_in_flight() {
            return self.handle_upstream_closed(SessionEnd::UpstreamClosed, WHY);
        }
        match self.link {
            Link::Connecting { .. } | Link::Lost => {}
            Link::Replaying { attempt, .. } => self.reconnect(attempt + 1),
            Link::Up => {
                self.link = Link::Lost;
                self.salvage();
                self.pump();
            }
        }
    }

    /// What [`Action::Reconnect`] asked for is there and has said its banner.
    pub fn handle_upstream_connected(&mut self, ipv6: bool) {
        let Link::Connecting { attempt } = self.link else { return };
        self.terms.upstream_ipv6 = ipv6;
        self.upstream_epsv = true;
        self.overdue = false;
        let steps = self.memory.as_ref().map(|memory| memory.steps()).unwrap_or_default();
        self.link = Link::Replaying { steps, attempt };
        self.replay();
    }

    /// What [`Action::Reconnect`] asked for could not be had.
    pub fn handle_reconnect_failed(&mut self) {
        if self.link.is_resuming() {
            self.give_up_resume("No FTP server can be reached now; try again later.");
        }
    }

    pub(super) fn quit_in_flight(&self) -> bool {
        matches!(self.pending.front(), Some(Pending::Command(command)) if command.verb() == Verb::Quit)
    }

    /// Settles what was in flight when the connection was lost.
    fn salvage(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.lost_rename = std::mem::take(&mut memory.renaming);
            memory.lost_restart |= std::mem::take(&mut self.restart) > 0;
        }
        if let [Pending::Transfer(transfer)] = self.pending.make_contiguous()
            && transfer.is_held()
        {
            // The upstream has had its last word; the bytes may still be on their way.
            return;
        }
        self.finish_unanswered(
            Outcome::UpstreamFailed,
            Some("Transfer aborted. The connection to the FTP server was lost."),
        );
        self.drop_channel();
        let mut again = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Asked(command, _) | Pending::Judged(command) => again.push(command),
                Pending::Command(command) if is_repeatable(command.verb()) => again.push(command),
                Pending::Command(command) => {
                    let lost = self.location.as_mut().map(|location| location.lose(&command));
                    for place in lost.into_iter().flatten().flatten() {
                        self.actions.push_back(Action::FileGone { from: Some(place), to: None });
                    }
                    self.answer(
                        451,
                        "The connection to the FTP server was lost; it is not known whether this command took effect.",
                    );
                }
                Pending::Ascii(command) => again.push(command),
                Pending::Penalty(reply) => self.tell(reply),
                Pending::Passive(request) => {
                    self.actions.push_back(Action::ResetData);
                    again.push(request.into_command());
                }
                Pending::Calling(..)
                | Pending::Image
                | Pending::Locate
                | Pending::Nudge
                | Pending::Transfer(_) => {}
            }
        }
        for command in again.into_iter().rev() {
            self.requeue(command);
        }
    }

    /// Puts a command back at the head of the queue.
    fn requeue(&mut self, command: Command) {
        let queued = Queued::Command(command);
        self.queued_bytes += queued.size();
        self.queue.push_front(queued);
    }

    /// If there is no upstream, keeps the command until there is one. Every command that goes
    /// upstream asks this first.
    pub(super) fn await_upstream(&mut self, command: &Command) -> bool {
        if self.link.is_up() {
            return false;
        }
        self.requeue(command.clone());
        if matches!(self.link, Link::Lost) {
            self.reconnect(self.memory.as_ref().map_or(0, |memory| memory.attempts) + 1);
        }
        true
    }

    fn reconnect(&mut self, attempt: u8) {
        if attempt > ATTEMPTS {
            return self.give_up_resume("The FTP server closed the connection.");
        }
        self.link = Link::Connecting { attempt };
        self.actions.push_back(Action::Reconnect);
    }

    /// Sends the next line of the replay, or takes up the session again after the last.
    fn replay(&mut self) {
        let Link::Replaying { steps, attempt } = &self.link else { return };
        if let Some(step) = steps.front() {
            self.actions.push_back(Action::ToUpstream(step.line.clone()));
            return;
        }
        if let Some(memory) = &mut self.memory {
            memory.attempts = *attempt;
        }
        self.link = Link::Up;
        self.tell_resumed(true);
        self.pump();
    }

    /// A reply to a line of the replay.
    pub(super) fn handle_replay_reply(&mut self, reply: &Reply) {
        let Link::Replaying { steps, attempt } = &mut self.link else { return };
        let attempt = *attempt;
        if reply.is_preliminary() {
            return;
        }
        if reply.code() == 421 {
            return self.reconnect(attempt + 1);
        }
        let Some(step) = steps.pop_front() else { return };
        let more_login = steps.front().is_some_and(|next| next.login);
        let good = match (step.login, reply.code()) {
            // Logged in with less than was needed then.
            (true, 230 | 232) => {
                while steps.front().is_some_and(|next| next.login) {
                    steps.pop_front();
                }
                true
            }
            (true, 202) => true,
            (true, 300..400) => more_login || !self.logged_in,
            _ => reply.is_positive(),
        };
        if good {
            self.replay();
        } else if step.login {
            self.give_up_resume("The FTP server no longer accepts the login of this session.");
        } else {
            self.give_up_resume("The FTP server no longer accepts the settings of this session.");
        }
    }

    /// The upstream has answered a command of the client's.
    pub(super) fn note_answer(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.attempts = 0;
        }
    }

    pub(super) fn give_up_resume(&mut self, why: &str) {
        self.tell_resumed(false);
        self.give_up(SessionEnd::UpstreamClosed, why);
    }

    /// Says how it went: the way back from a loss, or to the endpoint of a user.
    pub(super) fn tell_resumed(&mut self, succeeded: bool) {
        self.actions.push_back(match std::mem::take(&mut self.permits.moving) {
            true => Action::Moved { succeeded },
            false => Action::Resume { succeeded },
        });
    }

    /// Goes on at another endpoint, where the user of this USER is served, and says it there.
    pub(super) fn move_on(&mut self, command: Command) {
        let may = self.permits.moves < MOVES;
        let Some(memory) = self.memory.as_mut().filter(|memory| may && memory.suffices()) else {
            // The upstream counts refused logins, and a new connection would start its count anew.
            return self.give_up(SessionEnd::Moved, "Please connect again to log in as this user.");
        };
        // What was said of another user ends with this USER (RFC 959 4.1.1).
        memory.login.clear();
        let attempt = memory.attempts + 1;
        self.drop_channel();
        self.requeue(command);
        self.permits.moving = true;
        self.permits.moves += 1;
        self.reconnect(attempt);
    }

    /// Keeps what a command has changed, in case its upstream is lost.
    pub(super) fn remember(&mut self, command: &Command, reply: &Reply) {
        if command.verb() == Verb::Rest && reply.code() != 350 {
            self.restart = 0;
        }
        let gone = self.location.as_mut().and_then(|location| location.note(command, reply));
        if let Some((from, to)) = gone {
            self.actions.push_back(Action::FileGone { from, to });
        }
        let Some(memory) = &mut self.memory else { return };
        if memory.learn(command, reply) {
            self.pending.push_back(Pending::Locate);
            self.actions.push_back(Action::ToUpstream(Line::new(b"PWD")));
        }
    }

    /// The answer to a PWD of our own.
    pub(super) fn handle_location(&mut self, reply: &Reply) {
        self.pending.pop_front();
        let Some(memory) = &mut self.memory else { return };
        let path = directory(reply);
        memory.astray = path.is_none();
        memory.directory =
            path.iter().map(|path| Line::new(&[b"CWD ", &**path].concat())).collect();
    }

    /// Refuses what builds on a REST or RNFR that was lost. Says whether it did.
    pub(super) fn refuse_lost(&mut self, command: &Command) -> bool {
        let Some(memory) = &mut self.memory else { return false };
        let verb = command.verb();
        let lost_rename = std::mem::take(&mut memory.lost_rename);
        if verb == Verb::Rest {
            memory.lost_restart = false;
        }
        if verb == Verb::Rnto && lost_rename {
            self.answer(
                503,
                "The connection to the FTP server was lost after RNFR; send RNFR again.",
            );
            return true;
        }
        if verb.direction().is_some() && std::mem::take(&mut memory.lost_restart) {
            self.refuse_transfer(
                command,
                451,
                "The connection to the FTP server was lost after REST; send REST again.",
            );
            return true;
        }
        false
    }
}
