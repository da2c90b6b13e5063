//! The text of `known.yaml`.
//!
//! It is YAML for people and for other programs. Each entry is one line of JSON, which YAML takes as it is: what the node wrote
//! itself, which the checksum tells, is read line by line in a tenth of a YAML parser's time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::KnownEntry;
use crate::{Digest, PeerKey};

/// What is written. A later version begins with the line `version: N`, whatever comes after it; an earlier one is
/// [brought up to date](of_version).
pub(super) const VERSION: u64 = 1;
const HEAD: &str = "\
# What this node has learned about other peers. The node writes this file. What you change in it counts:
# remove an entry, and the node forgets that peer. Members are in peers.yaml, which is yours.
version: 1
";
const CHECKSUM: &str = "# sha256:";

/// Who wrote a file last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// The node: the checksum is right.
    Node,
    /// A person, or a program that knows nothing of the checksum.
    Person,
}

/// Why bytes are no such file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// No text.
    #[error("is damaged: byte {0} is not UTF-8")]
    Encoding(usize),
    /// The last line is missing: a file that was cut off can be read all the same, and says too little.
    #[error("is damaged: its last line, the checksum, is missing")]
    CutOff,
    /// Of a later program: nothing is wrong with it, and nothing of it is understood.
    #[error("is of version {0}, and this node reads up to {VERSION}")]
    Version(u64),
    /// Not what stands in such a file.
    #[error("is damaged: {0}")]
    Content(String),
}

/// Version 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    #[serde(default, rename = "version")]
    _version: Option<u64>,
    #[serde(default)]
    peers: Option<Vec<KnownEntry>>,
}

/// A [`KnownEntry`] that this node wrote: its key has been judged, which is most of the work of reading it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own<'l> {
    public_key: &'l str,
    addresses: Vec<String>,
    source: String,
    first_seen: u64,
    last_seen: u64,
    failures: u32,
    records: Vec<String>,
}

// === impl Own ===

impl Own<'_> {
    fn entry(self) -> Option<KnownEntry> {
        let Self { public_key, addresses, source, first_seen, last_seen, failures, records } = self;
        let public_key = PeerKey::judged_before(public_key)?;
        Some(KnownEntry { public_key, addresses, source, first_seen, last_seen, failures, records })
    }
}

/// The bytes of a file with these entries, and their digest.
pub(super) fn render(entries: &[KnownEntry]) -> (Vec<u8>, Digest) {
    let mut text = String::with_capacity(HEAD.len() + 512 * entries.len());
    text.push_str(HEAD);
    text.push_str(if entries.is_empty() { "peers: []\n" } else { "peers:\n" });
    for entry in entries {
        // Fails for no value of this type.
        let line = serde_json::to_string(entry).unwrap_or_default();
        let _ = writeln!(text, "- {line}");
    }
    let mut hash = Sha256::new_with_prefix(&text);
    let body = text.len();
    let _ = writeln!(text, "{CHECKSUM}{}", hex(hash.clone().finalize().into()));
    hash.update(text.get(body..).unwrap_or_default());
    (text.into_bytes(), Digest(hash.finalize().into()))
}

/// What such bytes say, each peer once, by key.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<KnownEntry>, Hand), Damage> {
    let text = std::str::from_utf8(bytes).map_err(|error| Damage::Encoding(error.valid_up_to()))?;
    let version = version(text).unwrap_or(VERSION);
    if version > VERSION {
        return Err(Damage::Version(version));
    }
    let at = text.rfind(&format!("\n{CHECKSUM}")).ok_or(Damage::CutOff)? + 1;
    let (body, last) = text.split_at(at);
    let checksum = hex(Digest::of(body.as_bytes()).0);
    let is_own = last.trim_end().strip_prefix(CHECKSUM) == Some(&checksum);
    let hand = if is_own { Hand::Node } else { Hand::Person };
    let own = if is_own { lines(body) } else { None };
    let entries = match own {
        Some(entries) => entries,
        None => of_version(version, text)?,
    };
    if entries.is_sorted_by(|one, next| one.public_key < next.public_key) {
        return Ok((entries, hand));
    }
    // Of two entries for one peer the last counts: people append.
    let by_key: BTreeMap<PeerKey, KnownEntry> =
        entries.into_iter().map(|entry| (entry.public_key, entry)).collect();
    Ok((by_key.into_values().collect(), hand))
}

/// The entries of a text that [`render`] has made; `None` if it is not exactly of that form.
fn lines(body: &str) -> Option<Vec<KnownEntry>> {
    let rest = body.strip_prefix(HEAD)?;
    if rest == "peers: []\n" {
        return Some(Vec::new());
    }
    let entries = rest.strip_prefix("peers:\n")?.lines();
    entries.map(|line| serde_json::from_str::<Own<'_>>(line.strip_prefix("- ")?).ok()?.entry()).collect()
}

/// What the file says that it is: told before anything else of it is judged, because a later version may have other keys,
/// another checksum or none.
fn version(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("version:"))?;
    line.split('#').next()?.trim().parse().ok()
}

/// The entries of a text of this version: where earlier ones are brought up to date, each by the rules of its own. There has been
/// none before the first.
fn of_version(version: u64, text: &str) -> Result<Vec<KnownEntry>, Damage> {
    match version {
        1 => {
            let file: First =
                serde_yaml::from_str(text).map_err(|error| Damage::Content(error.to_string()))?;
            Ok(file.peers.unwrap_or_default())
        }
        other => Err(Damage::Content(format!("there has been no version {other}"))),
    }
}

fn hex(digest: [u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
