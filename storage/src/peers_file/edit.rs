//! `peers.yaml` changed on a person's order (contract: "peers.yaml"): what the order names is changed, every other byte stays
//! as a person wrote it.
//!
//! The places are found by a syntax tree (`places`), and whatever the style of the file, the result is judged by what it says:
//! a text that does not say exactly what the file said with the order carried out is never returned.

mod places;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::{Mapping, Value};

use crate::PeerKey;
use crate::document::MAX_FILE;
use places::Places;

/// The longest file that is edited, in lines: beyond 32,767, tree-sitter's YAML loses its place.
pub const MAX_LINES: usize = 32_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The member is there afterwards, as the entry says. What else the file says of it stays.
    Set(Entry),
    /// The member is not there afterwards.
    Remove(PeerKey),
}

/// A member as an order names it. The addresses are written as they are: the reload that follows judges them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub key: PeerKey,
    /// Where, in the order in which it is dialled; `None` leaves the addresses that are there.
    pub addresses: Option<Vec<String>>,
    /// What people call it; `None` leaves a name that is there.
    pub name: Option<String>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The member was not there.
    Added,
    /// It was, and the file said something else of it.
    Changed,
    /// The file said so already.
    Unchanged,
    /// The member was there, and is not any more.
    Removed,
}

/// A file after its orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The bytes to be written.
    pub text: Vec<u8>,
    /// What became of each order, in their order.
    pub effects: Vec<Effect>,
}

/// Why a file is not edited. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no list of members: a person has to mend it first.
    #[error("the file is not a list of peers as it stands; `fednode check` says what is wrong in it")]
    Broken,
    /// A member to be removed that is not there.
    #[error("{0} is not in the file")]
    Unknown(PeerKey),
    /// One order for it is enough.
    #[error("{0} stands in two orders")]
    Twice(PeerKey),
    /// Its style leaves no way to carry the order out without touching something else.
    #[error(
        "the file is written in a way (anchors, aliases, unusual layout) in which this change would touch other entries; \
         edit it by hand"
    )]
    NoPlace,
    /// The syntax tree counts lines in 16 bits.
    #[error(
        "the file has more than {MAX_LINES} lines, which only a person can edit; one address a line is not needed, as in addresses: [\"…\", \"…\"]"
    )]
    TooLong,
    /// It would be refused as too large.
    #[error("the file would be larger than {} MiB", MAX_FILE >> 20)]
    TooLarge,
}

/// Carries orders out on the bytes of a file that [`super::PeersFile`] accepts; `None` where there is no file. All of them or
/// none.
///
/// # Errors
/// If an order cannot be carried out.
pub fn edit(text: Option<&[u8]>, orders: &[Order]) -> Result<Edited, EditError> {
    let mut named = BTreeSet::new();
    if let Some(twice) = orders.iter().map(Order::key).find(|key| !named.insert(**key)) {
        return Err(EditError::Twice(*twice));
    }
    let text = match text {
        Some(bytes) => std::str::from_utf8(bytes).map_err(|_| EditError::Broken)?,
        None => "peers: []\n",
    };
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    if body.lines().count() > MAX_LINES {
        return Err(EditError::TooLong);
    }
    let before = parse(body).ok_or(EditError::Broken)?;
    let mut wanted = before.clone();
    let effects = orders.iter().map(|order| order.apply(&mut wanted)).collect::<Result<Vec<_>, _>>()?;
    // New entries come last, on a text that has the others' places no more: two passes, whatever the number of orders.
    let (new, old): (Vec<_>, Vec<_>) = orders
        .iter()
        .zip(&effects)
        .filter(|(_, effect)| **effect != Effect::Unchanged)
        .partition(|(_, effect)| **effect == Effect::Added);
    let body = if old.is_empty() { body.to_owned() } else { changed(body, &before, &old)? };
    let body = if new.is_empty() { body } else { extended(&body, &new)? };
    if parse(&body).as_ref() != Some(&wanted) {
        return Err(EditError::NoPlace);
    }
    let text = format!("{mark}{body}").into_bytes();
    if text.len() as u64 > MAX_FILE {
        return Err(EditError::TooLarge);
    }
    Ok(Edited { text, effects })
}

type Work<'o> = Vec<(&'o Order, &'o Effect)>;

/// The text with members changed and removed.
fn changed(body: &str, before: &Value, work: &Work<'_>) -> Result<String, EditError> {
    let peers = list(before).ok_or(EditError::Broken)?;
    let mut places = Places::new(body).ok_or(EditError::NoPlace)?;
    let removed: Vec<usize> = work
        .iter()
        .filter(|(_, effect)| **effect == Effect::Removed)
        .filter_map(|(order, _)| position(peers, order.key()))
        .collect();
    places.remove_entries(&removed, peers.len()).ok_or(EditError::NoPlace)?;
    for (order, _) in work {
        let Order::Set(entry) = order else { continue };
        let at = position(peers, &entry.key).ok_or(EditError::NoPlace)?;
        let was = peers.get(at).and_then(Value::as_mapping).ok_or(EditError::NoPlace)?;
        if let Some(wanted) = &entry.addresses
            && addresses(was) != Some(texts(wanted))
        {
            places.set_addresses(at, &addresses(was), wanted).ok_or(EditError::NoPlace)?;
        }
        if let Some(name) = &entry.name
            && was.get("name").and_then(Value::as_str) != Some(name)
        {
            places.set_name(at, name).ok_or(EditError::NoPlace)?;
        }
    }
    places.apply().ok_or(EditError::NoPlace)
}

/// The text with members added.
fn extended(body: &str, work: &Work<'_>) -> Result<String, EditError> {
    let entries: Vec<&Entry> = work
        .iter()
        .filter_map(|(order, _)| match order {
            Order::Set(entry) => Some(entry),
            Order::Remove(_) => None,
        })
        .collect();
    let count = parse(body).as_ref().and_then(list).map_or(0, Vec::len);
    let mut places = Places::new(body).ok_or(EditError::NoPlace)?;
    places.add_entries(&entries, count).ok_or(EditError::NoPlace)?;
    places.apply().ok_or(EditError::NoPlace)
}

fn parse(text: &str) -> Option<Value> {
    let mut value: Value = serde_yaml::from_str(text).ok()?;
    // No list and an empty one say the same.
    let peers = value.as_mapping_mut()?.get_mut("peers")?;
    if peers.is_null() {
        *peers = Value::Sequence(Vec::new());
    }
    Some(value)
}

fn list(document: &Value) -> Option<&Vec<Value>> {
    document.get("peers")?.as_sequence()
}

/// Which entry is this member's.
fn position(peers: &[Value], key: &PeerKey) -> Option<usize> {
    peers
        .iter()
        .position(|entry| entry.get("public_key").and_then(Value::as_str).is_some_and(|text| is(text, key)))
}

/// Whether a text is this key, in whatever spelling. The usual one is compared without a look at the curve.
fn is(text: &str, key: &PeerKey) -> bool {
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => bytes == key.as_bytes(),
        _ => text.parse() == Ok(*key),
    }
}

/// The addresses of an entry as they are written.
fn addresses(entry: &Mapping) -> Option<Vec<&str>> {
    match entry.get("addresses") {
        Some(Value::Sequence(list)) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn texts(addresses: &[String]) -> Vec<&str> {
    addresses.iter().map(String::as_str).collect()
}

// === impl Order ===

impl Order {
    /// Whom it is about.
    #[must_use]
    pub const fn key(&self) -> &PeerKey {
        match self {
            Self::Set(entry) => &entry.key,
            Self::Remove(key) => key,
        }
    }

    /// Carries the order out on what a file says.
    fn apply(&self, document: &mut Value) -> Result<Effect, EditError> {
        let peers = document.get_mut("peers").and_then(Value::as_sequence_mut).ok_or(EditError::Broken)?;
        match (self, position(peers, self.key())) {
            (Self::Remove(key), None) => Err(EditError::Unknown(*key)),
            (Self::Remove(_), Some(at)) => {
                peers.remove(at);
                Ok(Effect::Removed)
            }
            (Self::Set(entry), None) => {
                peers.push(Value::Mapping(entry.to_yaml()));
                Ok(Effect::Added)
            }
            (Self::Set(entry), Some(at)) => {
                let was = peers.get_mut(at).and_then(Value::as_mapping_mut).ok_or(EditError::Broken)?;
                let before = was.clone();
                if let Some(wanted) = &entry.addresses
                    && addresses(was) != Some(texts(wanted))
                {
                    was.insert("addresses".into(), texts(wanted).into());
                }
                if let Some(name) = &entry.name {
                    was.insert("name".into(), name.as_str().into());
                }
                Ok(if *was == before { Effect::Unchanged } else { Effect::Changed })
            }
        }
    }
}

// === impl Entry ===

impl Entry {
    /// The addresses of one that is new.
    fn addresses(&self) -> &[String] {
        self.addresses.as_deref().unwrap_or_default()
    }

    fn to_yaml(&self) -> Mapping {
        let mut entry = Mapping::new();
        entry.insert("public_key".into(), self.key.to_string().into());
        if let Some(name) = &self.name {
            entry.insert("name".into(), name.as_str().into());
        }
        entry.insert("addresses".into(), texts(self.addresses()).into());
        entry
    }
}

#[cfg(test)]
mod tests;
