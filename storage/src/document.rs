//! A YAML document whose faults are all found at once, each with its place: what `conf.yaml` and `peers.yaml` are read by.
//!
//! Reading goes in layers (R6): bytes from a file of bounded size ([`source`]), a tree of bounded size ([`Document::parse`]),
//! typed values with everything that is wrong about them ([`Section`], [`Node`], collected in [`Findings`]). Lines and columns
//! are looked up afterwards, and only for what is wrong: a good file pays nothing for them.

mod disclose;
pub mod findings;
pub mod node;
mod parse;
pub mod path;
pub mod place;
pub mod section;
pub mod source;
mod trace;
pub mod units;
mod walk;

use reload::Problem;
use serde_yaml::Value;

pub use findings::Findings;
pub use node::Node;
pub(crate) use parse::MAX_NODES;
pub use section::Section;
pub use source::{FileBytes, ReadError};
pub use units::{ByteSize, Span};

/// The largest configuration file that is read (contract: a file over 16 MiB is refused).
pub const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What there is to say about a file whose judging was [given up](reload::abandon). Nobody reads it.
pub(crate) fn given_up(file: &str) -> Problem {
    Problem::new(reload::Class::System, "was not judged to the end: nobody waits for it any more").file(file)
}

/// A parsed file: a mapping, free of aliases, merge keys and tags.
#[derive(Debug)]
pub struct Document<'t> {
    file: &'t str,
    text: &'t str,
    root: Value,
    repeated: Vec<Problem>,
}

// === impl Document ===

impl<'t> Document<'t> {
    /// Parses the bytes of a file; `file` is its name in problems. A key that is repeated does not end the parse: the first
    /// one counts, and [`Document::problems`] tells of the others, so that the rest of the file is judged as well.
    ///
    /// # Errors
    /// If the bytes are no UTF-8 text with one YAML mapping of bounded size in it.
    pub fn parse(file: &'t str, bytes: &'t [u8]) -> Result<Self, Box<Problem>> {
        let text = source::text(file, bytes)?;
        let (root, repeated) = parse::tree(file, text)?;
        match root {
            Value::Mapping(_) => Ok(Self { file, text, root, repeated }),
            Value::Null => Err(Box::new(source::empty(file))),
            other => {
                let found = node::kind(&other);
                let problem =
                    Problem::new(reload::Class::Validation, format!("is {found}, not a mapping of keys"));
                let mut problem =
                    problem.file(file).hint("write `key: value` lines; `fednode init` writes an example");
                (problem.line, problem.column) = (Some(1), Some(1));
                Err(Box::new(problem))
            }
        }
    }

    /// Its name in problems.
    pub(crate) const fn file(&self) -> &'t str {
        self.file
    }

    /// The whole file as a section; what is wrong in it goes to `findings`.
    #[must_use]
    pub fn root<'n>(&'n self, findings: &'n Findings) -> Section<'n> {
        Section::root(findings, &self.root)
    }

    /// The text at a key of a section, unjudged; `None` if there is none.
    #[must_use]
    pub fn text_at(&self, section: &str, key: &str) -> Option<&str> {
        self.root.get(section)?.get(key)?.as_str()
    }

    /// The lines, from 1, of the values at these paths, for problems that name a second place. The first hundred or so: no more
    /// problems are told.
    pub(crate) fn lines<'p>(&self, paths: impl Iterator<Item = &'p str>) -> Vec<usize> {
        place::find(self.text, paths.map(|path| (path, place::Spot::Value)))
            .iter()
            .map(|(line, _)| *line)
            .collect()
    }

    /// What was found, errors and warnings apart, with file, line and column.
    #[must_use]
    pub fn problems(&self, findings: Findings) -> (Vec<Problem>, Vec<Problem>) {
        let (mut errors, mut warnings) = findings.located(self.file, self.text);
        errors.extend(self.repeated.iter().cloned());
        place::sort(&mut errors);
        let mut errors = reload::error::bounded(errors);
        for error in &mut errors {
            error.file.get_or_insert_with(|| self.file.to_owned());
        }
        place::sort(&mut warnings);
        (errors, warnings)
    }
}

#[cfg(test)]
mod tests;
