//! Orders carried out on a file of the usual shape, with what was read of it: the members are known, so that of the old text only
//! the entries which an order names are looked at, and the new one is read as a reload will read it.

use std::collections::BTreeSet;

use serde_yaml::Mapping;

use super::carry::{Task, carried_out};
use super::items::Items;
use super::{EditError, Effect, Entry, Order};
use crate::peers_file::{Context, plain};
use crate::{Member, Members, address};

/// Carries orders out on a text whose members are `members`. `None` says nothing about the text but that it is for
/// [`general`](super::general).
///
/// # Errors
/// If a member is to be removed that is not there.
pub(super) fn edit(
    body: &str,
    members: &Members,
    orders: &[Order],
    context: Context<'_>,
) -> Option<Result<(String, Vec<Effect>), EditError>> {
    let items = Items::scan(body)?;
    let keys = items.keys(body)?;
    let mut wanted = members.clone();
    let mut tasks = Vec::with_capacity(orders.len());
    for order in orders {
        let at = keys.get(order.key().as_bytes()).copied();
        // The node's own entry is in the file, and no member.
        if at.is_some() != members.contains_key(order.key()) {
            return None;
        }
        let was = match at {
            Some(at) => Some((at, entry(items.lines(body, at)?)?)),
            None => None,
        };
        let effect = match order.apply(was.as_ref().map(|(_, entry)| entry)) {
            Ok((effect, _)) => effect,
            Err(error) => return Some(Err(error)),
        };
        match order {
            Order::Remove(key) => drop(wanted.remove(key)),
            Order::Set(entry) => {
                let member = member(members.get(&entry.key), entry)?;
                wanted.insert(entry.key, member);
            }
        }
        tasks.push(Task { order, effect, was });
    }
    let text = carried_out(body, Some(&items), items.count(), &tasks).ok()?;
    let context = Context { known: Some(members), plain_text: None, ..context };
    if plain::members(&text, context)? != wanted {
        return None;
    }
    Some(Ok((text, tasks.iter().map(|task| task.effect).collect())))
}

/// What the lines of one entry say.
fn entry(lines: &str) -> Option<Mapping> {
    let [entry]: [Mapping; 1] = serde_yaml::from_str(lines).ok()?;
    Some(entry)
}

/// What a member is after an order; `None` for one that would be refused, in whose words is for the general way to say.
fn member(was: Option<&Member>, entry: &Entry) -> Option<Member> {
    let mut member = was.cloned().unwrap_or_else(|| Member {
        key: entry.key,
        addresses: Vec::new(),
        name: None,
        connection_timeout: None,
        max_retries: None,
    });
    if let Some(texts) = &entry.addresses {
        let mut seen = BTreeSet::new();
        let read = texts.iter().map(|text| address::dialable(text, Some(&entry.key)));
        let read = read.collect::<Result<Vec<_>, _>>().ok()?;
        member.addresses = read.into_iter().filter(|address| seen.insert(address.to_vec())).collect();
    }
    if let Some(name) = &entry.name {
        member.name = Some(name.clone());
    }
    Some(member)
}
