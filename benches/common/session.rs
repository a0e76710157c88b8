//! One session of the protocol alone: a client and an upstream by script, and a driver that does at
//! once what the dialogue wants done. No sockets, no clock: what it costs is what the protocol costs.

use ftpgate::ftp::dialogue::{Ascii, Security, Terms, Verdict};
use ftpgate::ftp::line::Lines;
use ftpgate::ftp::reply::Replies;
use ftpgate::ftp::{Action, Command, Dialogue, Outcome};

/// `limits.line_length` and `limits.reply_size` as they are by default.
pub(crate) const LINE_LIMIT: usize = 4096;
pub(crate) const REPLY_LIMIT: usize = 1 << 20;

/// A session whose client has logged in.
pub(crate) struct Session {
    dialogue: Dialogue,
    lines: Lines,
    replies: Replies,
    /// Lines that the client has been told.
    pub(crate) answers: usize,
    /// Transfers that were proven complete.
    pub(crate) complete: usize,
}

impl Session {
    pub(crate) fn logged_in() -> Self {
        let mut session = Self {
            dialogue: Dialogue::new(terms()),
            lines: Lines::new(LINE_LIMIT),
            replies: Replies::new(REPLY_LIMIT),
            answers: 0,
            complete: 0,
        };
        session.client(b"USER ann\r\n");
        session.upstream(b"331 Password required for ann.\r\n");
        session.client(b"PASS correct horse battery staple\r\n");
        session.upstream(b"230 User logged in.\r\n");
        session
    }

    /// Whether it has logged in and waits for a command.
    pub(crate) fn is_idle(&self) -> bool {
        self.dialogue.is_logged_in() && self.dialogue.is_idle()
    }

    /// NOOP and its answer.
    pub(crate) fn noop(&mut self) {
        self.client(b"NOOP\r\n");
        self.upstream(b"200 NOOP command successful.\r\n");
    }

    /// A whole download: PASV, RETR, both data connections, the bytes, and the end.
    pub(crate) fn download(&mut self) {
        self.transfer(b"RETR reports/2026-11.csv\r\n");
    }

    /// The same upwards.
    pub(crate) fn upload(&mut self) {
        self.transfer(b"STOR reports/2026-11.csv\r\n");
    }

    fn transfer(&mut self, command: &[u8]) {
        self.client(b"PASV\r\n");
        self.upstream(b"229 Entering Extended Passive Mode (|||8193|)\r\n");
        self.client(command);
        self.upstream(b"150 Opening data connection.\r\n");
        self.event(Dialogue::handle_data_opened);
        self.event(|dialogue| dialogue.handle_data_ended(1 << 20));
        self.upstream(b"226 Transfer complete.\r\n");
    }

    fn client(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
        while let Some(line) = self.lines.next_line() {
            self.event(|dialogue| dialogue.handle_line(line.map(Command::parse)));
        }
    }

    fn upstream(&mut self, bytes: &[u8]) {
        self.replies.push(bytes);
        while let Some(Ok(reply)) = self.replies.next_reply() {
            self.event(|dialogue| dialogue.handle_reply(reply));
        }
    }

    fn event(&mut self, event: impl FnOnce(&mut Dialogue)) {
        event(&mut self.dialogue);
        while let Some(action) = self.dialogue.poll_action() {
            match action {
                Action::Judge { .. } => self.dialogue.handle_verdict(Verdict::Permitted(None)),
                Action::ReservePort(_) => {
                    self.dialogue.handle_port_reserved(([198, 51, 100, 7], 8192).into());
                }
                Action::ToClient(_) => self.answers += 1,
                Action::Audit(end) => {
                    self.complete += usize::from(end.outcome == Outcome::Complete);
                }
                _ => {}
            }
        }
    }
}

/// As the configuration has them by default.
fn terms() -> Terms {
    Terms {
        client_ipv6: false,
        passive_ipv4: true,
        upstream_ipv6: false,
        upstream_ports: 1024..=65535,
        resume: true,
        security: Security::default(),
        ascii: Ascii::Translate,
        active: true,
        client: [192, 0, 2, 1].into(),
        own_address: [198, 51, 100, 7].into(),
        own_ports: vec![21..=21, 8192..=8200],
        permit: None,
        penalties: true,
        locate: false,
    }
}
