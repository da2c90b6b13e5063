//! `conf.yaml`, and every file that it names, as checked values.
//!
//! A [`Config`] is put together from the sections of the actors that own them. It exists only as a whole: [`Config::load`] either
//! makes one, or tells everything that is wrong (R5). What two configurations differ in is [`Config::changes`]; how one is
//! written out in full is [`Config::canonical`].

mod admin;
mod certificates;
pub mod changes;
mod decode;
mod default;
pub mod files;
mod fresh;
mod held;
mod judge;
pub mod keys;
pub mod listen;
pub mod load;
pub mod logging;
mod loose;
mod own_files;
mod protocol;
pub mod resources;
pub mod sections;
mod tree;
mod write_back;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{Identity, NetworkSection, ProtocolSection};
use reload::Problem;
use storage::{Digest, PeersSection};

pub use default::{default_config_text, host_has_ipv6};
pub use held::{HeldFiles, Instead};
pub use load::{LoadOptions, Loaded, Rejection};
pub use logging::{Level, LogFile, LogFormat, LoggingSection};
pub use loose::Loose;
pub use resources::resources;
pub use sections::{AdminSection, HistorySection, NodeSection, ReloadSection};
pub(crate) use write_back::sweep;

/// The whole effective configuration. Equal means equal effective values and equal named files (contract: "Generations");
/// comments, order and where the file lies do not count.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is.
    pub node: Arc<NodeSection>,
    /// Where its data is.
    pub history: Arc<HistorySection>,
    /// Of the network actor.
    pub network: Arc<NetworkSection>,
    /// Of the protocol actor.
    pub protocol: Arc<ProtocolSection>,
    /// Of the peer store.
    pub peers: Arc<PeersSection>,
    /// Of the logging actor.
    pub logging: Arc<LoggingSection>,
    /// Of the admin server.
    pub admin: Arc<AdminSection>,
    /// Of the coordinator.
    pub reload: Arc<ReloadSection>,
    /// What it was read from.
    pub source: Arc<ConfigSource>,
}

/// The files that a configuration was read from.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// `conf.yaml`, absolute; symlinks are not resolved (contract: "Paths").
    pub path: PathBuf,
    /// `conf.yaml` as the operator named it: its name in problems.
    pub name: String,
    /// `peers.yaml` as it is called in problems.
    pub peers_name: String,
    /// The very bytes: what a generation keeps.
    pub snapshot: Snapshot,
    /// Whether `peers.yaml` is [of the usual shape](storage::PeersFile::is_plain).
    plain_peers: bool,
    /// Every other file that `conf.yaml` names, with its content's digest.
    pub named: Vec<(PathBuf, Digest)>,
    /// The node has no key yet, and the one in this configuration was made for the moment: it stands in no file.
    pub temporary_key: bool,
    /// What was odd in the two files.
    warnings: Vec<Problem>,
}

/// The bytes of `conf.yaml` and `peers.yaml` that were judged together.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `conf.yaml`. Holds the private key.
    pub conf: Arc<[u8]>,
    /// `peers.yaml`; `None` where there is none.
    pub peers: Option<Arc<[u8]>>,
}

// === impl Config ===

impl Config {
    /// The folder that relative paths start from.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.source.folder()
    }

    /// The node's key pair.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.node.identity
    }

    /// Adds line and column to problems that name a key of `conf.yaml`: a component's refusal of `network.addresses[1]`.
    pub fn locate(&self, problems: &mut [Problem]) {
        let Ok(text) = std::str::from_utf8(&self.source.snapshot.conf) else { return };
        storage::document::place::locate(text, problems);
        for problem in problems.iter_mut().filter(|problem| problem.path.is_some()) {
            problem.file.get_or_insert_with(|| self.source.name.clone());
        }
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        // An unchanged section is shared, so that this seldom looks further than the pointers.
        self.node == other.node
            && self.history == other.history
            && self.network == other.network
            && self.protocol == other.protocol
            && self.peers == other.peers
            && self.logging == other.logging
            && self.admin == other.admin
            && self.reload == other.reload
    }
}

// === impl ConfigSource ===

impl ConfigSource {
    /// The folder that relative paths start from.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

// === impl Snapshot ===

impl std::fmt::Debug for Snapshot {
    /// Without the bytes: there is a key in them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peers = self.peers.as_ref().map(|peers| peers.len());
        f.debug_struct("Snapshot").field("conf", &self.conf.len()).field("peers", &peers).finish()
    }
}

/// `peers.yaml` as `init` writes it.
pub const DEFAULT_PEERS: &str = "\
# yaml-language-server: $schema=peers.schema.json
# The members of the federation. One file may serve all of them: a node passes its own entry over.
#   - public_key: \"<what `fednode id` prints there>\"
#     addresses: [\"/ip4/192.0.2.1/tcp/9000\", \"/dns4/node1.example.com/tcp/9000\"]
peers: []
";

/// Problems as lines of `file:line:col: path: message (hint)`.
#[must_use]
pub fn problems_text(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
