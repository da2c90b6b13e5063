//! The effective configuration as a tree in the contract's order: what is printed, and what is compared key by key.

use std::net::SocketAddr;
use std::path::Path;

use net::{ConnectedService, ExposedService, Membership};
use reload::redact::REDACTED;
use serde_json::Value;
use storage::document::{ByteSize, Span};
use storage::{Digest, Member, Members};

use super::Config;
use super::sections::{
    AdminSection, ClaimOperator, JwtAlgorithm, JwtKey, JwtSection, NamedFile, TlsSection, TokenSource,
    name_of,
};

/// A part of the configuration. Secrets are in it only as digests, so nothing that is made of it can give one away.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Keys in order, each compared for itself.
    Map(Vec<(String, Tree)>),
    /// Compared as a whole.
    List(Vec<Tree>),
    /// A plain value.
    Leaf(Value),
    /// A secret.
    Secret(Digest),
    /// A file whose content counts.
    File { path: String, content: Digest, secret: bool },
}

// === impl Tree ===

impl Tree {
    fn text(value: impl ToString) -> Self {
        Self::Leaf(Value::String(value.to_string()))
    }

    fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    fn list<T>(items: impl IntoIterator<Item = T>, tree: impl Fn(T) -> Self) -> Self {
        Self::List(items.into_iter().map(tree).collect())
    }

    fn or_null(value: Option<Self>) -> Self {
        value.unwrap_or(Self::Leaf(Value::Null))
    }

    /// As it would stand in the file, secrets redacted.
    pub(super) fn to_yaml(&self) -> serde_yaml::Value {
        match self {
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.as_str().into(), value.to_yaml()));
                serde_yaml::Value::Mapping(entries.collect())
            }
            Self::List(items) => items.iter().map(Self::to_yaml).collect(),
            Self::Leaf(value) => serde_yaml::to_value(value).unwrap_or_default(),
            Self::Secret(_) => REDACTED.into(),
            Self::File { path, .. } => path.as_str().into(),
        }
    }

    /// As it stands in a change: a file with what tells its contents apart.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Leaf(value) => value.clone(),
            Self::Secret(_) => REDACTED.into(),
            Self::File { path, secret: true, .. } => format!("{path} ({REDACTED})").into(),
            Self::File { path, content, secret: false } => format!("{path} (sha256 {content})").into(),
        }
    }
}

/// The whole of `conf.yaml`.
pub(super) fn of_config(config: &Config) -> Tree {
    Tree::map([
        ("version", Tree::Leaf(1.into())),
        ("node", node(config)),
        ("network", network(config)),
        ("peers", peers(config)),
        ("protocol", protocol(config)),
        ("logging", logging(config)),
        ("admin", admin(config)),
        ("reload", reload(config)),
    ])
}

/// The whole of `peers.yaml`.
pub(super) fn of_members(members: &Members) -> Tree {
    let entry = |member: &Member| {
        let Tree::Map(mut entries) = of_member(member) else { return Tree::Leaf(Value::Null) };
        entries.retain(|(_, value)| *value != Tree::Leaf(Value::Null));
        entries.insert(0, ("public_key".to_owned(), Tree::text(member.key)));
        Tree::Map(entries)
    };
    Tree::map([("version", Tree::Leaf(1.into())), ("peers", Tree::list(members.values(), entry))])
}

/// One member, without its key.
pub(super) fn of_member(member: &Member) -> Tree {
    Tree::map([
        ("addresses", Tree::list(&member.addresses, Tree::text)),
        ("name", Tree::or_null(member.name.as_ref().map(Tree::text))),
        (
            "connection_timeout",
            Tree::or_null(member.connection_timeout.map(|timeout| Tree::text(Span(timeout)))),
        ),
        ("max_retries", Tree::or_null(member.max_retries.map(|retries| Tree::Leaf(retries.into())))),
    ])
}

/// A path as it would stand in the file: from `folder` where it lies below.
fn path(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}

fn node(config: &Config) -> Tree {
    let section = &config.node;
    let digest = Digest::of(section.identity.to_text().as_bytes());
    let key = match &section.key_file {
        None => ("private_key", Tree::Secret(digest)),
        Some(file) => {
            let path = path(file, config.folder());
            ("key_file", Tree::File { path, content: digest, secret: true })
        }
    };
    Tree::map([
        key,
        ("data_dir", Tree::text(path(&config.history.data_dir, config.folder()))),
        ("worker_threads", Tree::Leaf(config.network.worker_threads.into())),
        ("shutdown_timeout", Tree::text(Span(section.shutdown_timeout))),
    ])
}

fn network(config: &Config) -> Tree {
    let section = &config.network;
    let limits = section.limits;
    Tree::map([
        ("addresses", Tree::list(&section.listen, Tree::text)),
        ("external_addresses", Tree::list(&section.external, Tree::text)),
        (
            "membership",
            Tree::text(match section.membership {
                Membership::Open => "open",
                Membership::Members => "members",
            }),
        ),
        (
            "limits",
            Tree::map([
                ("connections", Tree::Leaf(limits.connections.into())),
                ("connections_per_peer", Tree::Leaf(limits.connections_per_peer.into())),
                ("connections_per_ip", Tree::Leaf(limits.connections_per_ip.into())),
                ("pending_incoming", Tree::Leaf(limits.pending_incoming.into())),
            ]),
        ),
    ])
}

fn peers(config: &Config) -> Tree {
    Tree::map([
        ("file", Tree::text(path(&config.peers.file, config.folder()))),
        ("exchange_interval", Tree::text(Span(config.protocol.exchange_interval))),
        ("connection_timeout", Tree::text(Span(config.network.connection_timeout))),
        ("reconnect_min", Tree::text(Span(config.network.reconnect_min))),
        ("reconnect_max", Tree::text(Span(config.network.reconnect_max))),
        ("max_known", Tree::Leaf(config.peers.max_known.into())),
    ])
}

fn protocol(config: &Config) -> Tree {
    let section = &config.protocol;
    let topic = |name: &String| Tree::map([("name", Tree::text(name))]);
    Tree::map([
        ("ping_interval", Tree::text(Span(section.ping_interval))),
        ("max_message_size", Tree::text(ByteSize(section.max_message_size as u64))),
        (
            "rate_limit",
            Tree::map([
                ("messages_per_second", number(section.rate_limit.messages_per_second)),
                ("burst", Tree::Leaf(section.rate_limit.burst.into())),
            ]),
        ),
        ("topics", Tree::list(&section.topics, topic)),
        (
            "services",
            Tree::map([
                ("expose", Tree::list(&section.expose, exposed)),
                ("connect", Tree::list(&section.connect, connected)),
            ]),
        ),
    ])
}

/// Without `.0` where there is no fraction, as people write it.
fn number(value: f64) -> Tree {
    let whole = value as u64;
    if whole as f64 == value { Tree::Leaf(whole.into()) } else { Tree::Leaf(value.into()) }
}

fn exposed(service: &ExposedService) -> Tree {
    let mut entries = vec![("name", Tree::text(&service.name)), ("target", Tree::text(&service.target))];
    if let Some(allow) = &service.allow {
        entries.push(("allow", Tree::list(allow, Tree::text)));
    }
    Tree::map(entries)
}

fn connected(service: &ConnectedService) -> Tree {
    Tree::map([
        ("name", Tree::text(&service.name)),
        ("peer", Tree::text(service.peer)),
        ("listen", Tree::text(service.listen)),
    ])
}

fn logging(config: &Config) -> Tree {
    let section = &config.logging;
    let file = &section.file;
    let name = file.path.as_ref().map(|name| Tree::text(path(name, config.folder())));
    Tree::map([
        ("level", Tree::text(section.level)),
        ("targets", Tree::map(section.targets.iter().map(|(name, level)| (name.clone(), Tree::text(level))))),
        ("format", Tree::text(section.format)),
        ("console_output", Tree::Leaf(section.console.into())),
        ("console_color", Tree::Leaf(section.color.into())),
        ("file_output", Tree::Leaf(file.output.into())),
        ("file_name", Tree::or_null(name)),
        ("file_max_size", Tree::text(ByteSize(file.max_size))),
        ("file_max_backups", Tree::Leaf(file.max_backups.into())),
    ])
}

fn admin(config: &Config) -> Tree {
    let section: &AdminSection = &config.admin;
    let folder = config.folder();
    Tree::map([
        ("socket", Tree::text(path(&section.socket, &config.history.data_dir))),
        ("listen", Tree::or_null(section.listen.as_ref().map(SocketAddr::to_string).map(Tree::text))),
        ("tls", Tree::or_null(section.tls.as_ref().map(|section| tls(section, folder)))),
        ("jwt", Tree::or_null(section.jwt.as_ref().map(|section| jwt(section, folder)))),
    ])
}

fn file(named: &NamedFile, folder: &Path, secret: bool) -> Tree {
    Tree::File { path: path(&named.path, folder), content: named.digest, secret }
}

fn tls(section: &TlsSection, folder: &Path) -> Tree {
    Tree::map([
        ("certificate", file(&section.certificate, folder, false)),
        ("private_key", file(&section.private_key, folder, true)),
        ("client_ca", Tree::or_null(section.client_ca.as_ref().map(|named| file(named, folder, false)))),
    ])
}

fn jwt(section: &JwtSection, folder: &Path) -> Tree {
    let key = match &section.key {
        JwtKey::Inline(secret) => ("secret", Tree::Secret(Digest::of(secret.expose()))),
        JwtKey::SecretFile(named) => ("secret_file", file(named, folder, true)),
        JwtKey::PublicKey(named) => ("public_key_file", file(named, folder, false)),
    };
    let claims = Tree::list(&section.claims, |claim| {
        Tree::map([
            ("claim", Tree::text(&claim.claim)),
            ("operator", Tree::text(name_of(ClaimOperator::NAMES, &claim.operator))),
            ("value", Tree::Leaf(claim.value.clone())),
        ])
    });
    let sources = Tree::list(&section.sources, |source| match source {
        TokenSource::Header(name) => Tree::map([("header", Tree::text(name))]),
        TokenSource::Query(name) => Tree::map([("query", Tree::text(name))]),
    });
    let algorithm = Tree::text(name_of(JwtAlgorithm::NAMES, &section.algorithm));
    Tree::map([("algorithm", algorithm), key, ("claims", claims), ("sources", sources)])
}

fn reload(config: &Config) -> Tree {
    let section = &config.reload;
    Tree::map([
        ("budget", Tree::text(Span(section.budget))),
        ("watch", Tree::Leaf(section.watch.into())),
        ("settle", Tree::text(Span(section.settle))),
        ("history", Tree::Leaf(section.history.into())),
        ("health_gate", Tree::Leaf(section.health_gate.into())),
    ])
}
