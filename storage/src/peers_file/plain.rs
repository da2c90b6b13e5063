//! `peers.yaml` in the shape in which people and programs write it in blocks, read line by line.
//!
//! A document is read here only if every line of it is of a form whose meaning in YAML is beyond doubt, and everything that
//! it says is right. Anything else (a key that is not known, an escape, an anchor, a text over two lines, a wrong address) is
//! left to the parser and to its errors: this reader has none. What both read they read alike, which is a property test;
//! this one takes a tenth of the time, and so a reload of a large federation costs little more than its disk.

use std::time::Duration;

use libp2p::Multiaddr;

use super::{Context, MAX_ADDRESSES, MAX_NAME, TIMEOUTS, key_of};
use crate::address::dialable;
use crate::document::{MAX_NODES, Span};
use crate::{Member, Members, PeerKey};

/// Below this size in bytes no text of this shape has as many values as the parser refuses.
pub(super) const MAX_UNCOUNTED: usize = 8 << 20;

/// Keys and values besides those of the entries: `version`, `peers` and the document itself.
const HEAD_NODES: usize = 5;

/// Reads the members, without the node's own entry. `None` says nothing about the text but that it is for the parser.
pub(super) fn members(text: &str, context: Context<'_>) -> Option<Members> {
    if !is_printed(text) {
        return None;
    }
    let mut lines = Lines(text);
    let first = first_entry(&mut lines)?;
    let mut nodes = HEAD_NODES;
    let read = read_entries(first, &mut lines, context, &mut nodes)?;
    if nodes > MAX_NODES {
        return None;
    }
    let count = read.len();
    let mut members: Members = read.into_iter().map(|member| (member.key, member)).collect();
    if members.len() != count {
        return None;
    }
    if let Some(own) = context.own {
        members.remove(own);
    }
    Some(members)
}

/// Reads a part of a text that begins with an entry and ends before one, or with the text.
pub(super) fn entries(text: &str, context: Context<'_>) -> Option<Vec<Member>> {
    if !is_printed(text) {
        return None;
    }
    let mut lines = Lines(text);
    let first = lines.next()?;
    read_entries(first, &mut lines, context, &mut 0)
}

/// How far the entries of a text are indented.
pub(super) fn indentation(text: &str) -> Option<usize> {
    first_entry(&mut Lines(text)).map(|line| line.indent)
}

/// What stands before the entries, and the first line of them.
fn first_entry<'t>(lines: &mut Lines<'t>) -> Option<Line<'t>> {
    let mut line = lines.next()?;
    if line.indent == 0 && after_key(line.text, "version") == Some("1") {
        line = lines.next()?;
    }
    let is_head = line.indent == 0 && after_key(line.text, "peers") == Some("");
    if is_head { lines.next() } else { None }
}

/// Reads entry after entry, and counts in `nodes` what the parser would.
fn read_entries<'t>(
    first: Line<'t>,
    lines: &mut Lines<'t>,
    context: Context<'_>,
    nodes: &mut usize,
) -> Option<Vec<Member>> {
    let dash = first.indent;
    let mut members = Vec::new();
    let mut next = Some(first);
    while let Some(line) = next {
        // The parser, whose turn is next, ends at once where nobody waits any more.
        if line.indent != dash || reload::abandon::is_asked() {
            return None;
        }
        let first = line.text.strip_prefix("- ")?;
        let (member, after) = entry(first, dash + 2, lines, context, nodes)?;
        next = after;
        members.push(member);
    }
    Some(members)
}

/// A line with something on it: how far it is indented, and its text without comment.
#[derive(Clone, Copy)]
struct Line<'t> {
    indent: usize,
    text: &'t str,
}

/// The lines, without those that are empty or only a comment.
struct Lines<'t>(&'t str);

/// One entry, whose first key stands on the line of its dash; with the first line after it.
fn entry<'t>(
    first: &'t str,
    indent: usize,
    lines: &mut Lines<'t>,
    context: Context<'_>,
    nodes: &mut usize,
) -> Option<(Member, Option<Line<'t>>)> {
    *nodes += 1;
    let (mut key, mut name, mut connection_timeout, mut max_retries) = (None, None, None, None);
    let mut addresses = None;
    let mut next = Some(Line { indent, text: first });
    while let Some(line) = next.filter(|line| line.indent == indent) {
        next = lines.next();
        // The key and its value.
        *nodes += 2;
        let (field, value) = line.text.split_once(':')?;
        let value = if value.is_empty() { value } else { value.strip_prefix(' ')?.trim_start() };
        let is_new = match field {
            "public_key" => key.replace(key_of(scalar(value, is_key)?, context.known).ok()?).is_none(),
            "addresses" if value.is_empty() => addresses.replace(block(&mut next, indent, lines)?).is_none(),
            "addresses" => addresses.replace(flow(value)?).is_none(),
            "name" => name
                .replace(scalar(value, is_name).filter(|name| name.chars().count() <= MAX_NAME)?)
                .is_none(),
            "connection_timeout" => connection_timeout.replace(timeout(value)?).is_none(),
            "max_retries" => max_retries.replace(retries(value)?).is_none(),
            _ => false,
        };
        if !is_new {
            return None;
        }
    }
    *nodes += addresses.as_ref().map_or(0, Vec::len);
    let key = key?;
    let member = Member {
        key,
        addresses: dialled(&addresses.unwrap_or_default(), &key)?,
        name: name.map(str::to_owned),
        connection_timeout,
        max_retries,
    };
    Some((member, next))
}

/// `- one` on each line, at the key's own indentation or deeper; `next` is the line that stands there, and the first after it.
fn block<'t>(next: &mut Option<Line<'t>>, least: usize, lines: &mut Lines<'t>) -> Option<Vec<&'t str>> {
    let mut items = Vec::new();
    let Some(indent) = next.map(|line| line.indent).filter(|indent| *indent >= least) else {
        return Some(items);
    };
    while let Some(item) =
        next.filter(|line| line.indent == indent).and_then(|line| line.text.strip_prefix("- "))
    {
        items.push(scalar(item.trim_start(), is_address)?);
        *next = lines.next();
    }
    Some(items)
}

/// `[one, two]` on one line.
fn flow(value: &str) -> Option<Vec<&str>> {
    let inside = value.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inside.is_empty() {
        return Some(Vec::new());
    }
    // No address has a comma or a bracket in it, and neither has what is taken for one here.
    inside.split(',').map(|item| scalar(item.trim(), is_address)).collect()
}

fn dialled(texts: &[&str], key: &PeerKey) -> Option<Vec<Multiaddr>> {
    let mut addresses = Vec::with_capacity(texts.len());
    for text in texts {
        let address = dialable(text, Some(key)).ok()?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (addresses.len() <= MAX_ADDRESSES).then_some(addresses)
}

fn timeout(value: &str) -> Option<Duration> {
    let Span(timeout) =
        scalar(value, |text| text.bytes().all(|b| b.is_ascii_alphanumeric()))?.parse().ok()?;
    (TIMEOUTS.0..=TIMEOUTS.1).contains(&timeout).then_some(timeout)
}

/// A whole number; one with zeros before it is a text (YAML 1.2).
fn retries(value: &str) -> Option<u32> {
    let is_number =
        value.bytes().all(|b| b.is_ascii_digit()) && (value.len() == 1 || !value.starts_with('0'));
    if is_number { value.parse().ok() } else { None }
}

/// A text in quotes, or one without that is of a form which is a text and nothing else.
fn scalar(text: &str, is_plain: impl Fn(&str) -> bool) -> Option<&str> {
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            // Neither the other end of another text, nor an escape, nor what only a comment could explain.
            return rest.strip_suffix(quote).filter(|inside| !inside.contains([quote, '\\', '#']));
        }
    }
    is_plain(text).then_some(text)
}

/// Base64 that ends in `=` is no number.
fn is_key(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    digits.len() < text.len() && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
}

/// What begins with a slash is no number; a colon at the end would make it a key.
fn is_address(text: &str) -> bool {
    text.starts_with('/')
        && !text.ends_with(':')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.:-_".contains(&b))
}

/// Words, of which the first begins with a letter, unless they mean something else.
fn is_name(text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || " .-_".contains(c);
    let means_more = ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_word) && !means_more
}

/// The value of a key that is written on its line.
fn after_key<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let value = text.strip_prefix(key)?.strip_prefix(':')?;
    if value.is_empty() { Some(value) } else { value.strip_prefix(' ').map(str::trim_start) }
}

/// Visible characters of which none ends a line or means anything else than itself: what is not ASCII is a letter or a digit.
fn is_printed(text: &str) -> bool {
    // Without a way out in the middle, so that many bytes are looked at together.
    let is_ascii = |some: &[u8]| some.iter().fold(true, |all, b| all & matches!(b, b' '..=b'~' | b'\n'));
    text.as_bytes().chunks(256).all(is_ascii)
        || text.chars().all(|c| matches!(c, ' '..='~' | '\n') || (!c.is_ascii() && c.is_alphanumeric()))
}

// === impl Lines ===

impl<'t> Iterator for Lines<'t> {
    type Item = Line<'t>;

    fn next(&mut self) -> Option<Line<'t>> {
        while !self.0.is_empty() {
            let (line, rest) = self.0.split_once('\n').unwrap_or((self.0, ""));
            self.0 = rest;
            let text = line.trim_start_matches(' ');
            let indent = line.len() - text.len();
            // A comment begins after a space. One that begins in a text is a quote that does not end, and refused as that.
            let text = match text.contains('#') {
                true if text.starts_with('#') => "",
                true => text.split_once(" #").map_or(text, |(text, _)| text),
                false => text,
            };
            let text = text.trim_end_matches(' ');
            if !text.is_empty() {
                return Some(Line { indent, text });
            }
        }
        None
    }
}
