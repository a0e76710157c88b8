//! PASV and EPSV: towards the upstream whichever it speaks, towards the client our own port. The
//! upstream is asked the same way when the client uses active mode.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Action, Channel, Dialogue, Pending, Waiting};
use crate::ftp::command::{Command, Line, Verb};
use crate::ftp::hostport::{parse_227, parse_229, reply_227, reply_229};
use crate::ftp::reply::Reply;

/// How often an upstream that has no passive port free is asked again.
const RETRIES: u8 = 6;

/// Where the upstream waits for the data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataTarget {
    /// The port it announced.
    pub port: u16,
    /// The host it announced, if it used 227. Not to be trusted: `0.0.0.0`, another zone's
    /// address and an attacker's all occur.
    pub announced_host: Option<Ipv4Addr>,
}

/// A PASV or EPSV, PORT or EPRT in flight.
#[derive(Debug)]
pub(super) struct PassiveRequest {
    /// What the client sent.
    command: Command,
    /// What the upstream was sent.
    sent: Passive,
    retries_left: u8,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passive {
    Epsv,
    Pasv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// For the upstream's 227 or 229.
    Asking,
    /// For the time to ask again.
    Pausing,
    /// For a port of our own.
    Reserving,
}

impl PassiveRequest {
    /// What the client sent.
    pub(super) fn into_command(self) -> Command {
        self.command
    }

    pub(super) fn is_pausing(&self) -> bool {
        self.stage == Stage::Pausing
    }

    pub(super) fn waiting(&self) -> Waiting {
        match self.stage {
            Stage::Asking => Waiting::Reply,
            Stage::Pausing => Waiting::Retry { attempt: RETRIES - self.retries_left },
            Stage::Reserving => Waiting::Nothing,
        }
    }
}

impl Dialogue {
    /// The port asked for by [`Action::ReservePort`] is ours; `address` is what the client shall
    /// connect to.
    pub fn handle_port_reserved(&mut self, address: SocketAddr) {
        let Some(Pending::Passive(request)) = self.pending.front() else { return };
        let reply = match (request.command.verb(), address) {
            (Verb::Pasv, SocketAddr::V4(address)) => reply_227(address),
            (Verb::Pasv, SocketAddr::V6(_)) => Reply::new(425, "PASV needs IPv4; use EPSV."),
            (_, address) => reply_229(address.port()),
        };
        self.channel = Channel::Ready;
        self.finish_passive(reply);
    }

    /// The port asked for by [`Action::ReservePort`] could not be had.
    pub fn handle_ports_exhausted(&mut self) {
        self.finish_passive(Reply::new(
            425,
            "No passive port is free for your address; try again.",
        ));
    }

    pub(super) fn start_pasv(&mut self, command: Command) {
        if self.epsv_all {
            // RFC 2428 4: after EPSV ALL every other set-up command must be rejected.
            self.answer(503, "EPSV ALL is in effect; use EPSV.");
        } else if !self.terms.passive_ipv4 {
            self.answer(425, "PASV needs IPv4; use EPSV.");
        } else {
            self.ask_upstream(command);
        }
    }

    pub(super) fn start_epsv(&mut self, command: Command) {
        let own = if self.terms.client_ipv6 { "2" } else { "1" };
        match command.argument().trim_ascii() {
            argument if argument.eq_ignore_ascii_case(b"ALL") => {
                self.epsv_all = true;
                self.answer(200, "EPSV ALL is in effect.");
            }
            argument if argument.is_empty() || argument == own.as_bytes() => {
                self.ask_upstream(command);
            }
            argument if argument.iter().all(u8::is_ascii_digit) => {
                self.answer(522, &format!("Network protocol not supported, use ({own})"));
            }
            _ => self.answer(501, "EPSV takes 1, 2 or ALL."),
        }
    }

    /// A second PASV takes back the first; then the upstream is asked for a port.
    pub(super) fn ask_upstream(&mut self, command: Command) {
        if self.await_upstream(&command) {
            return;
        }
        self.drop_channel();
        let sent = if self.upstream_epsv { Passive::Epsv } else { Passive::Pasv };
        let request = PassiveRequest { command, sent, retries_left: RETRIES, stage: Stage::Asking };
        self.pending.push_back(Pending::Passive(request));
        self.send_passive(sent);
    }

    fn send_passive(&mut self, passive: Passive) {
        let line: &[u8] = match passive {
            Passive::Epsv => b"EPSV",
            Passive::Pasv => b"PASV",
        };
        self.actions.push_back(Action::ToUpstream(Line::new(line)));
    }

    pub(super) fn handle_passive_reply(&mut self, reply: Reply) {
        let Some(Pending::Passive(request)) = self.pending.front_mut() else { return };
        if request.stage != Stage::Asking || reply.is_preliminary() {
            return;
        }
        let target = match (request.sent, reply.code()) {
            (Passive::Epsv, 229) => {
                parse_229(&reply).map(|port| DataTarget { port, announced_host: None })
            }
            (Passive::Pasv, 227) => parse_227(&reply).map(|address| DataTarget {
                port: address.port(),
                announced_host: Some(*address.ip()),
            }),
            _ => None,
        };
        if let Some(target) = target {
            if self.terms.upstream_ports.contains(&target.port) {
                request.stage = Stage::Reserving;
                self.open_channel(target);
            } else {
                self.finish_passive(Reply::new(
                    425,
                    "The FTP server announced a port that it may not use.",
                ));
            }
            return;
        }
        // No EPSV there: 500 to 504, 522, or a 2yz that is no good 229. An error such as 530 or
        // 425 is no word on EPSV.
        let no_epsv = matches!(reply.code(), 500..=504 | 522) || reply.is_positive();
        if request.sent == Passive::Epsv && no_epsv && !self.terms.upstream_ipv6 {
            request.sent = Passive::Pasv;
            self.upstream_epsv = false;
            self.send_passive(Passive::Pasv);
        } else if reply.code() == 425 && request.retries_left > 0 {
            // All of the upstream's few ports are taken for a moment.
            request.retries_left -= 1;
            request.stage = Stage::Pausing;
        } else {
            self.finish_passive(reply);
        }
    }

    /// The upstream has a port for the data connection that the client asked for.
    fn open_channel(&mut self, target: DataTarget) {
        let Some(Pending::Passive(request)) = self.pending.front() else { return };
        let verb = request.command.verb();
        if matches!(verb, Verb::Port | Verb::Eprt) {
            let command = request.command.clone();
            self.promise_callback(&command, target);
            let text = format_args!("{} command successful.", verb.as_str());
            self.finish_passive(Reply::new(200, text));
        } else {
            self.actions.push_back(Action::ReservePort(target));
        }
    }

    pub(super) fn retry_passive(&mut self) {
        if let Some(Pending::Passive(request)) = self.pending.front_mut() {
            request.stage = Stage::Asking;
            let sent = request.sent;
            self.send_passive(sent);
        }
    }

    fn finish_passive(&mut self, reply: Reply) {
        if matches!(self.pending.front(), Some(Pending::Passive(_))) {
            self.pending.pop_front();
            self.tell(reply);
            self.pump();
        }
    }
}
