//! What two configurations differ in, key by key: which components a change reaches, and how it is made (R7).

use std::sync::Arc;

use reload::redact::REDACTED;
use reload::{Change, Strategy};
use serde_json::Value;
use storage::{Member, Members, side_by_side};

use super::Config;
use super::sections::NodeSection;
use super::tree::{self, Tree};

/// Which components each key reaches (DESIGN, "Which keys reach which component"), and how. A key stands for all below it.
pub(super) const KEYS: &[(&str, &[&str], Strategy)] = &[
    ("node.private_key", &["network"], Strategy::Restart),
    ("node.key_file", &["reload"], Strategy::InPlace),
    ("node.data_dir", &["history", "admin"], Strategy::ReplacePart),
    ("node.worker_threads", &["network"], Strategy::NewConnections),
    ("node.shutdown_timeout", &["reload"], Strategy::InPlace),
    ("network.addresses", &["network"], Strategy::ReplacePart),
    ("network.external_addresses", &["network"], Strategy::InPlace),
    ("network.membership", &["network"], Strategy::InPlace),
    ("network.limits.connections", &["network"], Strategy::InPlace),
    ("network.limits.connections_per_peer", &["network"], Strategy::InPlace),
    ("network.limits.connections_per_ip", &["network"], Strategy::InPlace),
    ("network.limits.pending_incoming", &["network"], Strategy::InPlace),
    ("peers.file", &["peer_store"], Strategy::InPlace),
    ("peers.exchange_interval", &["protocol"], Strategy::InPlace),
    ("peers.connection_timeout", &["network"], Strategy::InPlace),
    ("peers.reconnect_min", &["network"], Strategy::InPlace),
    ("peers.reconnect_max", &["network"], Strategy::InPlace),
    ("peers.max_known", &["peer_store"], Strategy::InPlace),
    ("protocol.ping_interval", &["protocol"], Strategy::InPlace),
    ("protocol.max_message_size", &["protocol"], Strategy::InPlace),
    ("protocol.rate_limit.messages_per_second", &["protocol"], Strategy::InPlace),
    ("protocol.rate_limit.burst", &["protocol"], Strategy::InPlace),
    ("protocol.topics", &["protocol"], Strategy::InPlace),
    ("protocol.services.expose", &["protocol"], Strategy::InPlace),
    ("protocol.services.connect", &["protocol"], Strategy::ReplacePart),
    ("logging.level", &["logging"], Strategy::InPlace),
    ("logging.targets", &["logging"], Strategy::InPlace),
    ("logging.format", &["logging"], Strategy::InPlace),
    ("logging.console_output", &["logging"], Strategy::InPlace),
    ("logging.console_color", &["logging"], Strategy::InPlace),
    ("logging.file_output", &["logging"], Strategy::InPlace),
    ("logging.file_name", &["logging"], Strategy::InPlace),
    ("logging.file_max_size", &["logging"], Strategy::InPlace),
    ("logging.file_max_backups", &["logging"], Strategy::InPlace),
    ("admin.socket", &["admin"], Strategy::ReplacePart),
    ("admin.listen", &["admin"], Strategy::ReplacePart),
    ("admin.tls", &["admin"], Strategy::InPlace),
    ("admin.jwt", &["admin"], Strategy::InPlace),
    ("reload.budget", &["reload"], Strategy::InPlace),
    ("reload.watch", &["reload"], Strategy::InPlace),
    ("reload.settle", &["reload"], Strategy::InPlace),
    ("reload.history", &["reload"], Strategy::InPlace),
    ("reload.health_gate", &["reload"], Strategy::InPlace),
];

/// Whom the members concern: the store keeps them, the network dials and admits them.
const MEMBER: &[&str] = &["peer_store", "network"];

impl Config {
    /// Every key in which `next` differs from this configuration, in the contract's order, members last.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Vec<Change> {
        if self == next {
            return Vec::new();
        }
        let mut changes = Vec::new();
        compare_identity(&self.node, &next.node, &mut changes);
        compare(String::new(), &tree::of_config(self), &tree::of_config(next), &mut changes);
        if self.admin.socket == next.admin.socket {
            // A socket that lies elsewhere stays where it is.
            for change in changes.iter_mut().filter(|change| change.path == DATA_DIR) {
                change.components.retain(|component| *component == change.component);
            }
        }
        if !Arc::ptr_eq(&self.peers.members, &next.peers.members) {
            compare_members(&self.peers.members, &next.peers.members, &mut changes);
        }
        changes
    }

    /// The effective configuration as YAML: every key in the contract's order, defaults spelled out, secrets redacted.
    ///
    /// # Panics
    /// Never: keys are texts and values plain.
    #[must_use]
    pub fn canonical(&self) -> String {
        write(&tree::of_config(self))
    }

    /// The members as YAML, in the order of their keys.
    ///
    /// # Panics
    /// Never: keys are texts and values plain.
    #[must_use]
    pub fn canonical_peers(&self) -> String {
        write(&tree::of_members(&self.peers.members))
    }

    /// [`Config::canonical`] as JSON.
    ///
    /// # Panics
    /// Never: keys are texts and values plain.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(tree::of_config(self).to_yaml())
            .expect("a tree has texts as keys and plain values")
    }
}

const PRIVATE_KEY: &str = "node.private_key";
const KEY_FILE: &str = "node.key_file";
const DATA_DIR: &str = "node.data_dir";

/// Two keys tell one thing: where the pair is kept may change, who the node is may not.
fn compare_identity(from: &NodeSection, to: &NodeSection, changes: &mut Vec<Change>) {
    if from.identity != to.identity {
        let path = if to.key_file.is_some() { KEY_FILE } else { PRIVATE_KEY };
        let (components, strategy) = reach(PRIVATE_KEY);
        changes.push(change(path.to_owned(), REDACTED.into(), REDACTED.into(), components, strategy));
    } else if from.key_file != to.key_file {
        let value = |section: &NodeSection| {
            section.key_file.as_ref().map_or(Value::Null, |path| path.display().to_string().into())
        };
        push(KEY_FILE.to_owned(), value(from), value(to), changes);
    }
}

fn write(tree: &Tree) -> String {
    serde_yaml::to_string(&tree.to_yaml()).expect("a tree has texts as keys and plain values")
}

fn compare(path: String, from: &Tree, to: &Tree, changes: &mut Vec<Change>) {
    let (Tree::Map(old), Tree::Map(new)) = (from, to) else {
        if from != to && !matches!(path.as_str(), PRIVATE_KEY | KEY_FILE) {
            push(path, from.to_json(), to.to_json(), changes);
        }
        return;
    };
    let value = |entries: &[(String, Tree)], key: &str| {
        entries
            .iter()
            .find(|(name, _)| name == key)
            .map_or(Tree::Leaf(Value::Null), |(_, value)| value.clone())
    };
    let added = new.iter().filter(|(key, _)| !old.iter().any(|(name, _)| name == key));
    for (key, _) in old.iter().chain(added) {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        compare(below, &value(old, key), &value(new, key), changes);
    }
}

fn push(path: String, from: Value, to: Value, changes: &mut Vec<Change>) {
    let (components, strategy) = reach(&path);
    changes.push(change(path, from, to, components, strategy));
}

/// The first of `components` owns the key.
fn change(path: String, from: Value, to: Value, components: &[&str], strategy: Strategy) -> Change {
    let components: Vec<String> = components.iter().map(|name| (*name).to_owned()).collect();
    let component = components.first().cloned().unwrap_or_default();
    Change { path, from, to, component, components, strategy }
}

fn reach(path: &str) -> (&'static [&'static str], Strategy) {
    // A key that is not in the table is a bug that a test finds; until then it is refused rather than half done.
    row_of(path).unwrap_or((&["reload"], Strategy::Restart))
}

/// The row of the table that a key stands in, itself or with a key above it. Whatever a member has is a row of its own.
pub(super) fn row_of(path: &str) -> Option<(&'static [&'static str], Strategy)> {
    if path.starts_with("peers[") {
        return Some((MEMBER, Strategy::InPlace));
    }
    let row = KEYS.iter().find(|(key, ..)| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    });
    row.map(|(_, components, strategy)| (*components, *strategy))
}

fn compare_members(old: &Members, new: &Members, changes: &mut Vec<Change>) {
    let member = |from, to, path| change(path, from, to, MEMBER, Strategy::InPlace);
    let mut added = Vec::new();
    for (key, before, after) in side_by_side(old, new) {
        match (before, after) {
            (Some(before), None) => {
                changes.push(member(tree::of_member(before).to_json(), Value::Null, format!("peers[{key}]")));
            }
            (Some(before), Some(after)) if after != before => {
                for (name, from, to) in differences(before, after) {
                    changes.push(member(from, to, format!("peers[{key}].{name}")));
                }
            }
            (None, Some(after)) => {
                added.push(member(Value::Null, tree::of_member(after).to_json(), format!("peers[{key}]")));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    changes.append(&mut added);
}

fn differences(before: &Member, after: &Member) -> Vec<(String, Value, Value)> {
    let (Tree::Map(before), Tree::Map(after)) = (tree::of_member(before), tree::of_member(after)) else {
        return Vec::new();
    };
    let pairs = before.into_iter().zip(after).filter(|((_, from), (_, to))| from != to);
    pairs.map(|((name, from), (_, to))| (name, from.to_json(), to.to_json())).collect()
}
