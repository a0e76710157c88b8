//! What of the configuration a reload may change. A session keeps what it began with.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::access::{Access, Rules};
use crate::config::{self, Active, Config, Limits, Passive, PassiveHost, Timeouts, TlsMode};
use crate::ftp::dialogue::{Ascii, Security};

/// The settings of now, or of when a session began.
#[derive(Debug)]
pub(super) struct Settings {
    /// Who may do what.
    pub(super) access: Rules,
    pub(super) active: Active,
    /// What the clients of each listener get, in the order of the configuration.
    pub(super) listeners: Vec<Terms>,
    pub(super) upstream_ports: RangeInclusive<u16>,
    pub(super) resume: bool,
    pub(super) lost_after: Duration,
    pub(super) passive_host: PassiveHost,
    pub(super) passive: Passive,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
    pub(super) drain: config::Drain,
    /// Whether protected data connections must resume their control connection's TLS session.
    pub(super) require_resumption: bool,
}

/// What the clients of one listener get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) security: Security,
    pub(super) ascii: Ascii,
    pub(super) active: bool,
}

// === impl Settings ===

impl Settings {
    pub(super) fn new(config: &Config, access: &Access) -> Self {
        let requires_data = config.tls.as_ref().is_some_and(|tls| tls.require_data);
        let terms = |listener: &config::Listener| Terms {
            security: Security {
                offered: listener.tls != TlsMode::Off,
                implicit: listener.tls == TlsMode::Implicit,
                required: matches!(listener.tls, TlsMode::Implicit | TlsMode::Required),
                requires_data,
            },
            ascii: listener.ascii,
            active: listener.active,
        };
        Self {
            access: access.rules(config),
            active: config.active.clone(),
            listeners: config.listeners.iter().map(terms).collect(),
            upstream_ports: config.upstream.passive_ports.clone(),
            resume: config.upstream.resume,
            lost_after: config.upstream.lost_after,
            passive_host: config.upstream.passive_host,
            passive: config.passive.clone(),
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            drain: config.drain.clone(),
            require_resumption: config.tls.as_ref().is_none_or(|tls| tls.require_resumption),
        }
    }
}
