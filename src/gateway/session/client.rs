//! What comes from a session's client on its control connection.

use tokio::time::Instant;
use tracing::{debug, info};

use super::{Session, Stalled};
use crate::ftp::command::{Command, Verb};
use crate::ftp::dialogue::Waiting;
use crate::gateway::control::Read;
use crate::observe::metrics::Connection;
use crate::tls::Acceptor;

/// How often a client's control connection is read to find its end at once.
const READS_AT_ONCE: usize = 64;

impl Session {
    /// Sends the last reply in the clear and waits for the client's handshake. What came behind
    /// its AUTH may be anybody's who sits on the line: with that nothing goes on.
    pub(super) fn start_tls(&mut self, reply: &[u8]) {
        if !self.lines.is_empty() {
            return self.dialogue.handle_plaintext_behind_auth();
        }
        let tls = self.shared.tls.as_ref().map(Acceptor::session);
        let started = tls.and_then(Result::ok).and_then(|tls| Some((tls.connection().ok()?, tls)));
        let Some((connection, tls)) = started else {
            return self.dialogue.handle_tls_unavailable();
        };
        self.client.send(reply);
        self.client.start_tls(connection);
        self.tls = Some(tls);
    }

    /// Takes what one read of the client's control connection gave.
    pub(super) fn take_read(&mut self, read: Read) {
        if self.dialogue.waiting() == Waiting::Handshake
            && let Some(tls) = self.client.tls()
            && !tls.is_handshaking()
        {
            self.shared.metrics.tls_handshake(Connection::Control, tls.version(), tls.is_resumed());
            self.dialogue.handle_secured();
        }
        match read {
            Read::Bytes => self.take_lines(),
            Read::Nothing => {
                // What waited for the end of the handshake.
                if self.stalled == Stalled::Queue {
                    self.take_lines();
                }
            }
            Read::End => self.dialogue.handle_client_closed(),
            Read::Lost => self.dialogue.handle_client_lost(),
            Read::TlsBroken => {
                info!("the client does not keep to TLS");
                self.shared.metrics.tls_failed(Connection::Control);
                self.dialogue.handle_client_lost();
            }
        }
    }

    /// Reads all that the client's control connection holds at this instant, if it has an end.
    pub(super) fn read_client_now(&mut self) {
        self.take_lines();
        for _ in 0..READS_AT_ONCE {
            if self.stalled != Stalled::No || self.dialogue.client_closed() {
                return;
            }
            let lines = &mut self.lines;
            let read = self.client.read_now(|bytes| lines.push(bytes));
            self.take_read(read);
            if read != Read::Bytes {
                return;
            }
        }
    }

    /// Hands lines to the dialogue while it wants them and the client keeps its pace. During a
    /// transfer the pace does not count: an ABOR must not wait.
    pub(super) fn take_lines(&mut self) {
        let now = Instant::now();
        loop {
            self.stalled = if !self.dialogue.wants_line() {
                Stalled::Queue
            } else if self.dialogue.in_transfer() {
                Stalled::No
            } else {
                self.pace.check(now).map_or_else(Stalled::Pace, |()| Stalled::No)
            };
            if self.stalled != Stalled::No {
                return;
            }
            let Some(line) = self.lines.next_line() else { return };
            self.pace.take(now);
            (self.spoke, self.commanded) = (true, true);
            let line = line.map(Command::parse);
            if let Ok(Ok(command)) = &line {
                debug!(?command, "client");
                // Many connections that have said USER shall not have one guess each.
                if command.verb() == Verb::Pass && self.end_if_banned() {
                    return;
                }
            }
            self.dialogue.handle_line(line);
        }
    }
}
