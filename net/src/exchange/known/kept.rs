//! What is known as others see it: `status`, and what is kept over a restart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use storage::known_file::Hand;
use storage::{KnownEntry, PeerKey};

use super::{Known, unix_ms};
use crate::exchange::book::{Bringer, Fate, Peer, STALE};
use crate::exchange::reach::Reach;
use crate::exchange::record::Record;

/// A peer that is known (contract: `status`, `known`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownPeer {
    /// Who.
    pub public_key: PeerKey,
    /// Where it says that it is.
    pub addresses: Vec<String>,
    /// Who brought it first.
    pub source: Source,
    /// When it last spoke, in Unix seconds: on a connection to this node (now, while there is one), or by signing what others
    /// passed on.
    pub last_seen: u64,
    /// When this node first heard of it, in Unix seconds.
    pub first_seen: u64,
    /// Dials in a row that came to nothing.
    pub failures: u32,
    /// It has not spoken for half the time after which a stranger is forgotten.
    pub stale: bool,
}

/// Who brought a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Another peer, by exchange.
    Exchange,
    /// The peer itself, over its own connection.
    Peer,
}

// === impl Source ===

impl Source {
    /// The name in `status` and on disk.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Peer => "peer",
        }
    }

    const fn of(bringer: Bringer) -> Self {
        match bringer {
            Bringer::Itself => Self::Peer,
            // Those that came by themselves before a restart are taken up as such.
            Bringer::Memory | Bringer::Other(_) => Self::Exchange,
        }
    }
}

fn texts(peer: &Peer) -> Vec<String> {
    peer.addresses().iter().map(ToString::to_string).collect()
}

// === impl Known ===

impl Known {
    /// Everybody who is known, by key; under `membership: members` only members.
    #[must_use]
    pub fn list(&self) -> Vec<KnownPeer> {
        let now = unix_ms();
        let state = self.state();
        let peers = state.book.peers().map(|(key, peer)| KnownPeer {
            public_key: *key,
            addresses: texts(peer),
            source: Source::of(peer.from),
            last_seen: state.book.last_seen(key, peer, now),
            first_seen: peer.first_seen,
            failures: peer.failures,
            stale: state.book.is_silent(key, peer, STALE, now),
        });
        peers.collect()
    }

    /// How many peers [`Known::list`] would give.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().book.peers().count()
    }

    /// Everything that is worth keeping over a restart, by key. Of a peer that is connected, when it last spoke is here when that
    /// began, or when it last signed: else the file would be another at every save, and a person's change to it always a conflict.
    #[must_use]
    pub fn snapshot(&self) -> Vec<KnownEntry> {
        let state = self.state();
        let peers = state.book.peers().map(|(key, peer)| KnownEntry {
            public_key: *key,
            addresses: texts(peer),
            source: Source::of(peer.from).as_str().to_owned(),
            first_seen: peer.first_seen,
            last_seen: peer.last_seen,
            failures: peer.failures,
            records: peer.records(Reach::Host).map(|record| STANDARD.encode(&record.bytes)).collect(),
        });
        peers.collect()
    }

    /// Takes up what was kept, within the bounds that hold now; gives how many records were taken. `hand` says who wrote it:
    ///
    /// - [`Hand::Person`]: each record is judged as one that a peer sends, so that a changed file brings nobody a wrong address.
    ///   That checks signatures: it blocks for a twentieth of a millisecond each.
    /// - [`Hand::Node`]: this node has judged them before it wrote them, and the checksum says that they are the same. All
    ///   rules hold again but the signature's: ten thousand are usable within a tenth of a second. Whoever can forge
    ///   the checksum can write this node's files, its key among them; and gains no more by it than that this node dials in
    ///   vain, and is found out by the first to whom it passes the record on.
    pub fn load(&self, kept: impl IntoIterator<Item = KnownEntry>, hand: Hand) -> usize {
        let mut taken = 0_usize;
        let now = unix_ms() / 1000;
        for entry in kept {
            let bringer =
                if entry.source == Source::Peer.as_str() { Bringer::Itself } else { Bringer::Memory };
            for text in &entry.records {
                let Some(record) = STANDARD.decode(text).ok().and_then(|bytes| read(&bytes, &entry, hand))
                else {
                    continue;
                };
                let fate = self.learn(record, bringer);
                if fate == Fate::Taken {
                    taken = taken.saturating_add(1);
                }
                // What a person has written about one who is known counts, too.
                if fate == Fate::Taken || (fate == Fate::Same && hand == Hand::Person) {
                    // A clock that was ahead is not believed for ever.
                    let (first, last) = (entry.first_seen.min(now), entry.last_seen.min(now));
                    self.state().book.recall(&entry.public_key, first, last, entry.failures);
                }
            }
        }
        self.publish();
        taken
    }
}

/// A record that was kept for this entry.
fn read(bytes: &[u8], entry: &KnownEntry, hand: Hand) -> Option<Record> {
    let kept = match hand {
        Hand::Node => Record::kept(bytes, &entry.public_key),
        Hand::Person => None,
    };
    kept.or_else(|| Record::open(bytes).ok()).filter(|record| record.key == entry.public_key)
}
