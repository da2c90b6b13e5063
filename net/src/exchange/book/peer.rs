//! What is known of one peer: its newest statement, and how it was with it so far.

use libp2p::Multiaddr;

use super::Bringer;
use crate::exchange::reach::Reach;
use crate::exchange::record::Record;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Of its newest statement.
    pub(crate) seq: u64,
    /// One for each reach, by [`Reach::to_byte`]. Boxed: most peers have one of them, and there may be a hundred thousand.
    pub(super) records: [Option<Box<Record>>; 3],
    /// At which version of the book it changed last.
    pub(super) changed: u64,
    pub(crate) from: Bringer,
    /// Unix seconds.
    pub(crate) first_seen: u64,
    /// When it last spoke itself, as far as is known: at a connection's beginning or end, or by signing. While it is connected
    /// [`Book::last_seen`](super::Book::last_seen) knows better: what is kept on disk does not change all the time.
    pub(crate) last_seen: u64,
    /// Dials in a row that came to nothing.
    pub(crate) failures: u32,
}

// === impl Peer ===

impl Peer {
    /// One of whom nothing is known yet; `now` in Unix seconds.
    pub(super) const fn new(from: Bringer, now: u64) -> Self {
        let records = [None, None, None];
        Self { seq: 0, records, changed: 0, from, first_seen: now, last_seen: 0, failures: 0 }
    }

    /// The records that a connection of this reach carries.
    pub(crate) fn records(&self, reach: Reach) -> impl Iterator<Item = &Record> {
        self.records.iter().flatten().map(Box::as_ref).filter(move |record| record.reach <= reach)
    }

    /// Every address, the ones that reach furthest first.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in self.records(Reach::Host).flat_map(|record| &record.addresses) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}
