//! How many sessions there may be: in all, and for one client address. With IPv6 that is a /64, as
//! for bans: its owner has all of it to come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::access::counted_as;
use crate::config;
use crate::lock::lock;

/// The count of sessions; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    sessions: usize,
    sessions_per_client: usize,
    all: usize,
    /// The most at a time since somebody asked.
    most: usize,
    /// Only clients that have a session.
    by_client: HashMap<IpAddr, usize>,
}

/// One session's place; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    client: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// `limits.sessions_per_client`.
    Client,
    /// `limits.sessions`.
    Node,
}

impl Admission {
    pub(super) fn new(limits: &config::Limits) -> Self {
        let admission = Self { counts: Arc::default() };
        admission.limit(limits);
        admission
    }

    /// Other limits from now on. Who is in stays in.
    pub(super) fn limit(&self, limits: &config::Limits) {
        let mut counts = lock(&self.counts);
        counts.sessions = limits.sessions;
        counts.sessions_per_client = limits.sessions_per_client;
    }

    /// A place for one more session of this client address.
    pub(super) fn admit(&self, client: IpAddr) -> Result<Place, Full> {
        let client = counted_as(client);
        let mut counts = lock(&self.counts);
        if counts.all >= counts.sessions {
            return Err(Full::Node);
        }
        let of_client = counts.by_client.get(&client).copied().unwrap_or_default();
        if of_client >= counts.sessions_per_client {
            return Err(Full::Client);
        }
        counts.by_client.insert(client, of_client + 1);
        counts.all += 1;
        counts.most = counts.most.max(counts.all);
        Ok(Place { client, counts: Arc::clone(&self.counts) })
    }

    /// How many sessions there are, and the most that there have been at a time since the last call.
    pub(super) fn count(&self) -> (usize, usize) {
        let mut counts = lock(&self.counts);
        let (all, most) = (counts.all, counts.most);
        counts.most = all;
        (all, most)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all = counts.all.saturating_sub(1);
        match counts.by_client.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(&config::Limits {
            sessions: 3,
            sessions_per_client: 2,
            line_length: 4096,
            reply_size: 4096,
            commands_per_second: 1,
        })
    }

    #[test]
    fn an_ipv6_client_has_no_more_places_than_its_network() {
        let admission = admission();
        let come = |address: &str| admission.admit(address.parse().unwrap());
        let _two = [come("2001:db8::1").unwrap(), come("2001:db8::2").unwrap()];
        assert_eq!(come("2001:db8::3").unwrap_err(), Full::Client);
        let _other = come("2001:db8:0:1::1").unwrap();
    }

    #[test]
    fn places_are_limited_in_all_and_for_each_client_and_come_back() {
        let admission = admission();
        let [a, b] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Full::Client);
        let third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), Full::Node);
        drop((first, third));
        assert!(admission.admit(a).is_ok());
        assert_eq!(admission.counts.lock().unwrap().by_client.len(), 1);
        assert_eq!([admission.count(), admission.count()], [(1, 3), (1, 1)]);
    }
}
