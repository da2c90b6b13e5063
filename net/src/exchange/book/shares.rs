//! Who brought how many strangers: one that makes up peers by the thousand (each with a good signature of its own) takes the
//! room that is free, and beyond that only a part, at the cost of its own.

use std::collections::{BTreeMap, BTreeSet};

use storage::PeerKey;

/// Where there is no room any more, one source may have one in so many before it pushes out only its own.
const SHARES: usize = 4;

/// Who brought a peer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bringer {
    /// It came by itself. All who did count as one: identities cost nothing.
    Itself,
    /// It was known before this process began.
    Memory,
    /// This one told of it.
    Other(PeerKey),
}

/// Strangers by who brought them, the longest unheard of first.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_source: BTreeMap<Bringer, BTreeSet<(u64, PeerKey)>>,
    count: usize,
}

// === impl Shares ===

impl Shares {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, key: PeerKey, from: Bringer, last_seen: u64) {
        if self.by_source.entry(from).or_default().insert((last_seen, key)) {
            self.count = self.count.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, key: &PeerKey, from: Bringer, last_seen: u64) {
        let Some(brought) = self.by_source.get_mut(&from) else { return };
        if brought.remove(&(last_seen, *key)) {
            self.count = self.count.saturating_sub(1);
        }
        if brought.is_empty() {
            self.by_source.remove(&from);
        }
    }

    /// Removes a key, whoever brought it.
    pub(super) fn remove_key(&mut self, key: &PeerKey) {
        let place = self.by_source.iter().find_map(|(from, brought)| {
            brought.iter().find(|(_, known)| known == key).map(|(last_seen, _)| (*from, *last_seen))
        });
        if let Some((from, last_seen)) = place {
            self.remove(key, from, last_seen);
        }
    }

    /// Who makes room for one more from this source where `limit` is reached: one of its own if it has its part already,
    /// otherwise one of the source that has most.
    pub(super) fn least(&self, from: Bringer, limit: usize) -> Option<PeerKey> {
        let own = self.by_source.get(&from);
        let most = match own {
            Some(own) if own.len() >= (limit / SHARES).max(1) => own,
            _ => self.by_source.values().max_by_key(|brought| brought.len())?,
        };
        if limit == 0 {
            return None;
        }
        most.first().map(|(_, key)| *key)
    }
}
