//! The driver's part that has to do with data connections and transfers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::debug;

use super::{Parties, Session, printable};
use crate::config::{Passive, PassiveAddress, PassiveHost};
use crate::ftp::dialogue::{Course, DataFailure, DataTarget, TransferEnd};
use crate::ftp::{Direction, Outcome, Place};
use crate::gateway::pair;
use crate::gateway::passive::Patience;
use crate::gateway::protection::Protection;
use crate::gateway::settings::Settings;
use crate::gateway::transfer::{Callback, DataEvent, Dial};
use crate::observe::audit::Record;
use crate::observe::metrics::Connection;
use crate::verify::Upload;

impl Session {
    pub(super) fn take_data(&mut self, event: DataEvent) {
        debug!(?event, "data");
        if matches!(event, DataEvent::Ended | DataEvent::Failed(_))
            && let Some((version, resumed)) = self.data.client_tls()
        {
            self.shared.metrics.tls_handshake(Connection::Data, version, resumed);
        }
        match event {
            DataEvent::PortReserved(port) => {
                let address = SocketAddr::new(self.settings.advertised(&self.parties), port);
                self.dialogue.handle_port_reserved(address);
            }
            DataEvent::PortsExhausted => {
                self.shared.metrics.passive_exhausted();
                self.dialogue.handle_ports_exhausted();
            }
            DataEvent::ClientUnreachable => self.dialogue.handle_client_unreachable(),
            DataEvent::Expired => {
                self.shared.metrics.passive_expired();
                self.dialogue.handle_reservation_expired();
            }
            DataEvent::DialFailed => self.dialogue.handle_dial_failed(),
            DataEvent::Opened => self.dialogue.handle_data_opened(),
            DataEvent::Refused => self.dialogue.handle_data_refused(),
            DataEvent::Ended => {
                // A client that dies sends FIN on both connections, the older one first.
                self.read_client_now();
                self.dialogue.handle_data_ended(self.data.received());
            }
            DataEvent::Failed(failure) => {
                if failure == DataFailure::NoTls {
                    self.shared.metrics.tls_failed(Connection::Data);
                }
                self.shared.metrics.data_reset(failure);
                self.dialogue.handle_data_failed(failure);
            }
        }
    }

    /// Lets the bytes of a transfer move.
    pub(super) fn relay(&mut self, course: Course) {
        let Course { direction, ascii, private } = course;
        let protection = self.tls.as_ref().filter(|_| private).map(|tls| Protection {
            tls: tls.clone(),
            require_resumption: self.settings.require_resumption,
            handshake: self.settings.timeouts.tls_handshake,
        });
        if private && protection.is_none() {
            // Never in the clear what shall be private.
            self.data.reset();
            return self.dialogue.handle_data_failed(DataFailure::NoTls);
        }
        let rule = self.dialogue.standing_rule().and_then(|rule| self.settings.access.get(rule));
        let rate = rule.and_then(|rule| rule.rate(direction));
        let course = pair::Course { direction, ascii, protection, rate };
        let pipes = Arc::clone(&self.shared.pipes);
        self.data.relay(course, pipes, self.settings.timeouts.data_idle);
    }

    /// Keeps in mind where the client waits to be connected to.
    pub(super) fn await_transfer(&mut self, to: SocketAddr, target: DataTarget) {
        let from = self.parties.own.ip();
        let callback = Callback { to, from, source_port: self.settings.active.source_port };
        let dial = self.dial(target);
        self.data.await_transfer(callback, dial);
    }

    /// Takes a passive port for the client; its data connection will be taken on to `target`.
    pub(super) fn reserve(&mut self, target: DataTarget) {
        let dial = self.dial(target);
        let (pool, client) = (self.service.pool.clone(), self.parties.client.ip());
        let Passive { reservation, wait, .. } = self.settings.passive;
        self.data.reserve(pool, client, Patience { wait, reservation }, dial);
    }

    fn dial(&self, target: DataTarget) -> Dial {
        let host = match (self.settings.passive_host, target.announced_host) {
            (PassiveHost::Announced, Some(host)) if !host.is_unspecified() => host.into(),
            _ => self.endpoint.ip(),
        };
        Dial {
            to: SocketAddr::new(host, target.port),
            from: self.source,
            source: self.source_count.clone(),
            timeout: self.settings.timeouts.data_connect,
            tls: self.upstream_tls.clone(),
        }
    }

    pub(super) fn audit(&mut self, end: TransferEnd) {
        self.place_of_transfer = None;
        let (bytes, duration) = match self.transfer.take() {
            Some((direction, started)) => {
                let (bytes, duration) = (self.data.bytes(), started.elapsed());
                let is_file = direction != Direction::Listing;
                self.listed.end_transfer(bytes, is_file && end.outcome == Outcome::Complete);
                self.shared.metrics.transfer_ended(direction, end.outcome, bytes, duration);
                (bytes, duration)
            }
            None => {
                if let Some(direction) = end.verb.direction() {
                    self.shared.metrics.transfer_refused(direction, end.outcome);
                }
                (0, Duration::ZERO)
            }
        };
        self.verify(&end, bytes);
        self.shared.audit.record(Record {
            time: SystemTime::now(),
            session: self.parties.session,
            client: self.parties.client,
            user: printable(self.dialogue.user()),
            verb: end.verb.as_str(),
            path: printable(&end.path),
            bytes,
            duration,
            outcome: end.outcome,
            reply: end.reply,
            endpoint: self.endpoint,
        });
    }

    /// An upload begins to write to this place.
    pub(super) fn begin_writing(&mut self, place: &Place) {
        let verifier = self.shared.verifier.as_ref();
        self.writing = verifier.and_then(|verifier| verifier.begin(self.dialogue.user(), place));
    }

    /// Has an upload looked for where it should be now.
    fn verify(&mut self, end: &TransferEnd, bytes: u64) {
        let writing = self.writing.take().filter(|_| end.as_sent);
        let is_upload = end.verb.direction() == Some(Direction::Upload);
        if let Some(verifier) = &self.shared.verifier
            && is_upload
            && end.outcome == Outcome::Complete
        {
            let upload = Upload {
                session: self.parties.session,
                user: printable(self.dialogue.user()),
                path: printable(&end.path),
                bytes,
            };
            verifier.uploaded(writing, upload);
        }
    }

    /// A file is not any more where it was.
    pub(super) fn file_gone(&self, from: Option<&Place>, to: Option<&Place>) {
        if let Some(verifier) = &self.shared.verifier {
            verifier.gone(self.dialogue.user(), from, to);
        }
    }
}

impl Settings {
    /// The address that 227 names for this client.
    pub(super) fn advertised(&self, parties: &Parties) -> IpAddr {
        let client = parties.client.ip();
        match self.passive.overrides.iter().find(|entry| entry.clients.contains(&client)) {
            Some(entry) => entry.address,
            None => match self.passive.address {
                PassiveAddress::Auto => parties.local.ip(),
                PassiveAddress::Fixed(address) => address,
            },
        }
    }
}
