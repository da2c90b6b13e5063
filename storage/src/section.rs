//! The members of the federation as values, and the section of the peer store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
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
