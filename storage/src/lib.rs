//! What a federation node keeps on disk.

pub mod peer_key;
pub mod section;

pub use peer_key::{PeerKey, PeerKeyError};
pub use section::{Member, Members, PeersSection};
