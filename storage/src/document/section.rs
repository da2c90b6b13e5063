//! A mapping whose keys are known.

use std::cell::RefCell;

use reload::Problem;
use serde_yaml::{Mapping, Value};

use super::disclose::{Separator, key_parts, shown_key};
use super::findings::Findings;
use super::node::Node;
use super::path::Path;
use super::place::Spot;

/// A mapping that is read key by key. Which keys there are is known from the reading itself: whoever asks for a key makes it
/// one, and [`Section::finish`] reports the rest.
#[derive(Debug)]
pub struct Section<'n> {
    findings: &'n Findings,
    path: Path<'n>,
    map: Option<&'n Mapping>,
    expected: bool,
    known: RefCell<Vec<&'static str>>,
    /// Unknown keys that were reported already.
    misspelt: RefCell<Vec<&'n str>>,
}

// === impl Section ===

impl<'n> Section<'n> {
    pub(super) const fn new(
        findings: &'n Findings,
        path: Path<'n>,
        map: Option<&'n Mapping>,
        expected: bool,
    ) -> Self {
        Self {
            findings,
            path,
            map,
            expected,
            known: RefCell::new(Vec::new()),
            misspelt: RefCell::new(Vec::new()),
        }
    }

    pub(super) fn root(findings: &'n Findings, value: &'n Value) -> Self {
        Self::new(findings, Path::Root, value.as_mapping(), true)
    }

    /// The value of a key, if there is one.
    pub fn key(&self, name: &'static str) -> Node<'_> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&name) {
            known.push(name);
        }
        let value = self.map.and_then(|map| map.get(name));
        Node::new(self.findings, Path::Key(&self.path, name), value, self.expected)
    }

    /// The value of a key that has to be there. In a file where unknown keys are warnings, a misspelt one would make it
    /// missing without a word on why: then that is the error.
    pub fn required_key(&self, name: &'static str, example: &str) -> Node<'_> {
        let node = self.key(name);
        if node.is_given() {
            return node;
        }
        let known = self.known.borrow();
        let mut keys = self.map.into_iter().flatten().filter_map(|(key, _)| key.as_str());
        let is_meant = |key: &&str| !known.contains(key) && nearest(key_parts(key).0, &[name]).is_some();
        // Each takes a comparison by letters; no file of ours has as many keys in one place.
        const LOOKED_AT: usize = 1_000;
        let Some(key) = keys.by_ref().take(LOOKED_AT).find(is_meant) else { return node.required(example) };
        self.misspelt.borrow_mut().push(key);
        let path = Path::Key(&self.path, key);
        self.findings.error_at(&path, unknown(&path, key, &[name]), Spot::Key);
        node
    }

    /// Whether the mapping is written at all.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.expected
    }

    /// Reports every key that nobody asked for: a misspelt key would otherwise be a default in disguise.
    pub fn finish(&self) {
        self.report_unknown(|path, problem| {
            if self.findings.has_enough_errors() {
                self.findings.count_error();
            } else {
                self.findings.error_at(path, problem(), Spot::Key);
            }
        });
    }

    /// [`Section::finish`] for files where other programs may keep keys of their own: unknown ones are warnings.
    pub fn finish_with_warnings(&self) {
        self.report_unknown(|path, problem| {
            if self.findings.has_enough_warnings() {
                self.findings.count_warning();
            } else {
                self.findings.warning_at(path, problem(), Spot::Key);
            }
        });
    }

    fn report_unknown(&self, report: impl Fn(&Path<'_>, &dyn Fn() -> Problem)) {
        let known = self.known.borrow();
        for key in self.map.into_iter().flatten().filter_map(|(key, _)| key.as_str()) {
            if !known.contains(&key) && !self.misspelt.borrow().contains(&key) {
                let path = Path::Key(&self.path, key);
                report(&path, &|| unknown(&path, key, &known));
            }
        }
    }
}

fn unknown(path: &Path<'_>, key: &str, known: &[&str]) -> Problem {
    Problem::at(path.shown(), format!("unknown key {:?}", shown_key(key))).hint(remedy(key, known))
}

/// What was probably meant by an unknown key.
fn remedy(key: &str, known: &[&str]) -> String {
    let (name, separator) = key_parts(key);
    let near = nearest(name, known);
    match (separator, near) {
        (Some(Separator::Colon), _) => {
            let name = near.map_or_else(|| shown_key(name), Into::into);
            format!("a space is missing after the colon: write `{name}: …`")
        }
        (Some(Separator::Other), Some(near)) => format!("write `{near}: …`, with a colon and a space"),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (_, None) => known_names("known here", known),
    }
}

/// The known name that was most likely meant, if one is near.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // The distance takes time by the product of the lengths; no key of ours is half as long.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let folded = name.to_lowercase().replace('-', "_");
    let distance = |candidate: &str| strsim::damerau_levenshtein(&folded, &candidate.to_lowercase());
    known
        .iter()
        .map(|candidate| (distance(candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, candidate)| candidate)
        .or_else(|| part_of(&folded, known))
}

/// A name that is a part of exactly one known name, or the other way round: `timeout` for `connection_timeout`.
fn part_of<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    const SHORTEST: usize = 4;
    let shares = |candidate: &&str| {
        name.len() >= SHORTEST
            && candidate.len() >= SHORTEST
            && (candidate.contains(name) || name.contains(*candidate))
    };
    let mut found = known.iter().copied().filter(shares);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

pub(super) fn known_names(lead: &str, known: &[&str]) -> String {
    format!("{lead}: {}", known.join(", "))
}
