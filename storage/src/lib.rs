//! What a federation node keeps on disk.

pub mod address;
pub mod document;
pub mod peer_key;
pub mod peers_file;
pub mod section;

pub use document::{Document, Findings};
pub use peer_key::{PeerKey, PeerKeyError};
pub use peers_file::{Digest, PeersFile, PeersFileError};
pub use section::{Member, Members, PeersSection};
