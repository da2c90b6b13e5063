//! The entries of a list in blocks, found line by line, and the part of a file that an order is about.
//!
//! A syntax tree of a whole file takes a hundred times as long as a look at its lines, and cannot count more than 32,767 of those. So a
//! tree is made of an [`Excerpt`]: what stands before and after the list, and a few of its entries. Nothing here knows YAML well
//! enough to be believed: whoever edits by an excerpt compares afterwards what the whole file said with what it says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::MAX_LINES;
use super::places::Edit;

/// Where the entries stand: each from its dash's line to the next one's.
#[derive(Debug)]
pub(super) struct Items {
    /// The begin of each, in bytes, and the end of the last.
    bounds: Vec<usize>,
}

/// A few entries of a file with all that is no entry, as a text of its own.
#[derive(Debug)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pieces: Vec<Piece>,
    /// The places of the entries that are in it, by their places in the whole list.
    places: BTreeMap<usize, usize>,
}

/// Bytes that follow one another in the whole as in the excerpt.
#[derive(Debug)]
struct Piece {
    /// Where it begins in the excerpt.
    at: usize,
    /// Where it begins in the whole.
    from: usize,
    length: usize,
}

// === impl Items ===

impl Items {
    /// Looks for `peers:` and for the dashes below it. `None` if there is no such list.
    pub(super) fn scan(text: &str) -> Option<Self> {
        let mut bounds = Vec::new();
        let (mut at, mut is_inside, mut dash) = (0_usize, false, None);
        for line in text.split_inclusive('\n') {
            let (begin, content) = (at, line.trim_end());
            at += line.len();
            let words = content.trim_start_matches(' ');
            let indent = content.len() - words.len();
            if !is_inside {
                is_inside = content.strip_prefix("peers:").is_some_and(is_blank);
                continue;
            }
            if is_blank(words) {
                continue;
            }
            let is_item = words == "-" || words.starts_with("- ");
            match dash {
                None if is_item => dash = Some(indent),
                None => return None,
                Some(dash) if indent > dash => continue,
                Some(dash) if indent == dash && is_item => {}
                Some(_) => {
                    bounds.push(begin);
                    return Some(Self { bounds });
                }
            }
            bounds.push(begin);
        }
        dash?;
        bounds.push(text.len());
        Some(Self { bounds })
    }

    pub(super) fn count(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// The lines of an entry, and the comments below it.
    pub(super) fn lines<'t>(&self, text: &'t str, index: usize) -> Option<&'t str> {
        text.get(*self.bounds.get(index)?..*self.bounds.get(index + 1)?)
    }

    /// How many lines those are.
    pub(super) fn length(&self, text: &str, index: usize) -> Option<usize> {
        self.lines(text, index).map(|lines| lines.lines().count())
    }

    /// The entries by their keys; `None` unless each has its own, in base64 on one line.
    pub(super) fn keys(&self, text: &str) -> Option<HashMap<[u8; 32], usize>> {
        let mut keys = HashMap::with_capacity(self.count());
        for index in 0..self.count() {
            let key = self.lines(text, index)?.lines().find_map(key)?;
            if keys.insert(key, index).is_some() {
                return None;
            }
        }
        Some(keys)
    }
}

/// Nothing, or a comment.
fn is_blank(text: &str) -> bool {
    text.is_empty() || text.starts_with('#') || (text.starts_with(' ') && is_blank(text.trim_start()))
}

/// The key on this line, if it is the line of one.
fn key(line: &str) -> Option<[u8; 32]> {
    let words = line.trim_start_matches(' ');
    let value = words.strip_prefix("- ").unwrap_or(words).trim_start().strip_prefix("public_key: ")?;
    let value = value.split(" #").next()?.trim();
    let value = value.trim_matches(['"', '\'']);
    STANDARD.decode(value).ok()?.try_into().ok()
}

// === impl Excerpt ===

impl Excerpt {
    /// Of these entries. `None` if it has too many lines all the same.
    pub(super) fn of(whole: &str, items: &Items, which: &BTreeSet<usize>) -> Option<Self> {
        let mut excerpt = Self { text: String::new(), pieces: Vec::new(), places: BTreeMap::new() };
        let (first, last) = (*items.bounds.first()?, *items.bounds.last()?);
        excerpt.take(whole, 0, first)?;
        for (place, index) in which.iter().enumerate() {
            excerpt.take(whole, *items.bounds.get(*index)?, *items.bounds.get(index + 1)?)?;
            excerpt.places.insert(*index, place);
        }
        excerpt.take(whole, last, whole.len())?;
        excerpt.if_countable()
    }

    /// The file as it is, for lists of `count` entries in whatever style.
    pub(super) fn whole(whole: &str, count: usize) -> Option<Self> {
        let pieces = vec![Piece { at: 0, from: 0, length: whole.len() }];
        let places = (0..count).map(|index| (index, index)).collect();
        Self { text: whole.to_owned(), pieces, places }.if_countable()
    }

    fn if_countable(self) -> Option<Self> {
        (self.text.lines().count() <= MAX_LINES).then_some(self)
    }

    fn take(&mut self, whole: &str, from: usize, to: usize) -> Option<()> {
        let at = self.text.len();
        self.text.push_str(whole.get(from..to)?);
        match self.pieces.last_mut() {
            Some(last) if last.from + last.length == from => last.length += to - from,
            _ => self.pieces.push(Piece { at, from, length: to - from }),
        }
        Some(())
    }

    /// How many entries are in it.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Where an entry of the whole list stands in it.
    pub(super) fn place(&self, index: usize) -> Option<usize> {
        self.places.get(&index).copied()
    }

    /// The same edit of the whole; `None` if it is about bytes that are not side by side there.
    pub(super) fn in_whole(&self, edit: Edit) -> Option<Edit> {
        let ends_before = |piece: &Piece| piece.at + piece.length < edit.from;
        let first = self.pieces.partition_point(ends_before);
        // What is put between two pieces belongs to the first of them.
        let piece = self
            .pieces
            .iter()
            .skip(first)
            .take(2)
            .find(|piece| edit.from >= piece.at && edit.to <= piece.at + piece.length)?;
        let shift = |at: usize| at - piece.at + piece.from;
        Some(Edit { from: shift(edit.from), to: shift(edit.to), with: edit.with })
    }
}
