//! Where this node says that it is: which of its addresses it signs for whom, and when it signs anew.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use storage::address;

use super::book::{AHEAD, REFRESH};
use super::reach::Reach;
use super::record::{MAX_ADDRESSES, Record};
use crate::Identity;

/// A record from an earlier life of this node, with a clock that was ahead, is outdone at most so often: two nodes with one key
/// would otherwise outdo each other for ever.
const OUTDO: Duration = Duration::from_secs(60);

/// This node's addresses, and what it has signed of them.
#[derive(Debug)]
pub(super) struct Own {
    identity: Identity,
    /// With real ports, wildcards as the addresses of the interfaces.
    listening: BTreeSet<Multiaddr>,
    /// As configured.
    external: BTreeSet<Multiaddr>,
    seq: u64,
    /// The addresses differ from what was signed last.
    moved: bool,
    outdone: Option<Instant>,
    /// Something was signed for the world, or for anybody: who has it must hear when it is so no more.
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nobody,
    Neighbours,
    World,
}

// === impl Own ===

impl Own {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            listening: BTreeSet::new(),
            external: BTreeSet::new(),
            seq: 0,
            moved: false,
            outdone: None,
            told: Told::Nobody,
        }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn listens(&mut self, address: &Multiaddr, yes: bool) {
        self.moved |= change(&mut self.listening, address, yes);
    }

    pub(super) fn is_at(&mut self, address: &Multiaddr, yes: bool) {
        self.moved |= change(&mut self.external, address, yes);
    }

    /// Whether it is time to sign: the addresses have changed, others have a newer record, or a sign of life is due.
    pub(super) fn is_due(&self, floor: u64, unix_ms: u64, now: Instant) -> bool {
        let refresh = u64::try_from(REFRESH.as_millis()).unwrap_or(u64::MAX);
        let ahead = u64::try_from(AHEAD.as_millis()).unwrap_or(u64::MAX);
        let is_outrun = floor > self.seq
            && floor <= unix_ms.saturating_add(ahead)
            && self.outdone.is_none_or(|last| now.saturating_duration_since(last) >= OUTDO);
        self.moved || is_outrun || (self.seq > 0 && self.seq.saturating_add(refresh) <= unix_ms)
    }

    /// Signs what is to be said now: for each reach the addresses that mean something there, where they differ from those of the
    /// wider one.
    pub(super) fn sign(&mut self, floor: u64, unix_ms: u64, now: Instant) -> Vec<Record> {
        if floor > self.seq {
            self.outdone = Some(now);
        }
        self.moved = false;
        self.seq = unix_ms.max(self.seq.saturating_add(1)).max(floor.saturating_add(1));
        let mut lists: Vec<Vec<Multiaddr>> = Vec::new();
        let levels = Reach::ALL.map(|reach| self.addresses(reach));
        let has_told = self.told;
        for (level, reach) in levels.into_iter().zip(Reach::ALL) {
            let is_wider_one = lists.last().is_some_and(|wider| *wider == level);
            let retracts = has_told == Told::World && reach == Reach::World;
            if (level.is_empty() && !retracts) || is_wider_one {
                continue;
            }
            let told = if reach == Reach::World { Told::World } else { Told::Neighbours };
            self.told = self.told.max(told);
            lists.push(level);
        }
        if lists.is_empty() && has_told != Told::Nobody {
            lists.push(Vec::new());
        }
        let sign = |addresses| match Record::sign(&self.identity, self.seq, addresses) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(%error, "this node's addresses cannot be signed; this is a bug, please report it");
                None
            }
        };
        lists.into_iter().filter_map(sign).collect()
    }

    /// The addresses that mean this node on a connection of this reach, the configured ones and those that reach furthest first.
    fn addresses(&self, reach: Reach) -> Vec<Multiaddr> {
        let mut listening: Vec<_> = self.listening.iter().collect();
        listening.sort_by_key(|address| Reach::of(address));
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in self.external.iter().chain(listening) {
            let can_be_dialled =
                address::dialable(&address.to_string(), None).is_ok_and(|same| same == *address);
            if Reach::of(address) <= reach && can_be_dialled && !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses.truncate(MAX_ADDRESSES);
        addresses
    }
}

fn change(addresses: &mut BTreeSet<Multiaddr>, address: &Multiaddr, yes: bool) -> bool {
    if yes { addresses.insert(address.clone()) } else { addresses.remove(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "/ip4/127.0.0.1/tcp/9";
    const SITE: &str = "/ip4/10.0.0.1/tcp/9";
    const WORLD: &str = "/ip4/8.8.8.8/tcp/9";

    fn own(addresses: &[&str]) -> Own {
        let mut own = Own::new(Identity::generate());
        for address in addresses {
            own.listens(&address.parse().unwrap(), true);
        }
        own
    }

    fn signed(own: &mut Own) -> Vec<(Reach, Vec<String>)> {
        let records = own.sign(0, 1000, Instant::now());
        let texts = |record: &Record| record.addresses.iter().map(ToString::to_string).collect();
        assert!(records.iter().all(|record| record.seq == own.seq()));
        records.iter().map(|record| (record.reach, texts(record))).collect()
    }

    #[test]
    fn each_reach_has_a_record_of_its_own_where_that_says_more() {
        let list = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(signed(&mut own(&[HOST])), [(Reach::Host, list(&[HOST]))]);
        assert_eq!(signed(&mut own(&[WORLD])), [(Reach::World, list(&[WORLD]))]);
        assert_eq!(
            signed(&mut own(&[HOST, SITE, WORLD])),
            [
                (Reach::World, list(&[WORLD])),
                (Reach::Site, list(&[WORLD, SITE])),
                (Reach::Host, list(&[WORLD, SITE, HOST])),
            ]
        );
        assert_eq!(signed(&mut own(&[])), []);
    }

    #[test]
    fn what_was_told_is_taken_back() {
        let mut node = own(&[HOST]);
        assert!(node.is_due(0, 1000, Instant::now()));
        signed(&mut node);
        assert!(!node.is_due(0, 1000, Instant::now()));
        node.listens(&HOST.parse().unwrap(), false);
        assert!(node.is_due(0, 1000, Instant::now()));
        assert_eq!(signed(&mut node), [(Reach::World, vec![])]);
        let mut node = own(&[SITE, WORLD]);
        signed(&mut node);
        node.listens(&WORLD.parse().unwrap(), false);
        assert_eq!(signed(&mut node), [(Reach::World, vec![]), (Reach::Site, vec![SITE.to_owned()])]);
    }

    #[test]
    fn a_record_of_an_earlier_life_is_outdone_but_not_again_and_again() {
        let (mut node, now) = (own(&[HOST]), Instant::now());
        node.sign(0, 1000, now);
        assert!(node.is_due(5000, 1000, now));
        node.sign(5000, 1000, now);
        assert_eq!(node.seq(), 5001);
        assert!(!node.is_due(6000, 1000, now));
        assert!(node.is_due(6000, 1000, now + OUTDO));
        assert!(!node.is_due(u64::MAX, 1000, now + OUTDO), "nobody would believe it");
        let refresh = u64::try_from(REFRESH.as_millis()).unwrap();
        assert!(node.is_due(0, 5001 + refresh, now), "a sign of life");
    }

    #[test]
    fn configured_addresses_come_first_and_there_is_a_bound() {
        let many: Vec<String> = (1..=40).map(|port| format!("/ip4/8.8.8.8/tcp/{port}")).collect();
        let mut node = own(&many.iter().map(String::as_str).collect::<Vec<_>>());
        node.is_at(&"/dns4/node.example.com/tcp/9".parse().unwrap(), true);
        node.listens(&"/ip4/0.0.0.0/tcp/9".parse().unwrap(), true);
        let records = signed(&mut node);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].1.len(), MAX_ADDRESSES);
        assert_eq!(records[0].1[0], "/dns4/node.example.com/tcp/9");
    }
}
