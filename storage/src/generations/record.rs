//! One generation as bytes: what stands in a file of `data_dir/generations`.
//!
//! ```text
//! fednode-generation 1 <sha256 of all that follows this line, in hex>
//! {one line of JSON: the meta data}
//! <the bytes of conf.yaml><the bytes of peers.yaml, if they are not in a blob>
//! ```
//! The files stand in it as they are, so that a person can read a generation with `less`. The checksum covers the meta
//! data and, through a blob's name, its contents too. [`decode`] takes any bytes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reload::Generation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The first word of every record.
const MAGIC: &str = "fednode-generation";

/// The version of the format that this build writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// The largest record that is read or written, in bytes: two configuration files of the 16 MiB that the contract allows, and as
/// much again for what was said about them.
pub const MAX_RECORD: u64 = 64 << 20;

/// A larger `peers.yaml` goes into a blob of its own, in bytes.
pub const MAX_INLINE: usize = 64 << 10;

/// What is known about a generation besides its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Its number.
    pub generation: Generation,
    /// The one that ran before it; `None` for the first.
    pub from_generation: Option<Generation>,
    /// The outcome's id in the audit log.
    pub id: String,
    /// What asked for it (contract: `trigger`).
    pub trigger: String,
    /// Who asked for it.
    pub actor: Option<String>,
    /// Why, in the words of who asked.
    pub note: Option<String>,
    /// When it was committed, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What changed, redacted (R20). The store does not look into it.
    pub changes: serde_json::Value,
}

/// Where the bytes of `peers.yaml` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers<'a> {
    /// There was no such file.
    Missing,
    /// In the record.
    Inline(&'a [u8]),
    /// In a blob of this name.
    Blob(Checksum),
}

/// A record that was read: its parts borrow its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    /// What is known about it.
    pub meta: Meta,
    /// The bytes of `conf.yaml`.
    pub conf: &'a [u8],
    /// The bytes of `peers.yaml`, or where they are.
    pub peers: Peers<'a>,
}

/// A sha256, printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checksum([u8; 32]);

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It does not begin like one: another file, or one whose beginning is lost.
    #[error("is no generation record")]
    Header,
    /// Written by a build that knows more.
    #[error("has format {0}; this build reads {FORMAT}")]
    Format(u32),
    /// Cut off or garbled.
    #[error("does not match its checksum: cut off or damaged")]
    Checksum,
    /// The checksum is right and the contents are not: written by something else.
    #[error("has meta data that cannot be read: {0}")]
    Meta(String),
    /// The lengths in the meta data do not add up to the record's.
    #[error("has contents of another length than it says")]
    Length,
}

/// The line of JSON.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    meta: Meta,
    conf_len: u64,
    peers: PeersLine,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PeersLine {
    Missing,
    Inline(u64),
    Blob(String),
}

/// The bytes of a record.
///
/// # Errors
/// If the meta data is no JSON (a map with keys that are no strings, say).
pub fn encode(record: &Record<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let (peers, inline): (_, &[u8]) = match record.peers {
        Peers::Missing => (PeersLine::Missing, &[]),
        Peers::Inline(bytes) => (PeersLine::Inline(bytes.len() as u64), bytes),
        Peers::Blob(checksum) => (PeersLine::Blob(checksum.to_string()), &[]),
    };
    let line = Line { meta: record.meta.clone(), conf_len: record.conf.len() as u64, peers };
    let mut body = serde_json::to_vec(&line)?;
    body.push(b'\n');
    body.extend_from_slice(record.conf);
    body.extend_from_slice(inline);
    let mut bytes = format!("{MAGIC} {FORMAT} {}\n", Checksum::of(&body)).into_bytes();
    bytes.append(&mut body);
    Ok(bytes)
}

/// Reads a record. Never panics, and allocates no more than the bytes' own length in proportion.
///
/// # Errors
/// If the bytes are not exactly what [`encode`] gave.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let (header, body) = split_line(bytes).ok_or(DecodeError::Header)?;
    let header = std::str::from_utf8(header).map_err(|_| DecodeError::Header)?;
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(DecodeError::Header);
    }
    let format: u32 = words.next().and_then(|word| word.parse().ok()).ok_or(DecodeError::Header)?;
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let checksum = words.next().and_then(Checksum::parse).ok_or(DecodeError::Header)?;
    if words.next().is_some() {
        return Err(DecodeError::Header);
    }
    if Checksum::of(body) != checksum {
        return Err(DecodeError::Checksum);
    }
    let (line, files) = split_line(body).ok_or(DecodeError::Length)?;
    let line: Line = serde_json::from_slice(line).map_err(|error| DecodeError::Meta(error.to_string()))?;
    let conf_len = usize::try_from(line.conf_len).map_err(|_| DecodeError::Length)?;
    let (conf, rest) = files.split_at_checked(conf_len).ok_or(DecodeError::Length)?;
    let peers = match line.peers {
        PeersLine::Missing if rest.is_empty() => Peers::Missing,
        PeersLine::Inline(len) if rest.len() as u64 == len => Peers::Inline(rest),
        PeersLine::Blob(name) if rest.is_empty() => {
            Peers::Blob(Checksum::parse(&name).ok_or_else(|| DecodeError::Meta("no checksum".into()))?)
        }
        PeersLine::Missing | PeersLine::Inline(_) | PeersLine::Blob(_) => return Err(DecodeError::Length),
    };
    if line.meta.generation.get() == 0 {
        return Err(DecodeError::Meta("generation 0".into()));
    }
    Ok(Record { meta: line.meta, conf, peers })
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

// === impl Meta ===

impl Meta {
    /// Whole seconds since 1970 (contract: `timestamp`).
    #[must_use]
    pub const fn timestamp(&self) -> u64 {
        self.unix_ms / 1000
    }

    /// When it was committed.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.unix_ms)).unwrap_or(UNIX_EPOCH)
    }
}

// === impl Checksum ===

impl Checksum {
    /// The checksum of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 lower-case hex digits; anything else is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meta(generation: u64, note: Option<String>) -> Meta {
        Meta {
            generation: Generation::new(generation).unwrap(),
            from_generation: Generation::new(generation - 1),
            id: "01J".into(),
            trigger: "signal".into(),
            actor: None,
            note,
            unix_ms: 1_699_564_800_123,
            changes: serde_json::json!([{"path": "logging.level", "from": "info", "to": "debug"}]),
        }
    }

    proptest! {
        #[test]
        fn every_record_reads_back(
            generation in 1u64..,
            note in proptest::option::of(".*"),
            conf in proptest::collection::vec(any::<u8>(), 0..200),
            peers in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        ) {
            let peers = peers.as_deref().map_or(Peers::Missing, Peers::Inline);
            let record = Record { meta: meta(generation, note), conf: &conf, peers };
            let bytes = encode(&record).unwrap();
            prop_assert_eq!(decode(&bytes), Ok(record));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_err());
        }

        /// The checksum is made right, so that what lies behind it is reached.
        #[test]
        fn any_body_is_refused_without_a_panic(
            line in "(\\{.*\\})?", conf_len in any::<u64>(), inline in any::<u64>(),
            rest in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let meta = serde_json::to_string(&meta(1, None)).unwrap();
            let honest = format!(
                "{},\"conf_len\":{conf_len},\"peers\":{{\"inline\":{inline}}}}}", &meta[..meta.len() - 1]
            );
            for line in [line, honest] {
                let mut body = line.into_bytes();
                body.push(b'\n');
                body.extend_from_slice(&rest);
                let mut bytes = format!("{MAGIC} {FORMAT} {}\n", Checksum::of(&body)).into_bytes();
                bytes.extend_from_slice(&body);
                let fits = conf_len.checked_add(inline) == Some(rest.len() as u64);
                prop_assert!(fits || decode(&bytes).is_err());
            }
        }
    }

    #[test]
    fn each_damage_has_its_name() {
        let record = Record { meta: meta(2, None), conf: b"conf", peers: Peers::Inline(b"peers") };
        let good = encode(&record).unwrap();
        for len in 0..good.len() {
            decode(&good[..len]).unwrap_err();
        }
        assert_eq!(decode(&good[..good.len() - 1]), Err(DecodeError::Checksum));
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(decode(&longer), Err(DecodeError::Checksum));
        assert_eq!(decode(b"version: 1\n"), Err(DecodeError::Header));
        let newer = String::from_utf8(good).unwrap().replacen("generation 1", "generation 2", 1);
        assert_eq!(decode(newer.as_bytes()), Err(DecodeError::Format(2)));
    }
}
