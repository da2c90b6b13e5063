//! The members of the federation as values, and the section of the peer store.

use std::cmp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libp2p::Multiaddr;

use crate::PeerKey;

/// One entry of `peers.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub key: PeerKey,
    /// Where it listens, in the file's order, without `/p2p`.
    pub addresses: Vec<Multiaddr>,
    /// What people call it.
    pub name: Option<String>,
    /// Overrides `peers.connection_timeout`.
    pub connection_timeout: Option<Duration>,
    /// Upstream's key: after so many failures in a row the member is retried only every `peers.reconnect_max`.
    pub max_retries: Option<u32>,
}

/// The members by key, without the node's own entry.
pub type Members = BTreeMap<PeerKey, Member>;

/// What the peer-store actor is configured by: `peers.file`, `peers.max_known` and the content of `peers.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeersSection {
    /// The file of the members.
    pub file: PathBuf,
    /// How many learned peers are kept.
    pub max_known: usize,
    /// The members that the file names. Shared: an unchanged file is compared by its pointer.
    pub members: Arc<Members>,
}

/// `peers.max_known` as those read it who learn peers: the peer-store actor puts it into force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KnownBound(Arc<AtomicUsize>);

// === impl KnownBound ===

impl KnownBound {
    /// How many learned peers may be kept.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Another bound, at once.
    pub fn set(&self, bound: usize) {
        self.0.store(bound, Ordering::Relaxed);
    }
}

impl Default for KnownBound {
    /// The contract's default.
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(10_000)))
    }
}

/// Walks through two maps of peers together: each key once, in order, with what either has of it. One pass over both, where a
/// look-up for every key would take several times as long.
pub fn side_by_side<'a, 'b, A, B>(
    one: &'a BTreeMap<PeerKey, A>,
    other: &'b BTreeMap<PeerKey, B>,
) -> impl Iterator<Item = (PeerKey, Option<&'a A>, Option<&'b B>)> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (one.peek(), other.peek()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => cmp::Ordering::Less,
            (None, Some(_)) => cmp::Ordering::Greater,
            (None, None) => return None,
        };
        let left = if order.is_le() { one.next() } else { None };
        let right = if order.is_ge() { other.next() } else { None };
        let key = left.map(|(key, _)| key).or(right.map(|(key, _)| key))?;
        Some((*key, left.map(|(_, value)| value), right.map(|(_, value)| value)))
    })
}

#[cfg(test)]
mod tests {
    use libp2p::identity::ed25519;

    use super::*;

    #[test]
    fn each_key_comes_once_with_what_either_has() {
        let mut keys: Vec<PeerKey> = (0..8)
            .map(|_| PeerKey::from_bytes(ed25519::Keypair::generate().public().to_bytes()).unwrap())
            .collect();
        keys.sort();
        for pattern in 0..4_usize.pow(6) {
            let has = |which: usize| {
                let there =
                    keys.iter().enumerate().filter(move |(at, _)| pattern >> (2 * at + which) & 1 == 1);
                there.map(|(at, key)| (*key, at)).collect::<BTreeMap<_, _>>()
            };
            let (one, other) = (has(0), has(1));
            let expected: Vec<_> = keys
                .iter()
                .map(|key| (*key, one.get(key), other.get(key)))
                .filter(|(_, left, right)| left.is_some() || right.is_some())
                .collect();
            assert_eq!(side_by_side(&one, &other).collect::<Vec<_>>(), expected);
        }
    }
}
