//! Line and column of a key, looked up once something is wrong about it.

use reload::Problem;

use super::path::Segment;
use super::trace::{Place, Trace};
use super::walk::{self, Part};

/// The most lookups in one pass: as many errors and warnings as are kept.
const MAX_LOOKUPS: usize = 2 * super::findings::MAX_FINDINGS;

/// The most bytes that are parsed again for what the trace does not see: a few tenths of a second.
const MAX_WALKED: usize = 2 * 1024 * 1024;

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

/// Where what is looked for stands in one text.
struct Places<'t> {
    text: &'t str,
    trace: Trace,
    /// Bytes that were parsed again so far.
    walked: usize,
}

/// Adds line and column to problems that name a path in this text and have no line yet: for problems that are found after
/// decoding, such as a component's refusal of `network.addresses[1]`.
pub fn locate(text: &str, problems: &mut [Problem]) {
    locate_at(text, problems.iter_mut().filter(|problem| problem.line.is_none()).map(|p| (p, Spot::Value)));
}

/// Adds line and column to problems, from their paths, in one pass over the text. What is not in it (a default, a merged or
/// missing key) has the place of the nearest thing around it.
pub(super) fn locate_at<'p>(text: &str, problems: impl Iterator<Item = (&'p mut Problem, Spot)>) {
    let mut problems: Vec<_> =
        problems.filter(|(problem, _)| problem.path.is_some()).take(MAX_LOOKUPS).collect();
    let sought = problems.iter().map(|(problem, spot)| (problem.path.as_deref().unwrap_or_default(), *spot));
    let places = find(text, sought);
    for ((problem, _), (line, column)) in problems.iter_mut().zip(places) {
        problem.line = u32::try_from(line).ok();
        problem.column = u32::try_from(column).ok();
    }
}

/// Puts problems in the order of the file; those without a line keep their order at the end.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column.unwrap_or(u32::MAX)));
}

/// Line and column, from 1, of each of the paths, at most [`MAX_LOOKUPS`].
pub(super) fn find<'p>(text: &str, sought: impl Iterator<Item = (&'p str, Spot)>) -> Vec<Place> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sought: Vec<_> = sought.take(MAX_LOOKUPS).map(|(path, spot)| (segments(path), spot)).collect();
    if sought.is_empty() {
        return Vec::new();
    }
    let mut trace = Trace::new();
    if !has_old_line_ends(text) {
        sought.iter().for_each(|(route, _)| trace.want(route));
        trace.run(text);
    }
    let mut places = Places { text, trace, walked: 0 };
    sought.into_iter().map(|(route, spot)| places.find(route, spot)).collect()
}

// === impl Places ===

impl Places<'_> {
    fn find(&mut self, mut route: Vec<Segment>, mut spot: Spot) -> Place {
        while !route.is_empty() {
            if let Some(place) = self.traced(&route, spot).or_else(|| self.walked(&route, spot)) {
                return place;
            }
            let last = route.pop();
            // In a list there is no key to point at: the item itself is the nearest thing around.
            spot = if matches!(last, Some(Segment::Key(_))) && matches!(route.last(), Some(Segment::Item(_)))
            {
                Spot::Value
            } else {
                Spot::Key
            };
        }
        (1, 1)
    }

    /// The value, or the key where nothing is written behind it.
    fn traced(&self, route: &[Segment], spot: Spot) -> Option<Place> {
        let value = self.trace.value(route).filter(|_| spot == Spot::Value || is_item(route));
        value.or_else(|| self.trace.key(route))
    }

    /// Slower, and sees what the parser sees.
    fn walked(&mut self, route: &[Segment], spot: Spot) -> Option<Place> {
        let part = match (spot, route.last()?) {
            (Spot::Value, _) | (Spot::Key, Segment::Item(_)) => Part::Value,
            (Spot::Key, Segment::Key(_)) => Part::Key,
            (Spot::Missing, _) => return None,
        };
        self.walked = self.walked.saturating_add(self.text.len());
        (self.walked <= MAX_WALKED).then(|| walk::find(self.text, route, part)).flatten()
    }
}

fn is_item(route: &[Segment]) -> bool {
    matches!(route.last(), Some(Segment::Item(_)))
}

/// Whether the parser sees line ends that the trace does not: those of YAML 1.1 that 1.2 has given up, and a lone return.
fn has_old_line_ends(text: &str) -> bool {
    text.contains(['\u{85}', '\u{2028}', '\u{2029}'])
        || text.bytes().zip(text.bytes().skip(1).chain([0])).any(|pair| pair.0 == b'\r' && pair.1 != b'\n')
}

/// Whether a key stands in a path as it is; any other is written `["…"]`.
pub(super) fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'/'))
}

/// The parts of a path as [`super::path::Path`] prints it: `a.b[2]["odd key"].c`.
pub(super) fn segments(path: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('[').filter(|rest| rest.starts_with('"')) {
            let mut values = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            let Some(Ok(key)) = values.next() else { break };
            let after = values.byte_offset();
            segments.push(Segment::Key(key));
            rest = quoted.get(after + 1..).unwrap_or_default();
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some((index, after)) = index.split_once(']') else { break };
            let Ok(index) = index.parse::<usize>() else { break };
            segments.push(Segment::Item(index));
            rest = after;
        } else {
            let from = rest.strip_prefix('.').unwrap_or(rest);
            let end = from.find(['.', '[']).unwrap_or(from.len());
            let (key, after) = from.split_at(end);
            segments.push(Segment::Key(key.to_owned()));
            rest = after;
        }
    }
    segments
}
