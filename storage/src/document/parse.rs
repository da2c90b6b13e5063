//! From text to a tree, with bounds that hold whatever the aliases do.
//!
//! `serde_yaml` bounds how often aliases are followed, by the number of events; it does not bound what they copy. A document of
//! some kilobytes can so ask for gigabytes. This visitor counts what it builds, and refuses repeated keys on the way.

use std::cell::{Cell, RefCell};
use std::fmt;

use reload::{Class, Problem};
use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Mapping, Value};

use words::{is_repetition, problem, too_deep};

mod words;

/// The most values of one document. 10,000 peers with everything written out have about 200,000.
pub(crate) const MAX_NODES: usize = 1_000_000;

/// The most bytes of text in one document once its aliases are followed: four times the largest file.
const MAX_TEXT: usize = 4 * 16 * 1024 * 1024;

/// The deepest nesting. Ours has six levels; the parser's work grows with the square of the depth.
const MAX_DEPTH: usize = 64;

/// The most repeated keys that are reported one by one; each costs a parse.
const MAX_REPEATED: usize = 20;

/// The most bytes that are parsed for repeated keys alone: a few tenths of a second.
const MAX_REPARSED: usize = 4 * 1024 * 1024;

/// Parses one document. Returns its tree, with the first of repeated keys, and a problem for each of the others.
pub(super) fn tree(file: &str, text: &str) -> Result<(Value, Vec<Problem>), Box<Problem>> {
    let mut repeated = Vec::new();
    if let Some(problem) = too_deep(text) {
        return Err(Box::new(problem.file(file)));
    }
    loop {
        // The parser tells places only of errors: so each repeated key ends one parse, and is passed over in the next.
        let state = State { pass_over: Cell::new(repeated.len()), ..State::default() };
        match parse(file, text, &state) {
            Ok(tree) => return Ok((tree, repeated)),
            Err(problem) => {
                if !matches!(*state.refusal.borrow(), Some(Refusal::Repeated(_))) {
                    return Err(problem);
                }
                repeated.push(*problem);
                if repeated.len() == MAX_REPEATED || repeated.len() * text.len() > MAX_REPARSED {
                    return uncounted(file, text, repeated);
                }
            }
        }
    }
}

/// The tree where there are too many repeated keys to be told one by one: the others are only counted.
fn uncounted(file: &str, text: &str, mut told: Vec<Problem>) -> Result<(Value, Vec<Problem>), Box<Problem>> {
    let state = State { pass_over: Cell::new(usize::MAX), ..State::default() };
    let tree = parse(file, text, &state)?;
    let more = (usize::MAX - state.pass_over.get()).saturating_sub(told.len());
    if more > 0 {
        told.push(Problem::rest(more).file(file));
    }
    Ok((tree, told))
}

fn parse(file: &str, text: &str, state: &State) -> Result<Value, Box<Problem>> {
    let pass_over = state.pass_over.get();
    let mut tree = Seed(state).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let place = error.location().or_else(|| repetition(text, &error, state, pass_over));
        problem(file, text, &error, place, state)
    })?;
    if state.merges.get() {
        tree.apply_merge().map_err(|error| {
            Problem::new(Class::Validation, format!("a merge key `<<` cannot be applied: {error}"))
                .file(file)
                .hint("`<<` takes an alias of a mapping, or a list of such aliases")
        })?;
    }
    Ok(tree)
}

/// What one parse has built so far, and why it was refused.
struct State {
    nodes: Cell<usize>,
    max_nodes: usize,
    text: Cell<usize>,
    depth: Cell<usize>,
    merges: Cell<bool>,
    pass_over: Cell<usize>,
    refusal: RefCell<Option<Refusal>>,
}

enum Refusal {
    Repeated(String),
    Key(&'static str),
    Tag,
    Size,
    Depth,
    GivenUp,
}

impl Default for State {
    fn default() -> Self {
        Self {
            nodes: Cell::new(0),
            max_nodes: MAX_NODES,
            text: Cell::new(0),
            depth: Cell::new(0),
            merges: Cell::new(false),
            pass_over: Cell::new(0),
            refusal: RefCell::new(None),
        }
    }
}

impl State {
    fn refuse<E: de::Error>(&self, refusal: Refusal) -> E {
        *self.refusal.borrow_mut() = Some(refusal);
        E::custom("refused")
    }

    fn count<E: de::Error>(&self, text: usize) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        self.text.set(self.text.get().saturating_add(text));
        if self.nodes.get() > self.max_nodes || self.text.get() > MAX_TEXT {
            return Err(self.refuse(Refusal::Size));
        }
        if reload::abandon::is_asked() {
            return Err(self.refuse(Refusal::GivenUp));
        }
        Ok(())
    }

    fn deeper<E: de::Error>(&self) -> Result<(), E> {
        self.depth.set(self.depth.get() + 1);
        if self.depth.get() > MAX_DEPTH { Err(self.refuse(Refusal::Depth)) } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
struct Seed<'s>(&'s State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.count(0)?;
        Ok(Value::Null)
    }

    /// A stream without a document.
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.count(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.count(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.count(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.count(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.count(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.count(0)?;
        self.0.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        self.0.depth.set(self.0.depth.get() - 1);
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.count(0)?;
        self.0.deeper()?;
        let mut map = Mapping::new();
        while let Some((key, first)) = entries.next_key_seed(KeySeed { state: self.0, map: &map })? {
            let value = entries.next_value_seed(self)?;
            if first {
                map.insert(Value::String(key), value);
            }
        }
        self.0.depth.set(self.0.depth.get() - 1);
        Ok(Value::Mapping(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.0.refuse(Refusal::Tag))
    }
}

/// Reads a key and says whether it is the first of its name.
struct KeySeed<'s> {
    state: &'s State,
    map: &'s Mapping,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = (String, bool);

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = (String, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        self.state.count(key.len())?;
        if key == "<<" {
            self.state.merges.set(true);
        }
        if !self.map.contains_key(key) {
            return Ok((key.to_owned(), true));
        }
        match self.state.pass_over.get().checked_sub(1) {
            Some(left) => {
                self.state.pass_over.set(left);
                Ok((key.to_owned(), false))
            }
            None => Err(self.state.refuse(Refusal::Repeated(key.to_owned()))),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Err(self.state.refuse(Refusal::Key("nothing")))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Err(self.state.refuse(Refusal::Key("a boolean")))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(self.state.refuse(Refusal::Key("a number")))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(self.state.refuse(Refusal::Key("a number")))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(self.state.refuse(Refusal::Key("a number")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(self.state.refuse(Refusal::Key("a list")))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(self.state.refuse(Refusal::Key("a mapping")))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(self.state.refuse(Refusal::Tag))
    }
}

/// Where aliases have been followed too often. The parser does not say; so it is stopped one value earlier, with an error
/// that has a place.
fn repetition(text: &str, error: &serde_yaml::Error, state: &State, pass_over: usize) -> Option<Location> {
    if !is_repetition(&error.to_string()) {
        return None;
    }
    let max_nodes = state.nodes.get().saturating_sub(1);
    let earlier = State { max_nodes, pass_over: Cell::new(pass_over), ..State::default() };
    Seed(&earlier).deserialize(serde_yaml::Deserializer::from_str(text)).err()?.location()
}
