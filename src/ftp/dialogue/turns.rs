//! A command's turn: answered here or sent upstream, and what its reply changes.

use super::{Action, Ascii, Dialogue, Pending, Queued};
use crate::ftp::SessionEnd;
use crate::ftp::command::{Command, Verb};
use crate::ftp::feat::{self, Offer};
use crate::ftp::reply::Reply;

impl Dialogue {
    /// Takes the next turns while the upstream owes nothing.
    pub(super) fn pump(&mut self) {
        while self.pending.is_empty() && !self.closed && !self.link.is_resuming() {
            let queued = self.queue.pop_front();
            self.queued_bytes -= queued.as_ref().map_or(0, Queued::size);
            match queued {
                Some(Queued::Command(command)) => self.start(command),
                Some(Queued::Reply(reply)) => self.tell(reply),
                None if self.client_closed => self.close(SessionEnd::ClientClosed),
                None => return,
            }
        }
    }

    /// Answers a command or sends it upstream. Read it top to bottom: this is what the gateway
    /// does to FTP; every other verb passes through.
    pub(super) fn start(&mut self, command: Command) {
        if self.refuse_unsecured(&command)
            || self.refuse_denied(&command)
            || self.refuse_ascii(&command)
            || self.refuse_lost(&command)
        {
            return;
        }
        self.protection.note(command.verb());
        match command.verb() {
            Verb::Pasv => self.start_pasv(command),
            Verb::Epsv => self.start_epsv(command),
            Verb::Quit if !self.link.is_up() => {
                self.answer(221, "Goodbye.");
                self.close(SessionEnd::Quit);
            }
            Verb::Port | Verb::Eprt => self.start_port(command),
            Verb::Lprt => self.answer(502, "LPRT and LPSV are not offered here; use EPRT or EPSV."),
            Verb::Auth => self.start_auth(&command),
            Verb::Pbsz => self.start_pbsz(&command),
            Verb::Prot => self.start_prot(&command),
            // RFC 4217 10.3: a control connection in the clear again could be tampered with.
            Verb::Ccc if self.protection.is_secured() => self.answer(534, "TLS stays on here."),
            Verb::Ccc => self.answer(533, "There is no TLS to end."),
            Verb::Secure => self.answer(502, "No security mechanism but TLS is known here."),
            Verb::Type => self.start_type(command),
            Verb::Help => match feat::help(&command, self.offer()) {
                Some(reply) => self.tell(reply),
                None => self.forward(command),
            },
            // In block mode the end of data is not the end of the connection (RFC 959 3.4).
            Verb::Mode if !command.argument().trim_ascii().eq_ignore_ascii_case(b"S") => {
                self.answer(504, "Only stream mode (MODE S) is offered here.");
            }
            Verb::Http => {
                self.answer(500, "This is an FTP gateway.");
                self.close(SessionEnd::ProtocolError);
            }
            Verb::Proxy => self.handle_proxy_header(),
            Verb::Abor | Verb::Rein => {
                self.drop_channel();
                self.forward(command);
            }
            Verb::Allo => {
                self.announced = first_number(command.argument());
                self.forward(command);
            }
            Verb::Rest => {
                // An upstream may take for a number what is none here, or one that is too big.
                self.restart = first_number(command.argument()).unwrap_or(u64::MAX);
                self.forward(command);
            }
            Verb::User => self.start_user(command),
            verb => match verb.direction() {
                Some(direction) if self.logged_in => self.start_transfer(command, direction),
                _ => self.forward(command),
            },
        }
    }

    /// What a command's final reply changes.
    pub(super) fn finish_command(&mut self, command: &Command, reply: Reply) {
        let verb = command.verb();
        self.remember(command, &reply);
        match verb {
            Verb::User | Verb::Pass | Verb::Acct => {
                // 230 logged in; 232 likewise (RFC 2228); 202 to a PASS that was not needed.
                let accepted = matches!(reply.code(), 230 | 232)
                    || (verb != Verb::User && reply.code() == 202);
                let again = self.logged_in;
                self.logged_in |= accepted;
                if let Some(location) = self.location.as_mut().filter(|_| accepted) {
                    location.log_in(again);
                }
                if let Some(user) = self.permits.settle(verb, &reply, accepted, again) {
                    self.user = user;
                }
                if accepted || (verb == Verb::Pass && reply.code() >= 400) {
                    self.actions.push_back(Action::Login { accepted });
                }
                // A refused USER of who is logged in is no guess at a password.
                let guessed = matches!(reply.code(), 430 | 530) && !(verb == Verb::User && again);
                if guessed && self.terms.penalties {
                    return self.penalise(reply);
                }
                self.tell(reply);
                if accepted {
                    self.translate_by_default();
                }
            }
            Verb::Rein => {
                self.logged_in &= !reply.is_positive();
                self.epsv_all &= !reply.is_positive();
                if reply.is_positive() {
                    self.permits.reset(self.terms.permit.clone());
                    self.ascii = self.terms.ascii == Ascii::TranslateByDefault;
                }
                self.tell(reply);
            }
            Verb::Type => {
                self.ascii &= !reply.is_positive();
                self.tell(reply);
            }
            Verb::Stru | Verb::Mode => {
                let reply = self.representation_reply(command, reply);
                self.tell(reply);
            }
            Verb::Feat => self.tell(feat::edit(reply, self.offer())),
            Verb::Help => self.tell(feat::edit_help(command, reply, self.offer())),
            Verb::Quit => {
                self.tell(reply);
                self.close(SessionEnd::Quit);
            }
            _ => self.tell(reply),
        }
    }

    /// What FEAT and HELP may say.
    pub(super) fn offer(&self) -> Offer {
        Offer {
            active: self.terms.active,
            tls: self.terms.security.offered,
            auth: !self.terms.security.implicit,
        }
    }

    /// Sends a client's command upstream.
    pub(super) fn forward(&mut self, command: Command) {
        if self.await_upstream(&command) {
            return;
        }
        self.actions.push_back(Action::ToUpstream(command.to_line()));
        self.pending.push_back(Pending::Command(command));
    }
}

/// The size in `ALLO size [R record-size]`, the offset in `REST offset`.
pub(super) fn first_number(argument: &[u8]) -> Option<u64> {
    let digits = argument.trim_ascii().split(u8::is_ascii_whitespace).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
