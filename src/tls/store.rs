//! What one upstream session remembers of its TLS sessions, so that every data connection resumes.

use crate::lock::lock;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Unused tickets that are kept. Servers send one or two with each connection.
const TICKETS: usize = 8;

/// The memory of one upstream session, which talks to one server by one name.
///
/// A session of TLS 1.2 resumes as often as one likes. With TLS 1.3 each resumption takes a ticket,
/// and rustls lets none be used twice: RFC 8446 C.4 recommends that, and rustls's tickets cannot be
/// copied. They come from the server as it likes: two at the beginning with OpenSSL, and one with each
/// connection that resumes; but proftpd and pure-ftpd give none to a client that uploads. So there is
/// no telling whether they last, and [`SessionStore::has_run_out`] when they have not. The newest is
/// taken first, as it is good for longest.
#[derive(Default)]
pub(super) struct SessionStore(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
    /// A handshake has been begun.
    used: bool,
}

impl SessionStore {
    /// Whether another connection would find nothing to resume by.
    pub(super) fn has_run_out(&self) -> bool {
        let memory = self.memory();
        memory.used && memory.tls12.is_none() && memory.tickets.is_empty()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.0)
    }
}

impl ClientSessionStore for SessionStore {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.memory().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.memory().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.memory().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.memory().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.memory().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut memory = self.memory();
        if memory.tickets.len() == TICKETS {
            memory.tickets.pop_front();
        }
        memory.tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut memory = self.memory();
        memory.used = true;
        memory.tickets.pop_back()
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds keys.
        f.debug_struct("SessionStore").finish_non_exhaustive()
    }
}
