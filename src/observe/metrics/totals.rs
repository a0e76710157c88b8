//! The counts that CloudWatch is told of, taken from the metrics.

use prometheus::IntGauge;

use super::Metrics;
use crate::ftp::Direction;
use crate::ftp::dialogue::{DataFailure, Outcome};

/// What CloudWatch is told, counted since this node's start but for the flows, which are open now.
/// Each is what the NLB means by the word, with a session's control connection and a transfer's
/// data connection for its flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions and transfers now.
    pub active_flows: u64,
    /// Sessions, and transfers that were let through and have ended.
    pub new_flows: u64,
    /// Bytes of data connections.
    pub processed_bytes: u64,
    /// Data connections that broke at the client's side.
    pub client_resets: u64,
    /// Data connections that broke at the endpoint's side.
    pub target_resets: u64,
    /// Transfers that this node cut.
    pub elb_resets: u64,
    /// Connections without a source port.
    pub port_allocation_errors: u64,
    /// Clients that got no session.
    pub rejected_flows: u64,
    /// Logins that the endpoint refused.
    pub login_failures: u64,
    /// PASV and EPSV without a port.
    pub passive_port_exhausted: u64,
    /// Transfers that began and did not come to their end, whoever ended them.
    pub transfers_aborted: u64,
}

impl Metrics {
    /// The counts as they are now.
    pub fn totals(&self) -> Totals {
        let now = |gauge: &IntGauge| u64::try_from(gauge.get()).unwrap_or(0);
        let resets =
            |failure: DataFailure| self.data_resets.with_label_values(&[failure.as_str()]).get();
        let aborted = [
            Outcome::Aborted,
            Outcome::ClientFailed,
            Outcome::GatewayFailed,
            Outcome::UpstreamFailed,
        ];
        let aborted: u64 = aborted.into_iter().map(|outcome| self.ended(outcome)).sum();
        Totals {
            active_flows: now(&self.sessions) + now(&self.transfers),
            new_flows: self.sessions_total.get() + self.ended(Outcome::Complete) + aborted,
            processed_bytes: Direction::ALL.map(|direction| self.bytes(direction)).iter().sum(),
            client_resets: DataFailure::ALL
                .into_iter()
                .filter(|failure| failure.is_clients())
                .map(resets)
                .sum(),
            target_resets: resets(DataFailure::Upstream),
            elb_resets: self.ended(Outcome::GatewayFailed),
            port_allocation_errors: self.upstream.port_allocation_errors.get(),
            rejected_flows: self.refused(),
            login_failures: self.failed_logins(),
            passive_port_exhausted: self.passive.exhausted.get(),
            transfers_aborted: aborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::metrics::Refusal;

    #[test]
    fn totals_count_every_direction_and_reason() {
        let metrics = Metrics::new().unwrap();
        assert_eq!(metrics.totals(), Totals::default());
        metrics.session_started();
        metrics.session_refused(Refusal::Limit);
        metrics.session_refused(Refusal::NoEndpoint);
        metrics.login(true);
        metrics.login(false);
        let second = Duration::from_secs(1);
        for (direction, outcome, bytes) in [
            (Direction::Upload, Outcome::Complete, 100),
            (Direction::Listing, Outcome::GatewayFailed, 20),
            (Direction::Download, Outcome::ClientFailed, 3),
            (Direction::Download, Outcome::Refused, 0),
        ] {
            metrics.transfer_started();
            metrics.transfer_ended(direction, outcome, bytes, second);
        }
        metrics.transfer_started();
        metrics.data_reset(DataFailure::Client);
        metrics.passive_exhausted();
        let expected = Totals {
            active_flows: 2,
            new_flows: 4,
            processed_bytes: 123,
            client_resets: 1,
            elb_resets: 1,
            rejected_flows: 2,
            login_failures: 1,
            passive_port_exhausted: 1,
            transfers_aborted: 2,
            ..Totals::default()
        };
        assert_eq!(metrics.totals(), expected);
    }
}
