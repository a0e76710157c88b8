//! What is known of one endpoint's health: a state machine without I/O or clock.
//!
//! Two kinds of evidence are kept apart. *Probes* count: `rise` good ones in a row make an endpoint
//! healthy, `fall` failed ones make it unhealthy. A *client's attempt* that failed makes it suspect
//! for a while whatever the probes say, since a probe may look less deep than a client does; one
//! that succeeds ends that.

use tokio::time::Instant;

/// The health of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Health {
    probed: Probed,
    /// Probes in a row that speak against `probed`.
    against: u32,
    /// Why the latest failed probe failed, until it is healthy again.
    reason: Option<String>,
    /// Until when it is tried last, and what a client's attempt met with.
    suspect: Option<(Instant, &'static str)>,
}

/// What the probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probed {
    /// Nothing yet.
    Initial,
    Healthy,
    Unhealthy,
    /// Nothing ever: there are none.
    Never,
}

/// An endpoint's state, in the words of the Network Load Balancer's target health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its name no longer resolves to it: it keeps its sessions and gets no new ones.
    Draining,
    /// It serves.
    Healthy,
    /// It has not been probed yet.
    Initial,
    /// Its probes fail, or the latest attempt of a client did.
    Unhealthy,
}

/// What a probe has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    BecameHealthy,
    BecameUnhealthy,
}

impl Health {
    /// Nothing is known yet; `probed` says whether probes will come.
    pub(super) fn new(probed: bool) -> Self {
        let probed = if probed { Probed::Initial } else { Probed::Never };
        Self { probed, against: 0, reason: None, suspect: None }
    }

    /// A probe went well.
    pub(super) fn probe_passed(&mut self, rise: u32) -> Option<Change> {
        let changes = self.probed(Probed::Healthy, rise);
        if self.probed == Probed::Healthy {
            self.reason = None;
        }
        changes.then_some(Change::BecameHealthy)
    }

    /// A probe failed.
    pub(super) fn probe_failed(&mut self, fall: u32, reason: String) -> Option<Change> {
        self.reason = Some(reason);
        self.probed(Probed::Unhealthy, fall).then_some(Change::BecameUnhealthy)
    }

    /// Whether this result, the `threshold`th in a row, changes the state. The very first one
    /// decides alone.
    fn probed(&mut self, result: Probed, threshold: u32) -> bool {
        if self.probed == result {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let changes = self.probed == Probed::Initial || self.against >= threshold;
        if changes {
            self.probed = result;
            self.against = 0;
        }
        changes
    }

    /// A client was served.
    pub(super) fn attempt_succeeded(&mut self) {
        self.suspect = None;
    }

    /// A client was not; it is tried last `until` then.
    pub(super) fn attempt_failed(&mut self, until: Instant, why: &'static str) {
        self.suspect = Some((until, why));
    }

    /// The state, and why it is not healthy.
    pub(super) fn state(&self, now: Instant) -> (State, Option<String>) {
        match (self.probed, self.suspect) {
            (Probed::Unhealthy, _) => (State::Unhealthy, self.reason.clone()),
            (_, Some((until, why))) if now < until => (State::Unhealthy, Some(why.into())),
            (Probed::Initial, _) => (State::Initial, Some("not probed yet".into())),
            (Probed::Healthy | Probed::Never, _) => (State::Healthy, None),
        }
    }

    /// Whether a client is better sent elsewhere.
    pub(super) fn is_avoided(&self, now: Instant) -> bool {
        self.probed == Probed::Unhealthy || self.suspect.is_some_and(|(until, _)| now < until)
    }
}

impl State {
    /// The word for it in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Healthy => "healthy",
            Self::Initial => "initial",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Plays probe results (`+` passed, `-` failed) with rise 3 and fall 2; the states in between.
    fn play(results: &str) -> String {
        let mut health = Health::new(true);
        results
            .chars()
            .map(|result| {
                let change = match result {
                    '+' => health.probe_passed(3),
                    _ => health.probe_failed(2, "no answer".into()),
                };
                let (state, reason) = health.state(Instant::now());
                assert_eq!(reason.is_some(), state == State::Unhealthy, "{results}");
                match (state, change) {
                    (State::Healthy, Some(Change::BecameHealthy)) => 'H',
                    (State::Healthy, None) => 'h',
                    (State::Unhealthy, Some(Change::BecameUnhealthy)) => 'U',
                    (State::Unhealthy, None) => 'u',
                    other => panic!("{results}: {other:?}"),
                }
            })
            .collect()
    }

    #[test]
    fn the_first_probe_decides_and_then_only_rows_do() {
        for (results, states) in [
            ("+", "H"),
            ("-", "U"),
            ("+-+-+-", "Hhhhhh"),
            ("+--", "HhU"),
            ("-++-+++", "UuuuuuH"),
            ("+--+++--", "HhUuuHhU"),
        ] {
            assert_eq!(play(results), states, "{results}");
        }
    }

    #[test]
    fn an_unprobed_endpoint_is_healthy_until_a_client_meets_otherwise() {
        let now = Instant::now();
        let mut health = Health::new(false);
        assert_eq!(health.state(now), (State::Healthy, None));
        health.attempt_failed(now + Duration::from_secs(10), "connect-timeout");
        assert_eq!(health.state(now), (State::Unhealthy, Some("connect-timeout".into())));
        assert!(health.is_avoided(now) && !health.is_avoided(now + Duration::from_secs(10)));
        health.attempt_succeeded();
        assert_eq!(health.state(now), (State::Healthy, None));
    }

    #[test]
    fn a_probe_that_passes_does_not_end_what_a_client_has_met() {
        let now = Instant::now();
        let mut health = Health::new(true);
        health.attempt_failed(now + Duration::from_secs(10), "banner-timeout");
        health.probe_passed(1);
        assert!(health.is_avoided(now));
        // An attempt that succeeds does not make good for failing probes either.
        health.probe_failed(1, "login refused".into());
        health.attempt_succeeded();
        assert_eq!(health.state(now), (State::Unhealthy, Some("login refused".into())));
    }
}
