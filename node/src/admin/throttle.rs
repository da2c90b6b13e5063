//! Bad tokens, counted by the address that they come from: beyond a few, the answer is 429.
//!
//! A good token is never turned away for the bad ones of its neighbours behind one address: the signature is checked first, which
//! costs less than the request did, and only what is refused is counted. The limit is there so that guessing shows and is told
//! to wait, not because guessing could succeed: secrets have 32 bytes and more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many bad tokens an address has free: a script with an old token, started a few times.
const FREE: u32 = 20;

/// How long it takes to earn another one.
const EARN: Duration = Duration::from_secs(3);

/// The most addresses that are remembered; beyond, the one that has been silent for longest is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// The addresses that bad tokens came from.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, Spent>>);

/// What an address has used up, as the time at which it will have earned all of it back.
#[derive(Clone, Copy, Debug)]
struct Spent {
    until: Instant,
}

// === impl Throttle ===

impl Throttle {
    /// Another bad token came from there.
    ///
    /// # Errors
    /// If there were too many: how long to wait before the next one is looked upon with favour.
    pub fn bad(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = network(from);
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= MAX_ADDRESSES && !spent.contains_key(&from) {
            make_room(&mut spent, now);
        }
        let entry = spent.entry(from).or_insert(Spent { until: now });
        let begin = entry.until.max(now);
        let after = begin + EARN;
        let full = now + EARN * FREE;
        if after > full {
            return Err(after - full);
        }
        entry.until = after;
        Ok(())
    }
}

/// Forgets those that have earned everything back, or else the one that has the least to earn.
fn make_room(spent: &mut HashMap<IpAddr, Spent>, now: Instant) {
    spent.retain(|_, spent| spent.until > now);
    if spent.len() >= MAX_ADDRESSES {
        let least = spent.iter().min_by_key(|(_, spent)| spent.until).map(|(address, _)| *address);
        least.map(|address| spent.remove(&address));
    }
}

/// What one subscriber has: an IPv4 address, or an IPv6 network of 64 bits, in which anybody can choose freely.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(index: usize) -> IpAddr {
        IpAddr::from(u32::try_from(index).unwrap().to_be_bytes())
    }

    #[test]
    fn some_are_free_and_more_have_to_be_earned() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(throttle.bad(address(1), now), Ok(()));
        }
        assert_eq!(throttle.bad(address(1), now), Err(EARN));
        assert_eq!(throttle.bad(address(1), now + EARN / 3), Err(EARN - EARN / 3), "asking costs nothing");
        assert_eq!(throttle.bad(address(2), now), Ok(()), "another address");
        assert_eq!(throttle.bad(address(1), now + EARN), Ok(()));
        assert!(throttle.bad(address(1), now + EARN).is_err());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for host in 0..FREE {
            let address: IpAddr = format!("2001:db8::{host}").parse().unwrap();
            assert_eq!(throttle.bad(address, now), Ok(()));
        }
        assert!(throttle.bad("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert_eq!(throttle.bad("2001:db8:0:1::1".parse().unwrap(), now), Ok(()));
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn the_table_has_an_end() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE {
            throttle.bad(address(0), now).unwrap();
        }
        for index in 1..3 * MAX_ADDRESSES {
            throttle.bad(address(index), now).unwrap();
        }
        assert!(throttle.0.lock().unwrap().len() <= MAX_ADDRESSES);
        assert!(throttle.bad(address(0), now).is_err(), "the worst is remembered");
    }
}
