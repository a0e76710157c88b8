//! PORT and EPRT: the gateway connects to the client, and towards the upstream uses passive mode.

use std::net::{IpAddr, SocketAddr};

use super::{Action, Channel, DataTarget, Dialogue};
use crate::ftp::command::{Command, Verb};
use crate::ftp::hostport::{MalformedEprt, parse_eprt, parse_port};

/// Ports below are services of the client's machine, and none of its FTP client's (RFC 2577 3).
const LOWEST_PORT: u16 = 1024;

/// Why a client is not connected to where it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallbackRefusal {
    /// It is a port of this gateway.
    Gateway,
    /// It is a privileged port.
    LowPort,
    /// It is another host than the client (the bounce attack, CVE-1999-0017).
    ThirdHost,
}

impl CallbackRefusal {
    /// All of them, for metrics.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::LowPort, Self::ThirdHost];

    /// The word for it in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::LowPort => "low-port",
            Self::ThirdHost => "third-host",
        }
    }
}

impl Dialogue {
    /// The client's port cannot be reached.
    pub fn handle_client_unreachable(&mut self) {
        self.refuse_data(
            super::Outcome::ClientFailed,
            "Can't open data connection: your port cannot be reached.",
        );
    }

    pub(super) fn start_port(&mut self, command: Command) {
        if !self.terms.active {
            return self.answer(502, "Active mode is not offered here; use PASV or EPSV.");
        }
        if self.epsv_all {
            return self.answer(503, "EPSV ALL is in effect; use EPSV.");
        }
        let own = if self.terms.client.to_canonical().is_ipv6() { "2" } else { "1" };
        let to = match self.callback(&command) {
            Ok(to) if is_same_family(to.ip(), self.terms.client) => to,
            Ok(_) | Err(MalformedEprt::Protocol) => {
                let text = format!("Network protocol not supported, use ({own})");
                return self.answer(522, &text);
            }
            Err(MalformedEprt::Syntax) => {
                return self.answer(501, "No address of the form that this command takes.");
            }
        };
        if let Some(refusal) = self.refusal(to) {
            self.actions.push_back(Action::CallbackRefused(refusal));
            let why = match refusal {
                CallbackRefusal::Gateway => "That port is this gateway's own.",
                CallbackRefusal::LowPort => "Ports below 1024 are not connected to.",
                CallbackRefusal::ThirdHost => "Only your own address is connected to.",
            };
            return self.answer(504, why);
        }
        self.ask_upstream(command);
    }

    /// The upstream waits at `target` for the transfer for which the client sent this command.
    pub(super) fn promise_callback(&mut self, command: &Command, target: DataTarget) {
        let Ok(to) = self.callback(command) else { return };
        self.actions.push_back(Action::AwaitTransfer { to, target });
        self.channel = Channel::Callback;
    }

    /// Where PORT or EPRT says that the client waits. `::` and `0.0.0.0`, as lftp says with IPv6,
    /// can only mean the client itself.
    fn callback(&self, command: &Command) -> Result<SocketAddr, MalformedEprt> {
        let mut to = match command.verb() {
            Verb::Eprt => parse_eprt(command.argument())?,
            _ => parse_port(command.argument()).ok_or(MalformedEprt::Syntax)?.into(),
        };
        if to.ip().is_unspecified() && is_same_family(to.ip(), self.terms.client) {
            to.set_ip(self.terms.client);
        }
        Ok(to)
    }

    fn refusal(&self, to: SocketAddr) -> Option<CallbackRefusal> {
        let own = &self.terms.own_ports;
        if to.ip().to_canonical() != self.terms.client.to_canonical() {
            Some(CallbackRefusal::ThirdHost)
        } else if to.port() < LOWEST_PORT {
            Some(CallbackRefusal::LowPort)
        } else if to.ip().to_canonical() == self.terms.own_address.to_canonical()
            && own.iter().any(|ports| ports.contains(&to.port()))
        {
            Some(CallbackRefusal::Gateway)
        } else {
            None
        }
    }
}

/// An IPv4 address may be written as IPv6.
fn is_same_family(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical().is_ipv4() == b.to_canonical().is_ipv4()
}
