//! From the document of `conf.yaml` to values: every key with its type, default and bounds (contract: "conf.yaml").
//!
//! Where a value is wrong the finding is kept and a default stands in, so that the rest is judged too; a draft with findings
//! never becomes a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use libp2p::Multiaddr;
use net::{Endpoint, Identity, Limits, Membership, ProtocolSection};
use storage::address::{AddressError, dialable, parse};
use storage::document::{Findings, Node, Section};
use storage::peers_file::TIMEOUTS;
use storage::{Digest, PeerKey};

use super::files::{path_of, read_named};
use super::listen::{listenable, report_overlaps};
use super::logging::{Level, LogFile, LogFormat, LoggingSection};
use super::sections::{AdminSection, ReloadSection};
use super::{admin, protocol};

/// The most addresses that a node listens on, or announces.
const MAX_ADDRESSES: usize = 64;

/// The most log targets: each is looked at for every event.
const MAX_TARGETS: usize = 256;

/// What `conf.yaml` says, before it is seen together with `peers.yaml` and with what runs.
pub(super) struct Draft {
    pub(super) key: Key,
    pub(super) key_file: Option<PathBuf>,
    pub(super) data_dir: PathBuf,
    pub(super) shutdown_timeout: Duration,
    pub(super) worker_threads: usize,
    pub(super) network: Network,
    pub(super) peers: Peers,
    pub(super) protocol: ProtocolSection,
    pub(super) logging: LoggingSection,
    pub(super) admin: AdminSection,
    pub(super) reload: ReloadSection,
    /// Members that services name, with the keys that name them.
    pub(super) named_peers: Vec<(String, PeerKey)>,
    /// The files named, apart from `peers.file`.
    pub(super) named: Vec<(PathBuf, Digest)>,
}

/// The node's key pair, as far as it was found.
pub(super) enum Key {
    /// Read, and where from: the key that names it.
    Read(Box<Identity>, &'static str),
    /// Neither key holds one: it can be generated.
    Missing,
    /// Written, and wrong.
    Wrong,
}

/// The section `network`.
pub(super) struct Network {
    pub(super) listen: Vec<Multiaddr>,
    pub(super) external: Vec<Multiaddr>,
    pub(super) membership: Membership,
    pub(super) limits: Limits,
}

/// The section `peers`.
pub(super) struct Peers {
    pub(super) file: PathBuf,
    pub(super) name: PathBuf,
    /// Whether `conf.yaml` names the file, rather than leave it at the default.
    pub(super) is_named: bool,
    /// What `conf.yaml` says, as it is shown where there is no such file.
    pub(super) shown: String,
    pub(super) connection_timeout: Duration,
    pub(super) reconnect_min: Duration,
    pub(super) reconnect_max: Duration,
    pub(super) max_known: usize,
}

/// Decodes the whole file. Relative paths start from `folder`, in messages from `named`.
pub(super) fn draft(root: Section<'_>, findings: &Findings, folder: &Path, named: &Path) -> Draft {
    let _ = root.key("version").integer(1..=1);
    let mut listeners = Vec::new();

    let node = root.key("node").secret().required("{data_dir: data}").section();
    let data_dir = or_path(&node.key("data_dir"), folder, "data");
    let (key, key_file, key_digest) = key(&node, folder);
    let worker_threads = threads(&node.key("worker_threads"));
    let shutdown_timeout = duration(&node.key("shutdown_timeout"), 30_000, 0, HOUR);
    node.finish();

    let network = network(
        root.key("network").required("{addresses: [/ip4/0.0.0.0/tcp/9000]}").section(),
        &key,
        &mut listeners,
    );
    let peers_node = root.key("peers").required("{connection_timeout: 10s}").section();
    let exchange_interval = duration(&peers_node.key("exchange_interval"), 30_000, 100, 24 * HOUR);
    let peers = peers(peers_node, folder, named);
    let mut named_peers = Vec::new();
    let protocol = protocol::section(
        root.key("protocol").section(),
        exchange_interval,
        &mut named_peers,
        &mut listeners,
    );
    let logging = logging(root.key("logging").required("{level: info, format: json}").section(), folder);
    let admin = admin::section(root.key("admin").secret().section(), folder, &data_dir, &mut listeners);
    let reload = reload(root.key("reload").section());
    root.finish();
    report_overlaps(findings, &listeners);

    let mut named: Vec<(PathBuf, Digest)> =
        admin.files().map(|file| (file.path.clone(), file.digest)).collect();
    named.extend(key_file.clone().zip(key_digest));
    Draft {
        key,
        key_file,
        data_dir,
        shutdown_timeout,
        worker_threads,
        network,
        peers,
        protocol,
        logging,
        admin,
        reload,
        named_peers,
        named,
    }
}

/// An hour in milliseconds.
const HOUR: u64 = 3_600_000;

/// A duration with its default and bounds in milliseconds.
pub(super) fn duration(node: &Node<'_>, default: u64, low: u64, high: u64) -> Duration {
    let range = Duration::from_millis(low)..=Duration::from_millis(high);
    node.duration(range).unwrap_or(Duration::from_millis(default))
}

fn or_path(node: &Node<'_>, folder: &Path, default: &str) -> PathBuf {
    path_of(node, folder).unwrap_or_else(|| folder.join(default))
}

fn key(section: &Section<'_>, folder: &Path) -> (Key, Option<PathBuf>, Option<Digest>) {
    let inline = section.key("private_key").secret().nullable();
    let file = section.key("key_file").nullable();
    let text = inline.text().map(str::trim).filter(|text| !text.is_empty());
    if !file.is_given() {
        return match (text, inline.is_given()) {
            (Some(text), _) => (identity(&inline, text, "node.private_key"), None, None),
            // Not a text at all: reported already.
            (None, true) if inline.value().is_some_and(|value| !value.is_string()) => {
                (Key::Wrong, None, None)
            }
            (None, _) => (Key::Missing, None, None),
        };
    }
    if text.is_some() {
        file.refuse("is given as well as node.private_key", "keep one of the two");
        return (Key::Wrong, None, None);
    }
    let Some(path) = path_of(&file, folder) else { return (Key::Wrong, None, None) };
    match read_named(&path) {
        Ok((read, _)) => {
            let text = String::from_utf8_lossy(read.content.expose());
            (identity(&file, &text, "node.key_file"), Some(path), Some(read.digest))
        }
        Err(storage::document::ReadError::Missing) => (Key::Missing, Some(path), None),
        Err(error) => {
            file.refuse_file(&error);
            (Key::Wrong, Some(path), None)
        }
    }
}

fn identity(node: &Node<'_>, text: &str, from: &'static str) -> Key {
    match Identity::read(text) {
        Ok(read) => {
            if read.mismatch {
                node.warn(
                    "the public half is not the one that the seed gives; the seed counts",
                    format!("the public key is {}", read.identity.public_key()),
                );
            }
            Key::Read(Box::new(read.identity), from)
        }
        Err(error) => {
            node.refuse(
                format!("the key {error}"),
                "write a key that `fednode keygen` prints, or leave it empty to have one generated",
            );
            Key::Wrong
        }
    }
}

/// The cores that this process may use. Asked once: the answer reads a handful of files of the control groups.
static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

/// 0 is one for each core.
fn threads(node: &Node<'_>) -> usize {
    match node.integer(0..=1024).and_then(|threads| usize::try_from(threads).ok()) {
        None | Some(0) => *CORES,
        Some(threads) => threads,
    }
}

fn network(section: Section<'_>, own: &Key, listeners: &mut Vec<(String, Endpoint)>) -> Network {
    let addresses = section.key("addresses").required("[/ip4/0.0.0.0/tcp/9000]");
    let mut listen = Vec::new();
    let mut count = 0_usize;
    for item in addresses.items() {
        count += 1;
        let Some(address) = listenable(&item) else { continue };
        if let Some(endpoint) = Endpoint::of(&address) {
            listeners.push((item.path(), endpoint));
        }
        listen.push(address);
    }
    let is_list = addresses.value().is_some_and(|value| value.is_sequence() || value.is_null());
    if count == 0 && is_list {
        addresses.refuse(
            "is empty: the node would listen nowhere",
            "write at least one, as /ip4/0.0.0.0/tcp/9000",
        );
    }
    if count > MAX_ADDRESSES {
        addresses.refuse(format!("has {count} addresses"), format!("at most {MAX_ADDRESSES}"));
    }

    let external_addresses = section.key("external_addresses");
    let mut external = Vec::new();
    for item in external_addresses.items() {
        let Some(text) = item.text() else { continue };
        match own_address(text, own) {
            Ok(address) if external.contains(&address) => {
                item.refuse(format!("{} stands there twice", item.shown()), "remove one of the two");
            }
            Ok(address) => external.push(address),
            Err(error) => item.refuse(format!("{} {error}", item.shown()), error.hint_for_own()),
        }
    }
    if external.len() > MAX_ADDRESSES {
        external_addresses.refuse("has too many addresses", format!("at most {MAX_ADDRESSES}"));
    }
    let membership = section
        .key("membership")
        .one_of(&[("open", Membership::Open), ("members", Membership::Members)])
        .unwrap_or(Membership::Open);
    let limits = limits(section.key("limits").section());
    section.finish();
    Network { listen, external, membership, limits }
}

/// An address at which others reach this node. It may end in this node's peer id, and in nobody else's.
fn own_address(text: &str, own: &Key) -> Result<Multiaddr, AddressError> {
    match own {
        Key::Read(identity, _) => dialable(text, Some(&identity.public_key())),
        Key::Wrong => dialable(text, None),
        // It will be a new one.
        Key::Missing => {
            let address = dialable(text, None)?;
            if parse(text)? == address { Ok(address) } else { Err(AddressError::Peer) }
        }
    }
}

fn limits(section: Section<'_>) -> Limits {
    let limit = |name, default| section.key(name).integer32(1..=1_000_000).unwrap_or(default);
    let limits = Limits {
        connections: limit("connections", 1024),
        connections_per_peer: limit("connections_per_peer", 2),
        connections_per_ip: limit("connections_per_ip", 64),
        pending_incoming: limit("pending_incoming", 64),
    };
    section.finish();
    limits
}

fn peers(section: Section<'_>, folder: &Path, named: &Path) -> Peers {
    let file_node = section.key("file");
    let path = path_of(&file_node, folder);
    // A value that was refused is not a name to show.
    let text = file_node.value().filter(|_| path.is_some()).and_then(serde_yaml::Value::as_str);
    let name = named.join(text.unwrap_or("peers.yaml"));
    let file = path.unwrap_or_else(|| folder.join("peers.yaml"));
    let shown = if file_node.is_given() { file_node.shown_file() } else { "\"peers.yaml\"".to_owned() };
    let (low, high) = TIMEOUTS;
    let timeout = section.key("connection_timeout").required("10s");
    let connection_timeout = timeout.duration(low..=high).unwrap_or(Duration::from_secs(10));
    let reconnect_min = duration(&section.key("reconnect_min"), 1_000, 10, HOUR);
    let max_node = section.key("reconnect_max");
    let reconnect_max = duration(&max_node, 300_000, 10, 24 * HOUR);
    if reconnect_min > reconnect_max {
        let min_node = section.key("reconnect_min");
        let culprit = if max_node.is_given() { max_node } else { min_node };
        let message = format!(
            "reconnect_min {} is more than reconnect_max {}",
            storage::document::Span(reconnect_min),
            storage::document::Span(reconnect_max)
        );
        culprit.refuse(message, "the first pause cannot be longer than the longest");
    }
    let max_known = section.key("max_known").integer32(0..=1_000_000).unwrap_or(10_000);
    section.finish();
    let max_known = usize::try_from(max_known).unwrap_or(usize::MAX);
    Peers {
        file,
        name,
        is_named: file_node.is_given(),
        shown,
        connection_timeout,
        reconnect_min,
        reconnect_max,
        max_known,
    }
}

fn logging(section: Section<'_>, folder: &Path) -> LoggingSection {
    let level = section.key("level").required("info").one_of(Level::NAMES).unwrap_or(Level::Info);
    let targets = targets(&section.key("targets"));
    let format = section.key("format").required("json").one_of(LogFormat::NAMES).unwrap_or(LogFormat::Json);
    let flag = |name, default| section.key(name).boolean().unwrap_or(default);
    let console = flag("console_output", true);
    let color = flag("console_color", true);
    let file = log_file(&section, folder);
    section.finish();
    LoggingSection { level, targets, format, console, color, file }
}

/// What is written under `file_output: false` counts as well: it is judged now, so that a later `true` finds it good.
fn log_file(section: &Section<'_>, folder: &Path) -> LogFile {
    let default = LogFile::default();
    let output = section.key("file_output").boolean().unwrap_or(default.output);
    let name = section.key("file_name").nullable();
    let name = if output { name.required("node.log") } else { name };
    LogFile {
        output,
        path: if name.is_given() { path_of(&name, folder) } else { None },
        max_size: section.key("file_max_size").size(1..=1 << 40).unwrap_or(default.max_size),
        max_backups: section.key("file_max_backups").integer32(0..=1_000).unwrap_or(default.max_backups),
    }
}

fn targets(node: &Node<'_>) -> BTreeMap<String, Level> {
    let mut targets = BTreeMap::new();
    for (name, entry) in node.entries() {
        let Some(level) = entry.one_of(Level::NAMES) else { continue };
        if is_module(name) {
            targets.insert(name.to_owned(), level);
        } else {
            entry.refuse("is no name of a module", "write it as `libp2p_swarm` or `net::network`");
        }
    }
    if targets.len() > MAX_TARGETS {
        node.refuse(format!("has {} targets", targets.len()), format!("at most {MAX_TARGETS}"));
    }
    targets
}

/// A Rust path: what `tracing` calls a target.
fn is_module(name: &str) -> bool {
    name.len() <= 128
        && name.split("::").all(|part| {
            part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        })
}

fn reload(section: Section<'_>) -> ReloadSection {
    let reload = ReloadSection {
        budget: duration(&section.key("budget"), 2_000, 200, 30_000),
        watch: section.key("watch").boolean().unwrap_or(false),
        settle: duration(&section.key("settle"), 1_000, 0, 60_000),
        history: section.key("history").integer32(1..=100_000).unwrap_or(50),
        health_gate: section.key("health_gate").boolean().unwrap_or(true),
    };
    section.finish();
    reload
}
