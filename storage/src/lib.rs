//! What a federation node keeps on disk.

pub mod atomic;
pub mod audit;
pub mod generations;
pub mod lock;
pub mod peer_key;
pub mod peer_store;
pub mod section;
pub mod socket_path;

pub use audit::AuditLog;
pub use generations::{Generations, NewGeneration, Snapshot};
pub use lock::{DataDir, DataDirError};
pub use peer_key::{PeerKey, PeerKeyError};
pub use peer_store::{MembersView, PeerStore};
pub use section::{Member, Members, PeersSection};
