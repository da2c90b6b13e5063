//! Every key that `conf.yaml` and `peers.yaml` may hold: its type, bounds, default and meaning, as values.
//!
//! The JSON Schema for editors ([`schema`]) and the reference for people ([`reference()`]) are both made of these tables, and a test
//! holds the tables against the decoder, key by key, so that none of the three can say something else than another. Which component a
//! key reaches, and how it changes, stands in the table of [`super::changes`].

pub mod reference;
pub mod schema;
mod table;

pub use reference::reference;
pub use schema::{conf_schema, peers_schema};
pub use table::{CONF, PEERS};

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands, as `protocol.services.expose[].name`: `[]` is each item of a list.
    pub path: &'static str,
    /// What is written there.
    pub kind: Kind,
    /// Whether it has to be.
    pub need: Need,
    /// What it is for; plain text, one or two sentences.
    pub doc: &'static str,
}

/// What is written at a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A mapping of the keys below it.
    Section,
    /// A list of mappings of the keys below it.
    Entries,
    /// A list of such values.
    List(&'static Self),
    /// A mapping with free keys of this form (a regular expression) to such values.
    Map(&'static str, &'static Self),
    /// A text that is not empty.
    Text,
    /// A text that may be empty.
    AnyText,
    /// The path of a file or folder.
    Path,
    /// A text of this form (a regular expression), and what to call it.
    Form(&'static str, &'static str),
    /// A whole number, from and to.
    Integer(u64, u64),
    /// A number, from and to.
    Number(f64, f64),
    /// `true` or `false`.
    Flag,
    /// A duration, from and to in milliseconds.
    Duration(u64, u64),
    /// A number of bytes, from and to.
    Size(u64, u64),
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// A text, a number, `true` or `false`, or a list of such.
    Plain,
}

/// Whether a key has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it the file is refused.
    Required,
    /// Without it, this counts: YAML as it stands in the file.
    Default(&'static str),
    /// It may be left out, or be `null`: then there is no such thing.
    Optional,
}

// === impl Key ===

impl Key {
    /// The key without those above it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the mapping that it stands in; empty at the top. Ends in `[]` within a list.
    #[must_use]
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The path that the keys below it have as their parent, if there are any.
    #[must_use]
    pub fn inner(&self) -> Option<String> {
        match self.kind {
            Kind::Section => Some(self.path.to_owned()),
            Kind::Entries => Some(format!("{}[]", self.path)),
            _ => None,
        }
    }
}

/// The keys of one mapping, in the contract's order.
pub fn below<'k>(keys: &'k [Key], parent: &str) -> impl Iterator<Item = &'k Key> {
    keys.iter().filter(move |key| key.parent() == parent)
}
