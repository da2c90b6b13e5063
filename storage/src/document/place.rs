//! Line and column of a key, looked up once something is wrong about it.

use reload::Problem;
use yamlpath::{Component, Route};

/// The most lookups in one document: one costs up to 4 ms among 10,000 peers.
const MAX_LOOKUPS: usize = 100;

/// The largest text that is indexed: ten times 10,000 peers. Beyond it problems have a path and no line.
const MAX_TEXT: usize = 12 * 1024 * 1024;

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
        let document = (text.len() <= MAX_TEXT).then(|| yamlpath::Document::new(text).ok()).flatten();
        Self { text, document, left: MAX_LOOKUPS }
    }

    /// Adds line and column to a problem, from its path. What is not in the text (a default, a merged or missing key) has
    /// the place of the nearest thing around it.
    pub fn locate(&mut self, problem: &mut Problem, spot: Spot) {
        let (Some(document), Some(path)) = (&self.document, &problem.path) else { return };
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        let mut route: Vec<Component<'static>> = segments(path);
        let mut spot = spot;
        let (row, column) = loop {
            if route.is_empty() {
                break (0, 0);
            }
            let here = Route::from(route.clone());
            let found = match spot {
                Spot::Value => document.query_exact(&here).ok().flatten(),
                Spot::Key | Spot::Missing => None,
            };
            let found = found.or_else(|| document.query_key_only(&here).ok());
            if let Some(feature) = found {
                break feature.location.point_span.0;
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
        problem.line = u32::try_from(row + 1).ok();
        problem.column = u32::try_from(self.characters(row, column) + 1).ok();
    }

    /// The index counts bytes; people and editors count characters.
    fn characters(&self, row: usize, bytes: usize) -> usize {
        let line = self.text.split('\n').nth(row).unwrap_or_default();
        line.char_indices().take_while(|(at, _)| *at < bytes).count()
    }
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

/// The parts of a path as [`super::node::Path`] prints it: `a.b[2]["odd key"].c`.
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
