//! `peers.yaml` changed on a person's order (contract: "peers.yaml"): what the order names is changed, every other byte stays
//! as a person wrote it.
//!
//! The places are found by a syntax tree (`places`) of the entries that are named (`items`), and whatever the style of the file,
//! the result is judged by what it says: a text that does not say exactly what the file said with the order carried out is never
//! returned.

mod carry;
mod items;
mod places;
mod usual;

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_yaml::{Mapping, Value};

use super::Context;
use crate::document::MAX_FILE;
use crate::{Members, PeerKey};
use carry::{Task, carried_out};
use items::Items;

/// The most lines of which a syntax tree is made: beyond 32,767, tree-sitter's YAML loses its place. Of a list in blocks
/// the entries that an order does not name do not count.
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
        "the file has more than {MAX_LINES} lines and no list with an entry behind each dash (peers:, then - public_key: …), which only a person can edit"
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
    edit_read(text, orders, None)
}

/// The same, for a file that was just read: what was [plain](super::PeersFile::is_plain) in it need not be read again.
pub(super) fn edit_read(
    text: Option<&[u8]>,
    orders: &[Order],
    read: Option<(&Members, Context<'_>)>,
) -> Result<Edited, EditError> {
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
    let usual = read.and_then(|(members, context)| usual::edit(body, members, orders, context));
    let (body, effects) = usual.unwrap_or_else(|| general(body, orders))?;
    let text = format!("{mark}{body}").into_bytes();
    if text.len() as u64 > MAX_FILE {
        return Err(EditError::TooLarge);
    }
    Ok(Edited { text, effects })
}

/// Carries orders out on a text of any style.
fn general(body: &str, orders: &[Order]) -> Result<(String, Vec<Effect>), EditError> {
    let mut said = parse(body).ok_or(EditError::Broken)?;
    let peers = said.get_mut("peers").and_then(Value::as_sequence_mut).ok_or(EditError::Broken)?;
    let (count, keys) = (peers.len(), Keys::of(peers));
    let mut tasks = Vec::with_capacity(orders.len());
    let mut removed = BTreeSet::new();
    for order in orders {
        let at = keys.get(order.key());
        let entry = |at| peers.get(at).and_then(Value::as_mapping).cloned().ok_or(EditError::Broken);
        let was = at.map(|at| entry(at).map(|entry| (at, entry))).transpose()?;
        let (effect, is) = order.apply(was.as_ref().map(|(_, entry)| entry))?;
        match (at, is) {
            (Some(at), Some(is)) => *peers.get_mut(at).ok_or(EditError::Broken)? = Value::Mapping(is),
            (None, Some(is)) => peers.push(Value::Mapping(is)),
            (Some(at), None) => drop(removed.insert(at)),
            (None, None) => {}
        }
        tasks.push(Task { order, effect, was });
    }
    let mut at = 0..;
    peers.retain(|_| at.next().is_none_or(|at| !removed.contains(&at)));
    let wanted = said;
    let is_wanted = |text: &String| parse(text).as_ref() == Some(&wanted);
    let effects = tasks.iter().map(|task| task.effect).collect();
    // By its lines first. Where they mislead, the result says something else, and the whole is looked at.
    let items = Items::scan(body).filter(|items| items.count() == count);
    if let Some(Ok(text)) = items.map(|items| carried_out(body, Some(&items), count, &tasks))
        && is_wanted(&text)
    {
        return Ok((text, effects));
    }
    let text = carried_out(body, None, count, &tasks)?;
    if is_wanted(&text) { Ok((text, effects)) } else { Err(EditError::NoPlace) }
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

/// Where the entries stand in the list, by key.
struct Keys {
    /// Those in base64, which is the usual spelling: their bytes, without a look at the curve.
    usual: HashMap<Vec<u8>, usize>,
    others: HashMap<PeerKey, usize>,
}

impl Keys {
    /// The first of each.
    fn of(peers: &[Value]) -> Self {
        let mut keys = Self { usual: HashMap::with_capacity(peers.len()), others: HashMap::new() };
        for (at, text) in peers.iter().enumerate().filter_map(|(at, entry)| Some((at, key_of(entry)?))) {
            match STANDARD.decode(text) {
                Ok(bytes) if bytes.len() == 32 => drop(keys.usual.entry(bytes).or_insert(at)),
                _ => drop(text.parse().map(|key| keys.others.entry(key).or_insert(at))),
            }
        }
        keys
    }

    fn get(&self, key: &PeerKey) -> Option<usize> {
        self.usual.get(key.as_bytes().as_slice()).or_else(|| self.others.get(key)).copied()
    }
}

fn key_of(entry: &Value) -> Option<&str> {
    entry.get("public_key").and_then(Value::as_str)
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

    /// What becomes of the order where this is the member's entry, and what the entry is afterwards.
    fn apply(&self, was: Option<&Mapping>) -> Result<(Effect, Option<Mapping>), EditError> {
        match (self, was) {
            (Self::Remove(key), None) => Err(EditError::Unknown(*key)),
            (Self::Remove(_), Some(_)) => Ok((Effect::Removed, None)),
            (Self::Set(entry), None) => Ok((Effect::Added, Some(entry.to_yaml()))),
            (Self::Set(entry), Some(was)) => {
                let mut is = was.clone();
                if let Some(wanted) = &entry.addresses
                    && addresses(was) != Some(texts(wanted))
                {
                    is.insert("addresses".into(), texts(wanted).into());
                }
                if let Some(name) = &entry.name {
                    is.insert("name".into(), name.as_str().into());
                }
                let effect = if is == *was { Effect::Unchanged } else { Effect::Changed };
                Ok((effect, Some(is)))
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
mod long_tests;
#[cfg(test)]
mod tests;
