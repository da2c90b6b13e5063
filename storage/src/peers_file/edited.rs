//! `peers.yaml` after an edit: the entries around what differs are read, the others are members already. What a large
//! federation pays for one changed address is to compare two texts.

use super::{Context, plain};
use crate::{Member, Members};

/// So many bytes are compared at once.
const PIECE: usize = 4096;

/// Reads the members of a text from those of the one before; `None` if they have too little in common, or the text is for
/// another reader. What is returned is what [`plain::members`] returns, which is a property test.
pub(super) fn members(text: &str, context: Context<'_>) -> Option<Members> {
    let (before, known) = (context.plain_text?, context.known?);
    let marker = format!("\n{}- ", " ".repeat(plain::indentation(before)?));
    let same = alike_from_start(text.as_bytes(), before.as_bytes());
    // What is the same from both sides (one entry of two that are alike is removed) counts once.
    let left = text.len().min(before.len()) - same;
    let same_end = alike_from_end(text.as_bytes(), before.as_bytes()).min(left);

    // From the last entry that begins in what is the same before the difference, to the first that begins after it.
    let begin = text.get(..floor(text, same))?.rfind(&marker)? + 1;
    let rest = ceil(text, text.len() - same_end);
    let end = text.get(rest..)?.find(&marker).map_or(text.len(), |at| rest + at + 1);
    let old_end = before.len() - (text.len() - end);
    let (old, new) = (before.get(begin..old_end)?, text.get(begin..end)?);
    if old.len().max(new.len()) > text.len() / 2 || text.len() > plain::MAX_UNCOUNTED {
        return None;
    }

    let mut members = known.clone();
    for Member { key, .. } in plain::entries(old, context)? {
        // The node's own entry is no member, so that nobody could tell if it stood twice.
        members.remove(&key)?;
    }
    for member in plain::entries(new, context)? {
        if context.own == Some(&member.key) || members.insert(member.key, member).is_some() {
            return None;
        }
    }
    Some(members)
}

/// How many bytes are the same at the beginning.
fn alike_from_start(one: &[u8], other: &[u8]) -> usize {
    let pieces = one.chunks(PIECE).zip(other.chunks(PIECE)).take_while(|(one, other)| one == other);
    let same = pieces.map(|(piece, _)| piece.len()).sum::<usize>();
    let rest = one.iter().skip(same).zip(other.iter().skip(same));
    same + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes are the same at the end.
fn alike_from_end(one: &[u8], other: &[u8]) -> usize {
    let pieces = one.rchunks(PIECE).zip(other.rchunks(PIECE)).take_while(|(one, other)| one == other);
    let same = pieces.map(|(piece, _)| piece.len()).sum::<usize>();
    let rest = one.iter().rev().skip(same).zip(other.iter().rev().skip(same));
    same + rest.take_while(|(one, other)| one == other).count()
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}
