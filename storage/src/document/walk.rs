//! The place of a value by the parser's own reckoning, for what [`super::trace`] does not see: what stands behind an alias,
//! and line ends that only YAML 1.1 has.
//!
//! The parser tells places of errors only. So the document is parsed once more, with a visitor that fails at the value.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::Segment;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The value; the key where there is nothing behind it.
    Value,
    /// The key.
    Key,
}

/// Line and column, from 1, of what stands at `route`; `None` if nothing does. Takes the time of a parse.
pub(super) fn find(text: &str, route: &[Segment], part: Part) -> Option<(usize, usize)> {
    let state = State::default();
    let error =
        Walk { route, part, state: &state }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    if !state.is_found.get() {
        return None;
    }
    if state.is_empty.get() && matches!(route.last(), Some(Segment::Key(_))) {
        return find(text, route, Part::Key);
    }
    Some(place(text, &error.location()?))
}

/// Line and column, from 1, as editors count them. The parser also ends lines where YAML 1.1 did (NEL, U+2028, U+2029).
pub(super) fn place(text: &str, location: &serde_yaml::Location) -> (usize, usize) {
    line_and_column(text, location.index())
}

/// Line and column, from 1, of a byte.
pub(super) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(at)).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[derive(Debug, Default)]
struct State {
    is_found: Cell<bool>,
    /// Nothing is written there.
    is_empty: Cell<bool>,
}

/// Goes down the route, and fails at its end.
#[derive(Clone, Copy)]
struct Walk<'w> {
    route: &'w [Segment],
    part: Part,
    state: &'w State,
}

impl Walk<'_> {
    fn stop<E: de::Error>(self) -> Result<(), E> {
        if self.route.is_empty() {
            self.state.is_found.set(true);
            return Err(E::custom("found"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.state.is_empty.set(true);
        self.stop()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.stop()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.stop()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<(), E> {
        self.stop()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.stop()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<(), E> {
        self.stop()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.stop()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.stop()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.stop()?;
        let mut left = match self.route.first() {
            Some(Segment::Item(index)) => Some(*index),
            _ => None,
        };
        loop {
            let more = if left == Some(0) {
                items.next_element_seed(Walk { route: self.route.get(1..).unwrap_or_default(), ..self })?
            } else {
                items.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if more.is_none() {
                return Ok(());
            }
            left = left.and_then(|left| left.checked_sub(1));
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.stop()?;
        let (mut wanted, rest) = match self.route.split_first() {
            Some((Segment::Key(key), rest)) => (Some(key.as_str()), rest),
            _ => (None, self.route),
        };
        let ends_here = self.part == Part::Key && rest.is_empty();
        while let Some(is_it) = entries.next_key_seed(KeyMatch { wanted, ends_here, state: self.state })? {
            if is_it {
                // The first of several counts.
                wanted = None;
                entries.next_value_seed(Walk { route: rest, ..self })?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads a key and says whether it is the one; fails at it if the route ends there.
struct KeyMatch<'w> {
    wanted: Option<&'w str>,
    ends_here: bool,
    state: &'w State,
}

impl<'de> DeserializeSeed<'de> for KeyMatch<'_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyMatch<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        let is_it = self.wanted == Some(key);
        if is_it && self.ends_here {
            self.state.is_found.set(true);
            return Err(E::custom("found"));
        }
        Ok(is_it)
    }
}

#[cfg(test)]
mod tests {
    use Segment::{Item as Index, Key};

    use super::*;

    #[test]
    fn values_and_keys_are_found_where_the_parser_sees_them() {
        let text =
            "\u{e9}: {\"\\x61\": 1, b: [x, {c: y}]}\nlist:\n-\n- 1\nnone:\nalias: &a {k: v}\nsame: *a\n";
        for (route, value, key) in [
            (vec![Key("é".into())], Some((1, 4)), Some((1, 1))),
            (vec![Key("é".into()), Key("a".into())], Some((1, 13)), Some((1, 5))),
            (vec![Key("é".into()), Key("b".into()), Index(1), Key("c".into())], Some((1, 27)), Some((1, 24))),
            (vec![Key("list".into()), Index(0)], Some((3, 2)), None),
            (vec![Key("list".into()), Index(1)], Some((4, 3)), None),
            (vec![Key("list".into()), Index(2)], None, None),
            (vec![Key("none".into())], Some((5, 1)), Some((5, 1))),
            (vec![Key("none".into()), Key("a".into())], None, None),
            (vec![Key("same".into()), Key("k".into())], Some((6, 15)), Some((6, 12))),
            (vec![Key("list".into()), Key("a".into())], None, None),
        ] {
            assert_eq!(find(text, &route, Part::Value), value, "{route:?}");
            if !matches!(route.last(), Some(Index(_))) {
                assert_eq!(find(text, &route, Part::Key), key, "{route:?}");
            }
        }
    }
}
