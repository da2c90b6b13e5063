//! What a federation node keeps on disk.
//!
//! [`document`] reads YAML that people wrote and tells everything that is wrong with it at once; [`peers_file`] is `peers.yaml`
//! and [`peer_store`] the actor that holds its members. [`generations`] and [`audit`] are the history, [`atomic`] and [`lock`] what
//! keeps all of it whole; [`relocate`] takes it to another folder, and [`signpost`] says which one counts.

pub mod address;
pub mod atomic;
pub mod audit;
pub mod document;
pub mod generations;
pub mod known_file;
pub mod lock;
mod mounted;
pub mod peer_key;
pub mod peer_store;
pub mod peers_file;
mod regular;
pub mod relocate;
pub mod restore;
pub mod section;
pub mod signpost;
pub mod socket_path;
pub mod standing;
#[cfg(test)]
mod testing;

use reload::fault::Point;

pub use audit::AuditLog;
pub use document::{Document, Findings};
pub use generations::{Generations, NewGeneration, Snapshot};
pub use known_file::{KnownEntry, KnownFile};
pub use lock::{DataDir, DataDirError};
pub use peer_key::{PeerKey, PeerKeyError};
pub use peer_store::{MembersView, PeerStore};
pub use peers_file::{Digest, PeersFile, PeersFileError};
pub use relocate::{Incoming, MoveError};
pub use section::{KnownBound, Member, Members, PeersSection, side_by_side};
pub use signpost::{Signpost, SignpostError, Whereabouts};
pub use standing::{Held, HeldFile, Standing};

/// The fault points of this crate.
pub const POINTS: &[Point] = &[
    Point::io("atomic::create"),
    Point::io("atomic::write"),
    Point::io("atomic::sync"),
    Point::io("atomic::rename"),
    Point::io("atomic::link"),
    Point::io("atomic::sync_folder"),
    Point::io("atomic::remove"),
    Point::io("atomic::sweep"),
    Point::io("file::read"),
    Point::io("peers_file::lock"),
    Point::io("peers_file::keep"),
    Point::io("peers_file::write"),
    Point::io("peers_file::exchange"),
    Point::io("peers_file::exchanged"),
    Point::io("peers_file::put_back"),
    Point::io("known::read"),
    Point::io("known::backup"),
    Point::io("known::write"),
    Point::io("known::written"),
    Point::io("generations::open"),
    Point::io("generations::prune"),
    Point::io("generation::stage"),
    Point::io("generation::append"),
    Point::io("generation::appended"),
    Point::io("generation::read"),
    Point::io("blob::write"),
    Point::io("blob::read"),
    Point::io("audit::open"),
    Point::io("audit::append"),
    Point::io("audit::appended"),
    Point::io("audit::rotate"),
    Point::io("audit::rotated"),
    Point::io("audit::read"),
    Point::io("audit::sync"),
    Point::io("standing::read"),
    Point::io("standing::write"),
    Point::io("standing::written"),
    Point::io("restore::keep"),
    Point::io("restore::write"),
    Point::io("restore::written"),
    Point::io("restore::prune"),
    Point::io("data_dir::create"),
    Point::io("data_dir::lock"),
    Point::pass("data_dir::pid"),
    Point::io("move::note"),
    Point::io("move::noted"),
    Point::io("move::copy"),
    Point::io("move::copied"),
    Point::pass("move::settle"),
    Point::pass("move::settled"),
    Point::pass("move::ended"),
    Point::io("move::remove"),
    Point::io("signpost::put"),
    Point::io("signpost::stands"),
    Point::pass("signpost::take_away"),
    Point::io("socket::bind"),
    Point::io("socket::place"),
    Point::io("socket::connect"),
];
