//! The text of `known.yaml`.
//!
//! It is YAML for people and for other programs. Each entry is one line of JSON, which YAML takes as it is: what the node wrote
//! itself, which the checksum tells, is read line by line in a tenth of a YAML parser's time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::KnownEntry;
use crate::{Digest, PeerKey};

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
    /// Of another program version.
    #[error("is of version {0}, and this node reads version 1")]
    Version(u64),
    /// Not what stands in such a file.
    #[error("is damaged: {0}")]
    Content(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "first")]
    version: u64,
    #[serde(default)]
    peers: Option<Vec<KnownEntry>>,
}

const fn first() -> u64 {
    1
}

/// The bytes of a file with these entries.
pub(super) fn render(entries: &[KnownEntry]) -> Vec<u8> {
    let mut text = String::with_capacity(HEAD.len() + 512 * entries.len());
    text.push_str(HEAD);
    text.push_str(if entries.is_empty() { "peers: []\n" } else { "peers:\n" });
    for entry in entries {
        // Fails for no value of this type.
        let line = serde_json::to_string(entry).unwrap_or_default();
        let _ = writeln!(text, "- {line}");
    }
    let checksum = checksum(text.as_bytes());
    let _ = writeln!(text, "{CHECKSUM}{checksum}");
    text.into_bytes()
}

/// What such bytes say, each peer once, by key.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<KnownEntry>, Hand), Damage> {
    let text = std::str::from_utf8(bytes).map_err(|error| Damage::Encoding(error.valid_up_to()))?;
    let at = text.rfind(&format!("\n{CHECKSUM}")).ok_or(Damage::CutOff)? + 1;
    let (body, last) = text.split_at(at);
    let is_own = last.trim_end().strip_prefix(CHECKSUM) == Some(&checksum(body.as_bytes()));
    let hand = if is_own { Hand::Node } else { Hand::Person };
    let own = if is_own { lines(body) } else { None };
    let entries = match own {
        Some(entries) => entries,
        None => whole(text)?,
    };
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
    entries.map(|line| serde_json::from_str(line.strip_prefix("- ")?).ok()).collect()
}

fn whole(text: &str) -> Result<Vec<KnownEntry>, Damage> {
    let File { version, peers } =
        serde_yaml::from_str(text).map_err(|error| Damage::Content(error.to_string()))?;
    if version == 1 { Ok(peers.unwrap_or_default()) } else { Err(Damage::Version(version)) }
}

fn checksum(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Digest::of(bytes).0 {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
