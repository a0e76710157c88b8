//! What of a changed file a running node takes up.

use super::{Config, Listener, Log, Passive, Upstream};

impl Config {
    /// This, with all that a running node can take up from `new`.
    pub fn taking_up(&self, new: &Self) -> Self {
        let addresses = |config: &Self| -> Vec<_> {
            config.listeners.iter().map(|listener| listener.address).collect()
        };
        // Rules name listeners by addresses, and those stay.
        let access = if addresses(self) == addresses(new) { new } else { self }.access.clone();
        let listeners = match new.listeners.len() == self.listeners.len() {
            true => self
                .listeners
                .iter()
                .zip(&new.listeners)
                .map(|(old, new)| Listener {
                    address: old.address,
                    // Without a certificate from the start there is no TLS to offer.
                    tls: if self.tls.is_some() { new.tls } else { old.tls },
                    ..new.clone()
                })
                .collect(),
            // Which of them is which is not known.
            false => self.listeners.clone(),
        };
        Self {
            listeners,
            tls: self.tls.as_ref().map(|old| new.tls.as_ref().unwrap_or(old).clone()),
            passive: Passive { ports: self.passive.ports.clone(), ..new.passive.clone() },
            active: new.active.clone(),
            access,
            upstream: Upstream {
                source_addresses: self.upstream.source_addresses.clone(),
                tls: self.upstream.tls.clone(),
                ..new.upstream.clone()
            },
            timeouts: new.timeouts.clone(),
            limits: new.limits.clone(),
            drain: new.drain.clone(),
            log: Log { level: new.log.level.clone(), ..self.log.clone() },
            ..self.clone()
        }
    }

    /// The tables in which they differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        [
            ("node", self.node == other.node),
            ("listener", self.listeners == other.listeners),
            ("tls", self.tls == other.tls),
            ("passive", self.passive == other.passive),
            ("active", self.active == other.active),
            ("proxy_protocol", self.proxy_protocol == other.proxy_protocol),
            ("access", self.access == other.access),
            ("upstream", self.upstream == other.upstream),
            ("dns", self.dns == other.dns),
            ("probe", self.probe == other.probe),
            ("timeouts", self.timeouts == other.timeouts),
            ("limits", self.limits == other.limits),
            ("drain", self.drain == other.drain),
            ("audit", self.audit == other.audit),
            ("verify", self.verify == other.verify),
            ("ha", self.ha == other.ha),
            ("cloudwatch", self.cloudwatch == other.cloudwatch),
            ("admin", self.admin == other.admin),
            ("http", self.http == other.http),
            ("log", self.log == other.log),
        ]
        .into_iter()
        .filter_map(|(table, same)| (!same).then_some(table))
        .collect()
    }
}
