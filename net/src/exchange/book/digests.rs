//! Hashes over what is known, computed where something has changed since they were asked for last.
//!
//! SHA-256, cut to 128 bits: with less, two sets of records with one hash could be made, and hide a change between them.

use sha2::{Digest as _, Sha256};
use storage::PeerKey;

use super::Peer;
use crate::exchange::reach::Reach;
use crate::exchange::wire::Digest;

/// One for each first byte of a key.
pub(super) const LEAVES: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Digests {
    /// By reach and first byte of the keys; `None` is to be computed.
    leaves: [Vec<Option<Digest>>; 3],
}

// === impl Digests ===

impl Digests {
    pub(super) fn new() -> Self {
        Self { leaves: std::array::from_fn(|_| vec![None; LEAVES]) }
    }

    /// Something under this first byte has changed.
    pub(super) fn forget(&mut self, at: usize) {
        for leaves in &mut self.leaves {
            leaves[at] = None;
        }
    }

    /// Everything may have.
    pub(super) fn forget_all(&mut self) {
        *self = Self::new();
    }

    /// The hashes over all leaves in `2^depth` parts of equal width; `compute` gives a leaf's.
    pub(super) fn parts(
        &mut self,
        reach: Reach,
        depth: u8,
        compute: impl Fn(usize) -> Digest,
    ) -> Vec<Digest> {
        let leaves = &mut self.leaves[usize::from(reach.to_byte())];
        for (at, leaf) in leaves.iter_mut().enumerate() {
            leaf.get_or_insert_with(|| compute(at));
        }
        let width = LEAVES >> u32::from(depth.min(8));
        let over = |part: &[Option<Digest>]| {
            let mut hash = Sha256::new();
            for leaf in part.iter().flatten() {
                hash.update(leaf);
            }
            shorten(hash.finalize().into())
        };
        leaves.chunks(width).map(over).collect()
    }
}

/// The hash over the peers under one first byte: of each its key, which of its records a connection of this reach carries
/// (bit 0 for the world's, 1 for the site's, 2 for the host's), and their `seq`; peers of which it carries none do not count.
pub(super) fn leaf<'a>(peers: impl Iterator<Item = (&'a PeerKey, &'a Peer)>, reach: Reach) -> Digest {
    let mut hash = Sha256::new();
    for (key, peer) in peers {
        let which = peer.records(reach).fold(0_u8, |which, record| which | 1 << record.reach.to_byte());
        if which != 0 {
            hash.update(key.as_bytes());
            hash.update([which]);
            hash.update(peer.seq.to_be_bytes());
        }
    }
    shorten(hash.finalize().into())
}

pub(super) fn shorten(hash: [u8; 32]) -> Digest {
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(hash) {
        *to = from;
    }
    digest
}
