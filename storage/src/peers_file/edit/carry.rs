//! Orders whose effects are known, carried out on a text: what changes and goes is found by trees of the entries that are named, what is new
//! comes last.

use std::collections::BTreeSet;

use serde_yaml::{Mapping, Value};

use super::items::{Excerpt, Items};
use super::places::{Places, applied};
use super::{EditError, Effect, Entry, Order, addresses, texts};

/// So many lines of entries are looked at by one tree: to find one in it takes the longer the more there are.
const AT_ONCE: usize = 500;

/// An order, what becomes of it, and the entry that is there with its place in the list.
pub(super) struct Task<'o> {
    pub(super) order: &'o Order,
    pub(super) effect: Effect,
    pub(super) was: Option<(usize, Mapping)>,
}

// === impl Task ===

impl Task<'_> {
    fn place(&self) -> Option<usize> {
        self.was.as_ref().map(|(at, _)| *at)
    }
}

/// The text with orders carried out in it, of which `items` are the entries if they are known.
pub(super) fn carried_out(
    body: &str,
    items: Option<&Items>,
    count: usize,
    tasks: &[Task<'_>],
) -> Result<String, EditError> {
    let old: Vec<&Task<'_>> =
        tasks.iter().filter(|task| matches!(task.effect, Effect::Changed | Effect::Removed)).collect();
    let removed: BTreeSet<usize> =
        old.iter().filter(|task| task.effect == Effect::Removed).filter_map(|task| task.place()).collect();
    // One that stays: a list without any is written in another way.
    let stays = (0..count).find(|at| !removed.contains(at));
    let at_once = items.map_or(usize::MAX, |items| {
        let lengths = old.iter().filter_map(|task| items.length(body, task.place()?));
        AT_ONCE / lengths.max().unwrap_or_default().max(1)
    });
    let mut edits = Vec::new();
    for (round, some) in old.chunks(at_once.max(1)).enumerate() {
        let named = some.iter().filter_map(|task| task.place());
        let excerpt = excerpt(body, items, count, named.chain(stays).collect())?;
        let mut places = Places::new(&excerpt.text).ok_or(EditError::NoPlace)?;
        let empties = stays.is_none() && round == 0;
        changed(&mut places, &excerpt, some, empties).ok_or(EditError::NoPlace)?;
        for edit in places.into_edits() {
            edits.push(excerpt.in_whole(edit).ok_or(EditError::NoPlace)?);
        }
    }
    let body = applied(body, edits).ok_or(EditError::NoPlace)?;
    // New entries come last, on a text that has the others' places no more.
    let new: Vec<&Entry> = tasks
        .iter()
        .filter(|task| task.effect == Effect::Added)
        .filter_map(|task| match task.order {
            Order::Set(entry) => Some(entry),
            Order::Remove(_) => None,
        })
        .collect();
    if new.is_empty() { Ok(body) } else { extended(&body, items.is_some(), &new, count - removed.len()) }
}

/// The part of the text that a tree is made of.
fn excerpt(
    body: &str,
    items: Option<&Items>,
    count: usize,
    which: BTreeSet<usize>,
) -> Result<Excerpt, EditError> {
    match items {
        Some(items) => Excerpt::of(body, items, &which),
        None => Excerpt::whole(body, count),
    }
    .ok_or(EditError::TooLong)
}

/// Gathers the edits that change and remove entries; `empties` the list, if nobody else does.
fn changed(places: &mut Places<'_>, excerpt: &Excerpt, tasks: &[&Task<'_>], empties: bool) -> Option<()> {
    let at = |task: &Task<'_>| excerpt.place(task.place()?);
    let removed: Option<Vec<usize>> =
        tasks.iter().filter(|task| task.effect == Effect::Removed).map(|task| at(task)).collect();
    places.remove_entries(&removed?, excerpt.count(), empties)?;
    for task in tasks {
        let (Order::Set(entry), Some((_, was))) = (task.order, &task.was) else { continue };
        let at = at(task)?;
        if let Some(wanted) = &entry.addresses
            && addresses(was) != Some(texts(wanted))
        {
            places.set_addresses(at, &addresses(was), wanted)?;
        }
        if let Some(name) = &entry.name
            && was.get("name").and_then(Value::as_str) != Some(name)
        {
            places.set_name(at, name)?;
        }
    }
    Some(())
}

/// The text with members added.
fn extended(body: &str, by_lines: bool, entries: &[&Entry], count: usize) -> Result<String, EditError> {
    // Without an entry there are no lines to go by, and few others.
    let items = if by_lines { Items::scan(body).filter(|items| items.count() == count) } else { None };
    let excerpt = excerpt(body, items.as_ref(), count, count.checked_sub(1).into_iter().collect())?;
    let mut places = Places::new(&excerpt.text).ok_or(EditError::NoPlace)?;
    places.add_entries(entries, excerpt.count()).ok_or(EditError::NoPlace)?;
    let edits = places.into_edits().into_iter().map(|edit| excerpt.in_whole(edit)).collect::<Option<_>>();
    edits.and_then(|edits| applied(body, edits)).ok_or(EditError::NoPlace)
}
