//! Where a value stands in a document.

use std::fmt;

use super::disclose::shown_key;
use super::place::is_plain;

/// Where a value stands. Borrowed from the frames of the decoder, so that a good document costs no allocation for it.
/// Prints as `network.addresses[1]`.
#[derive(Clone, Copy, Debug)]
pub enum Path<'p> {
    /// The whole document.
    Root,
    /// A key of a mapping.
    Key(&'p Path<'p>, &'p str),
    /// An item of a list, from 0.
    Item(&'p Path<'p>, usize),
}

/// One step of a path that was taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// A key of a mapping.
    Key(String),
    /// An item of a list, from 0.
    Item(usize),
}

// === impl Path ===

impl Path<'_> {
    /// As it is shown in a problem: of a key that somebody else has named only as much as cannot give a secret away.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = String::new();
        // A `String` takes every write.
        let _ = self.write(&mut text, true);
        text
    }

    fn write(&self, out: &mut dyn fmt::Write, is_shown: bool) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => {
                parent.write(out, is_shown)?;
                let key = if is_shown { shown_key(key) } else { (*key).into() };
                let (plain, end) = key.strip_suffix('…').map_or((&*key, ""), |beginning| (beginning, "…"));
                if is_plain(plain) {
                    let dot = if matches!(parent, Self::Root) { "" } else { "." };
                    write!(out, "{dot}{plain}{end}")
                } else {
                    write!(out, "[{}]", serde_json::Value::from(&*key))
                }
            }
            Self::Item(parent, index) => {
                parent.write(out, is_shown)?;
                write!(out, "[{index}]")
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}
