//! What a federation node keeps on disk.
//!
//! [`document`] reads YAML that people wrote and tells everything that is wrong with it at once; [`peers_file`] is `peers.yaml`
//! and [`peer_store`] the actor that holds its members. [`generations`] and [`audit`] are the history, [`atomic`] and [`lock`] what
//! keeps all of it whole.

pub mod address;
pub mod atomic;
pub mod audit;
pub mod document;
pub mod generations;
pub mod lock;
pub mod peer_key;
pub mod peer_store;
pub mod peers_file;
pub mod restore;
pub mod section;
pub mod socket_path;
pub mod standing;

pub use audit::AuditLog;
pub use document::{Document, Findings};
pub use generations::{Generations, NewGeneration, Snapshot};
pub use lock::{DataDir, DataDirError};
pub use peer_key::{PeerKey, PeerKeyError};
pub use peer_store::{MembersView, PeerStore};
pub use peers_file::{Digest, PeersFile, PeersFileError};
pub use section::{Member, Members, PeersSection, side_by_side};
pub use standing::{Held, HeldFile, Standing};
