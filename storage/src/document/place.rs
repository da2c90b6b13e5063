//! Line and column of a key, looked up once something is wrong about it.

use reload::Problem;
use yamlpath::{Component, Route};

use super::walk::{self, Part};

/// The most lookups in one document: one costs up to 4 ms among 10,000 peers.
const MAX_LOOKUPS: usize = 100;

/// The largest text that is indexed: ten times 10,000 peers. Beyond it problems have a path and no line.
const MAX_TEXT: usize = 12 * 1024 * 1024;

/// The most bytes that are parsed again for what the index does not know: about a second.
const MAX_WALKED: usize = 16 * 1024 * 1024;

/// Which part of `key: value` a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// What is written there.
    Value,
    /// The name itself.
    Key,
    /// Something that should stand there and does not.
    Missing,
}

/// The places of one text.
pub struct Places<'t> {
    text: &'t str,
    document: Option<yamlpath::Document>,
    left: usize,
    walked: usize,
}

/// Adds line and column to problems that name a path in this text and have no line yet: for problems that are found after
/// decoding, such as a component's refusal of `network.addresses[1]`.
pub fn locate(text: &str, problems: &mut [Problem]) {
    if problems.iter().any(|problem| problem.path.is_some() && problem.line.is_none()) {
        let mut places = Places::new(text);
        for problem in problems.iter_mut().filter(|problem| problem.line.is_none()) {
            places.locate(problem, Spot::Value);
        }
    }
}

/// Puts problems in the order of the file; those without a line keep their order at the end.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column.unwrap_or(u32::MAX)));
}

// === impl Places ===

impl<'t> Places<'t> {
    /// Indexes the text.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let indexed = text.len() <= MAX_TEXT && !has_old_line_ends(text);
        let document = indexed.then(|| yamlpath::Document::new(text).ok()).flatten();
        Self { text, document, left: MAX_LOOKUPS, walked: 0 }
    }

    /// Adds line and column to a problem, from its path. What is not in the text (a default, a merged or missing key) has
    /// the place of the nearest thing around it.
    pub fn locate(&mut self, problem: &mut Problem, spot: Spot) {
        let Some(path) = problem.path.as_ref().filter(|_| self.text.len() <= MAX_TEXT) else { return };
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        let mut route: Vec<Component<'static>> = segments(path);
        let mut spot = spot;
        let (line, column) = loop {
            if route.is_empty() {
                break (1, 1);
            }
            if let Some(place) = self.indexed(&route, spot).or_else(|| self.walked(&route, spot)) {
                break place;
            }
            let last = route.pop();
            // In a list there is no key to point at: the item itself is the nearest thing around.
            spot = if matches!(last, Some(Component::Key(_)))
                && matches!(route.last(), Some(Component::Index(_)))
            {
                Spot::Value
            } else {
                Spot::Key
            };
        };
        problem.line = u32::try_from(line).ok();
        problem.column = u32::try_from(column).ok();
    }

    fn indexed(&self, route: &[Component<'static>], spot: Spot) -> Option<(usize, usize)> {
        let document = self.document.as_ref()?;
        let route = Route::from(route.to_vec());
        let value = match spot {
            Spot::Value => document.query_exact(&route).ok().flatten(),
            Spot::Key | Spot::Missing => None,
        };
        let found = value.or_else(|| document.query_key_only(&route).ok())?;
        let (row, bytes) = found.location.point_span.0;
        // The index counts bytes; people and editors count characters.
        let line = self.text.split('\n').nth(row).unwrap_or_default();
        Some((row + 1, line.char_indices().take_while(|(at, _)| *at < bytes).count() + 1))
    }

    /// Slower, and sees what the parser sees.
    fn walked(&mut self, route: &[Component<'static>], spot: Spot) -> Option<(usize, usize)> {
        let part = match (spot, route.last()?) {
            (Spot::Value, _) | (Spot::Key, Component::Index(_)) => Part::Value,
            (Spot::Key, Component::Key(_)) => Part::Key,
            (Spot::Missing, _) => return None,
        };
        self.walked = self.walked.saturating_add(self.text.len());
        (self.walked <= MAX_WALKED).then(|| walk::find(self.text, route, part)).flatten()
    }
}

/// Whether the parser sees line ends that the index does not: those of YAML 1.1 that 1.2 has given up, and a lone return.
fn has_old_line_ends(text: &str) -> bool {
    text.contains(['\u{85}', '\u{2028}', '\u{2029}'])
        || text.bytes().zip(text.bytes().skip(1).chain([0])).any(|pair| pair.0 == b'\r' && pair.1 != b'\n')
}

impl std::fmt::Debug for Places<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Places").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Whether a key stands in a path as it is; any other is written `["…"]`.
pub(super) fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'/'))
}

/// The parts of a path as [`super::path::Path`] prints it: `a.b[2]["odd key"].c`.
fn segments(path: &str) -> Vec<Component<'static>> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('[').filter(|rest| rest.starts_with('"')) {
            let mut values = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            let Some(Ok(key)) = values.next() else { break };
            let after = values.byte_offset();
            segments.push(Component::Key(key.into()));
            rest = quoted.get(after + 1..).unwrap_or_default();
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some((index, after)) = index.split_once(']') else { break };
            let Ok(index) = index.parse::<usize>() else { break };
            segments.push(Component::Index(index));
            rest = after;
        } else {
            let from = rest.strip_prefix('.').unwrap_or(rest);
            let end = from.find(['.', '[']).unwrap_or(from.len());
            let (key, after) = from.split_at(end);
            segments.push(Component::Key(key.to_owned().into()));
            rest = after;
        }
    }
    segments
}
