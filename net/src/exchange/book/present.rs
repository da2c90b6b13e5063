//! Who is connected to this node. Kept apart from what is known of them: a peer is connected before it can say anything, and stays
//! so when it is forgotten.

use std::collections::HashMap;

use storage::PeerKey;

/// How many connections each peer has: no more peers than there are connections (`network.limits.connections`).
#[derive(Debug, Default)]
pub(super) struct Present(HashMap<PeerKey, u32>);

// === impl Present ===

impl Present {
    /// A connection came (`true`) or went.
    pub(super) fn count(&mut self, key: &PeerKey, is_there: bool) {
        let before = self.0.remove(key).unwrap_or_default();
        let now = if is_there { before.saturating_add(1) } else { before.saturating_sub(1) };
        if now > 0 {
            self.0.insert(*key, now);
        }
    }

    pub(super) fn has(&self, key: &PeerKey) -> bool {
        self.0.contains_key(key)
    }
}
