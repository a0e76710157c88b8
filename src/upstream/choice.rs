//! Which endpoint a client gets: an order in which they are tried, worked out without I/O.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::config::Choice;

/// What counts of an endpoint when a client is to be sent somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    /// It is in this node's zone.
    pub(super) near: bool,
    pub(super) sessions: usize,
    /// It is better tried last.
    pub(super) avoided: bool,
}

/// Sorts so that the first is the one to try first. None is left out: with all of them failing,
/// every one is still tried.
pub(super) fn sort(candidates: &mut [Candidate], choice: Choice, client: IpAddr) {
    // A stable sort: among equals the order of the configuration counts.
    candidates.sort_by_key(|candidate| {
        let key = match choice {
            Choice::LeastSessions => (candidate.sessions as u64, u64::from(!candidate.near)),
            Choice::PreferZone => (u64::from(!candidate.near), candidate.sessions as u64),
            Choice::SourceHash => (hash(client, candidate.address), 0),
        };
        (candidate.avoided, key)
    });
}

/// Rendezvous hashing: each client ranks the endpoints in an order of its own, so one that fails
/// or comes back moves only the clients that rank it first.
pub(super) fn hash(client: IpAddr, of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    // A client may come by IPv4 or by the same address mapped into IPv6.
    client.to_canonical().hash(&mut hasher);
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use super::*;

    fn endpoint(last: u8, near: bool, sessions: usize, avoided: bool) -> Candidate {
        let address = SocketAddr::from(([10, 2, 3, last], 21));
        Candidate { address, near, sessions, avoided }
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + number))
    }

    fn order(candidates: &[Candidate], choice: Choice, client: IpAddr) -> Vec<u8> {
        let mut candidates = candidates.to_vec();
        sort(&mut candidates, choice, client);
        let last = |candidate: &Candidate| match candidate.address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        candidates.iter().map(last).collect()
    }

    #[test]
    fn zone_sessions_and_failures_count_as_the_choice_says() {
        let endpoints = [
            endpoint(1, false, 0, false),
            endpoint(2, true, 7, false),
            endpoint(3, true, 5, false),
            endpoint(4, true, 0, true),
            endpoint(5, false, 0, true),
            endpoint(6, false, 0, false),
        ];
        assert_eq!(order(&endpoints, Choice::PreferZone, client(1)), [3, 2, 1, 6, 4, 5]);
        assert_eq!(order(&endpoints, Choice::LeastSessions, client(1)), [1, 6, 3, 2, 4, 5]);
    }

    #[test]
    fn a_source_keeps_its_endpoint_and_only_those_of_a_failing_one_move() {
        let all = [1, 2, 3].map(|last| endpoint(last, false, 0, false));
        let mut without_two = all;
        without_two[1].avoided = true;
        let mut shares: HashMap<u8, u32> = HashMap::new();
        for number in 0..3_000 {
            let first = order(&all, Choice::SourceHash, client(number))[0];
            let then = order(&without_two, Choice::SourceHash, client(number))[0];
            assert!(then != 2 && (first == 2 || first == then), "{number}: {first}, then {then}");
            *shares.entry(first).or_default() += 1;
        }
        assert!(shares.values().all(|&share| (850..1150).contains(&share)), "{shares:?}");
    }
}
