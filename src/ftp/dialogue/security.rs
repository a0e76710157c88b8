//! TLS with the client (RFC 4217): AUTH, PBSZ, PROT, and what is refused for want of it.
//!
//! The handshake is the driver's. What must not happen here is that a word spoken in the clear
//! still counts inside TLS: whoever sits on the line could have put it there (CVE-2011-0411). So
//! AUTH must come before anything that sets something, and nothing may come behind it until the
//! handshake is done.

use super::{Action, Dialogue, SessionEnd};
use crate::ftp::command::{Command, Verb};
use crate::ftp::reply::Reply;

/// What a listener offers and demands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Security {
    /// AUTH TLS is answered by 234.
    pub offered: bool,
    /// The session began with TLS, so there is nothing to ask for (port 990).
    pub implicit: bool,
    /// Nobody logs in without it.
    pub required: bool,
    /// Who uses it must protect data connections too.
    pub requires_data: bool,
}

/// How far the client's TLS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protection {
    state: State,
    /// PBSZ has been said.
    sized: bool,
    /// PROT P: data connections are protected.
    pub(super) private: bool,
    /// Something was said in the clear that may have set something.
    stained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Clear,
    /// 234 is on its way, and then the handshake.
    Securing,
    Secured,
}

impl Protection {
    pub(super) fn new(security: Security) -> Self {
        Self {
            state: if security.implicit { State::Secured } else { State::Clear },
            sized: security.implicit,
            private: security.implicit,
            stained: false,
        }
    }

    pub(super) fn is_securing(self) -> bool {
        self.state == State::Securing
    }

    pub(super) fn is_secured(self) -> bool {
        self.state == State::Secured
    }

    /// Notes what the client says in the clear.
    pub(super) fn note(&mut self, verb: Verb) {
        let harmless = matches!(
            verb,
            Verb::Auth
                | Verb::Ccc
                | Verb::Feat
                | Verb::Help
                | Verb::Noop
                | Verb::Pbsz
                | Verb::Prot
                | Verb::Secure
                | Verb::Syst
        );
        self.stained |= self.state == State::Clear && !harmless;
    }
}

impl Dialogue {
    /// The handshake that [`Action::StartTls`] asked for is done.
    pub fn handle_secured(&mut self) {
        if self.protection.is_securing() {
            self.protection.state = State::Secured;
            self.pump();
        }
    }

    /// The client had sent more behind AUTH, in the clear, when [`Action::StartTls`] was to be done.
    pub fn handle_plaintext_behind_auth(&mut self) {
        self.give_up(SessionEnd::PlaintextBehindAuth, "Nothing may come behind AUTH in the clear.");
    }

    /// What [`Action::StartTls`] asked for cannot be had now.
    pub fn handle_tls_unavailable(&mut self) {
        self.protection.state = State::Clear;
        self.answer(431, "TLS is not available now; try again later.");
        self.pump();
    }

    pub(super) fn start_auth(&mut self, command: &Command) {
        let mechanism = command.argument().trim_ascii();
        let known = ["TLS", "TLS-C", "TLS-P", "SSL"];
        if !self.terms.security.offered {
            self.answer(502, "TLS is not offered here.");
        } else if self.protection.is_secured() {
            self.answer(503, "TLS is in use already.");
        } else if !known.iter().any(|name| mechanism.eq_ignore_ascii_case(name.as_bytes())) {
            self.answer(504, "Only AUTH TLS is known.");
        } else if self.protection.stained {
            self.answer(503, "AUTH must come first; connect again and begin with it.");
        } else if !self.queue.is_empty() {
            self.handle_plaintext_behind_auth();
        } else {
            self.protection.state = State::Securing;
            let reply = Reply::new(234, "Begin the TLS handshake.");
            self.actions.push_back(Action::StartTls(reply.into_bytes()));
        }
    }

    pub(super) fn start_pbsz(&mut self, command: &Command) {
        let argument = command.argument().trim_ascii();
        if !self.terms.security.offered {
            self.answer(502, "TLS is not offered here.");
        } else if !self.protection.is_secured() {
            self.answer(503, "Use AUTH TLS first.");
        } else if argument.is_empty() || !argument.iter().all(u8::is_ascii_digit) {
            self.answer(501, "PBSZ takes a number; 0 will do.");
        } else {
            self.protection.sized = true;
            // RFC 4217 8: always 0, as TLS frames by itself.
            self.answer(200, "PBSZ=0");
        }
    }

    pub(super) fn start_prot(&mut self, command: &Command) {
        let level = command.argument().trim_ascii().to_ascii_uppercase();
        if !self.terms.security.offered {
            return self.answer(502, "TLS is not offered here.");
        }
        if !self.protection.is_secured() || !self.protection.sized {
            return self.answer(503, "Use AUTH TLS and PBSZ first.");
        }
        match level.as_slice() {
            b"P" => {
                self.protection.private = true;
                self.answer(200, "Data connections are protected.");
            }
            b"C" if self.terms.security.requires_data => {
                self.answer(534, "Data connections must be protected here (PROT P).");
            }
            b"C" => {
                self.protection.private = false;
                self.answer(200, "Data connections are in the clear.");
            }
            b"S" | b"E" => self.answer(536, "TLS knows PROT P and PROT C only."),
            _ => self.answer(504, "PROT takes P or C."),
        }
    }

    /// Refuses what would be said in the clear and must not be. Says whether it did.
    pub(super) fn refuse_unsecured(&mut self, command: &Command) -> bool {
        let verb = command.verb();
        let free = matches!(
            verb,
            Verb::Auth
                | Verb::Ccc
                | Verb::Feat
                | Verb::Help
                | Verb::Http
                | Verb::Noop
                | Verb::Pbsz
                | Verb::Prot
                | Verb::Quit
                | Verb::Secure
                | Verb::Syst
        );
        let security = self.terms.security;
        if security.required && !self.protection.is_secured() && !free {
            self.answer(530, "Only with TLS: AUTH TLS first.");
            return true;
        }
        if verb == Verb::Rein && self.protection.is_secured() {
            // RFC 4217 11 would have it end TLS, which no client expects.
            self.answer(502, "REIN is not offered within TLS; connect again.");
            return true;
        }
        let exposed = self.protection.is_secured() && !self.protection.private;
        if security.requires_data && exposed && verb.direction().is_some() {
            self.refuse_transfer(command, 521, "Data connections must be protected: PROT P first.");
            return true;
        }
        false
    }
}
