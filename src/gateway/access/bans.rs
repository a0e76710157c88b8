//! Refused logins, by client address, and bans of who has too many.
//!
//! By address and not by user: otherwise whoever knows a name could lock its owner out. An IPv6
//! client has a whole /64 to choose from, so that counts as one. What an attacker can make of this
//! table is bounded: the oldest count makes room for a new one, and a ban is the last to go.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use ipnet::{IpNet, Ipv6Net};
use serde::Serialize;
use tokio::time::Instant;

use super::Penalty;
use crate::config;
use crate::lock::lock;

/// Addresses that are remembered: some 2 MiB.
const MOST: usize = 16_384;
/// The part of an IPv6 address that its owner does not choose.
const PREFIX: u8 = 64;

/// The table.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_client: Mutex<HashMap<IpAddr, Record>>,
}

/// What an address has done.
#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    /// When they began to count.
    since: Instant,
    /// When the latest was.
    last: Instant,
    banned_until: Option<Instant>,
}

/// A ban, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ban {
    /// The client's address, or its IPv6 network.
    pub client: IpNet,
    /// When it ends, in RFC 3339.
    #[serde(serialize_with = "crate::rfc3339::serialize")]
    pub until: SystemTime,
}

impl Bans {
    /// Whether a client is banned now.
    pub(super) fn is_banned(
        &self,
        config: Option<&config::Bans>,
        client: IpAddr,
        now: Instant,
    ) -> bool {
        let counts = config.is_some_and(|config| !is_exempt(config, client));
        counts && self.lock().get(&counted_as(client)).is_some_and(|record| record.is_banned(now))
    }

    /// A login of this client was refused.
    pub(super) fn failed(&self, config: &config::Bans, client: IpAddr, now: Instant) -> Penalty {
        if is_exempt(config, client) {
            return Penalty { delay: Duration::ZERO, banned: false, begins: false };
        }
        let (mut records, key) = (self.lock(), counted_as(client));
        if records.len() >= MOST && !records.contains_key(&key) {
            make_room(&mut records, config, now);
        }
        let fresh = Record { failures: 0, since: now, last: now, banned_until: None };
        let record = records.entry(key).or_insert(fresh);
        if record.is_over(config, now) {
            *record = fresh;
        }
        record.last = now;
        record.failures = record.failures.saturating_add(1);
        let begins = record.failures >= config.failures && !record.is_banned(now);
        if begins {
            record.banned_until = Some(now + config.duration);
        }
        let doublings = record.failures.saturating_sub(1).min(16);
        let delay = config.delay.saturating_mul(1 << doublings);
        Penalty { delay: delay.min(config::LONGEST_DELAY), banned: record.is_banned(now), begins }
    }

    /// Forgets what the clients of a network have done; says whether one of them was banned.
    pub(super) fn lift(&self, network: &IpNet, now: Instant) -> bool {
        let mut lifted = false;
        self.lock().retain(|client, record| {
            let is_in = network.contains(&shown(*client)) || shown(*client).contains(network);
            lifted |= is_in && record.is_banned(now);
            !is_in
        });
        lifted
    }

    /// All bans, the first to end first.
    pub(super) fn list(&self, now: Instant) -> Vec<Ban> {
        let wall = SystemTime::now();
        let records = self.lock();
        let banned = records.iter().filter(|(_, record)| record.is_banned(now));
        let ban = |(&client, record): (&IpAddr, &Record)| {
            let left = record.banned_until.unwrap_or(now).saturating_duration_since(now);
            Ban { client: shown(client), until: wall + left }
        };
        let mut bans: Vec<Ban> = banned.map(ban).collect();
        bans.sort_by_key(|ban| (ban.until, ban.client));
        bans
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Record>> {
        lock(&self.by_client)
    }
}

impl Record {
    fn is_banned(&self, now: Instant) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    /// Whether it counts no more.
    fn is_over(&self, config: &config::Bans, now: Instant) -> bool {
        match self.banned_until {
            Some(until) => until <= now,
            None => self.since + config.window <= now,
        }
    }
}

/// Forgets what counts no more, or else a part that matters least: a part, so that this is seldom.
fn make_room(records: &mut HashMap<IpAddr, Record>, config: &config::Bans, now: Instant) {
    records.retain(|_, record| !record.is_over(config, now));
    if records.len() < MOST {
        return;
    }
    let mut ranked: Vec<_> = records
        .iter()
        .map(|(&client, record)| ((record.banned_until, record.last), client))
        .collect();
    ranked.select_nth_unstable(MOST / 16);
    for (_, client) in ranked.iter().take(MOST / 16) {
        records.remove(client);
    }
}

fn is_exempt(config: &config::Bans, client: IpAddr) -> bool {
    config.never.iter().any(|network| network.contains(&client))
}

/// Under which a client's failures are counted, and its sessions.
pub(in crate::gateway) fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(client) => client.into(),
        IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() & !(u128::MAX >> PREFIX)).into(),
    }
}

/// What a key stands for.
fn shown(key: IpAddr) -> IpNet {
    match key {
        IpAddr::V4(_) => key.into(),
        IpAddr::V6(client) => Ipv6Net::new(client, PREFIX).map_or_else(|_| key.into(), Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> config::Bans {
        config::Bans {
            failures: 3,
            window: 60 * SECOND,
            duration: 300 * SECOND,
            delay: SECOND,
            never: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    fn client(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn penalties<const COUNT: usize>(
        bans: &Bans,
        client: IpAddr,
        at: Instant,
    ) -> [(u64, bool); COUNT] {
        [(); COUNT].map(|()| {
            let Penalty { delay, banned, .. } = bans.failed(&config(), client, at);
            (delay.as_secs(), banned)
        })
    }

    #[test]
    fn failures_within_the_window_ban_for_a_while_and_each_costs_more() {
        let (bans, start) = (Bans::default(), Instant::now());
        let banned = |at| bans.is_banned(Some(&config()), client(1), at);
        assert_eq!(penalties(&bans, client(1), start), [(1, false), (2, false)]);
        // The window is over: they count no more.
        let later = start + 60 * SECOND;
        assert_eq!(
            penalties(&bans, client(1), later),
            [(1, false), (2, false), (4, true), (8, true), (10, true)]
        );
        assert!(banned(later) && banned(later + 299 * SECOND) && !banned(later + 300 * SECOND));
        assert!(!bans.is_banned(None, client(1), later));
        assert!(!bans.is_banned(Some(&config()), client(2), later));
        assert_eq!(bans.list(later).len(), 1);
        assert_eq!(penalties(&bans, client(1), later + 300 * SECOND), [(1, false)]);
        assert!(bans.list(later + 300 * SECOND).is_empty());
    }

    #[test]
    fn who_never_is_banned_is_not_counted_either() {
        let (bans, now) = (Bans::default(), Instant::now());
        assert_eq!(penalties(&bans, [10, 1, 2, 3].into(), now), [(0, false); 9]);
        assert!(bans.lock().is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_an_ipv4_client_itself_however_it_comes() {
        let (bans, now) = (Bans::default(), Instant::now());
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        penalties::<2>(&bans, six("2001:db8:0:1::1"), now);
        assert_eq!(penalties(&bans, six("2001:db8:0:1:ffff::9"), now), [(4, true)]);
        assert!(!bans.is_banned(Some(&config()), six("2001:db8:0:2::1"), now));
        penalties::<3>(&bans, six("::ffff:192.0.2.7"), now);
        assert!(bans.is_banned(Some(&config()), client(7), now));
        let listed: Vec<String> = bans.list(now).iter().map(|ban| ban.client.to_string()).collect();
        assert_eq!(listed, ["192.0.2.7/32", "2001:db8:0:1::/64"]);

        assert!(!bans.lift(&"192.0.2.8/32".parse().unwrap(), now));
        assert!(bans.lift(&"192.0.2.0/24".parse().unwrap(), now));
        // By any address in it.
        assert!(bans.lift(&"2001:db8:0:1::5/128".parse().unwrap(), now));
        assert!(bans.list(now).is_empty());
    }

    #[test]
    fn however_many_guess_the_table_is_bounded_and_bans_stay() {
        let (bans, start) = (Bans::default(), Instant::now());
        penalties::<3>(&bans, client(1), start);
        for number in 0..3 * MOST as u32 {
            let at = start + Duration::from_millis(number.into()) / 1000;
            bans.failed(&config(), IpAddr::V4((0xC612_0000 + number).into()), at);
        }
        assert!((MOST * 15 / 16..=MOST).contains(&bans.lock().len()));
        assert!(bans.is_banned(Some(&config()), client(1), start + SECOND));
        // What counts no more goes first.
        for number in 0..MOST as u32 {
            bans.failed(&config(), IpAddr::V4((0xC712_0000 + number).into()), start + 100 * SECOND);
        }
        assert!(bans.is_banned(Some(&config()), client(1), start + 100 * SECOND));
        assert!(bans.lock().len() <= MOST);
    }
}
