//! One value of a document, and the ways to take it as a type. Each way reports what is wrong and goes on.

use std::ops::RangeInclusive;
use std::time::Duration;

use reload::Problem;
use serde_yaml::Value;

use super::disclose;
use super::findings::Findings;
use super::path::Path;
use super::place::Spot;
use super::section::{Section, known_names, nearest};
use super::units::{ByteSize, Span, UnitError};

/// A value at its path; perhaps none.
#[derive(Clone, Copy, Debug)]
pub struct Node<'n> {
    findings: &'n Findings,
    path: Path<'n>,
    value: Option<&'n Value>,
    /// Whether the mapping around it is there: only then can a key be called missing.
    expected: bool,
    secret: bool,
}

// === impl Node ===

impl<'n> Node<'n> {
    pub(super) const fn new(
        findings: &'n Findings,
        path: Path<'n>,
        value: Option<&'n Value>,
        expected: bool,
    ) -> Self {
        Self { findings, path, value, expected, secret: false }
    }

    /// Its value is a secret, or holds one: never shown in a problem.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Nothing written (`key:` or `key: null`) is as good as no key.
    #[must_use]
    pub const fn nullable(mut self) -> Self {
        if matches!(self.value, Some(Value::Null)) {
            self.value = None;
        }
        self
    }

    /// It has to be there; `example` is what could be written.
    #[must_use]
    pub fn required(self, example: &str) -> Self {
        if self.value.is_none() && self.expected {
            if self.findings.has_enough_errors() {
                self.findings.count_error();
                return self;
            }
            let problem = self.problem("is missing", format!("write `{}`", self.line(example)));
            self.findings.error_at(&self.path, problem, Spot::Missing);
        }
        self
    }

    /// The value as it was parsed, for what none of the types below fits.
    #[must_use]
    pub const fn value(&self) -> Option<&'n Value> {
        self.value
    }

    /// Whether something is written there.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.value.is_some()
    }

    /// Where it stands.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// Reports what is wrong with the value.
    pub fn refuse(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.findings.error_at(&self.path, self.problem(message, hint), Spot::Value);
    }

    /// [`Node::refuse`] where there may be many like it: put into words only if it is going to be told.
    pub fn refuse_with<M: Into<String>, H: Into<String>>(&self, why: impl FnOnce() -> (M, H)) {
        if self.findings.has_enough_errors() {
            self.findings.count_error();
        } else {
            let (message, hint) = why();
            self.refuse(message, hint);
        }
    }

    /// Reports that the file which the value names cannot be read.
    pub fn refuse_file(&self, error: &super::ReadError) {
        let hint = error.problem("").hint.unwrap_or_default();
        let problem = self.problem(format!("the file {} {error}", self.shown_file()), hint);
        let problem = Problem { class: error.class(), ..problem };
        self.findings.error_at(&self.path, problem, Spot::Value);
    }

    /// Reports what is odd about the value.
    pub fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.findings.warning_at(&self.path, self.problem(message, hint), Spot::Value);
    }

    fn problem(&self, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::at(self.path.shown(), message).hint(hint)
    }

    /// The value as it is shown in problems: shortened, without what looks like a key, and only its kind where it is a
    /// secret.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.value {
            Some(value) if self.secret => kind(value).to_owned(),
            Some(value) => shown(value),
            None => "nothing".to_owned(),
        }
    }

    /// [`Node::shown`] for a text in whose place people put keys: nothing as long as a key is shown.
    #[must_use]
    pub fn shown_briefly(&self) -> String {
        match self.value {
            Some(Value::String(text)) if !self.secret && disclose::is_long(text) => {
                format!("{:?}", disclose::brief(text))
            }
            _ => self.shown(),
        }
    }

    /// [`Node::shown`] for the name of a file that holds a secret, in whose place people put the secret itself.
    #[must_use]
    pub fn shown_file(&self) -> String {
        match self.value {
            Some(Value::String(text)) if !self.secret && !disclose::is_path(text) => {
                format!("{:?}", disclose::brief(text))
            }
            _ => self.shown(),
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self) -> Option<&'n str> {
        match self.value? {
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                self.refuse_with(|| (format!("must be a text, found {}", self.shown()), "put it in quotes"));
                None
            }
            _ => self.wrong("a text", "write a text, in quotes where it has special characters"),
        }
    }

    /// A text that is not empty.
    #[must_use]
    pub fn filled(&self) -> Option<&'n str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.refuse("is an empty text", "write a value, or remove the line");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.value? {
            Value::Bool(value) => Some(*value),
            _ => self.wrong("true or false", "write true or false, without quotes"),
        }
    }

    /// A whole number in the range.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (range.start(), range.end());
        let hint = format!("write a whole number from {low} to {high}, without quotes");
        match self.value? {
            Value::Number(number) if number.is_u64() || number.is_i64() => {
                let value = number.as_u64().filter(|value| range.contains(value));
                if value.is_none() {
                    self.refuse(format!("{} is out of range", self.shown()), format!("from {low} to {high}"));
                }
                value
            }
            _ => self.wrong("a whole number", &hint),
        }
    }

    /// [`Node::integer`] for 32 bits.
    #[must_use]
    pub fn integer32(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.integer(u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(value).ok()
    }

    /// A number, with or without a fraction, in the range.
    #[must_use]
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let (low, high) = (range.start(), range.end());
        let Some(value) = self.value?.as_f64() else {
            return self.wrong("a number", "write a number, without quotes");
        };
        // NaN is in no range.
        if !range.contains(&value) {
            self.refuse(format!("{} is out of range", self.shown()), format!("from {low} to {high}"));
            return None;
        }
        Some(value)
    }

    /// A duration in the range.
    #[must_use]
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        const FORM: &str = "durations are written as `500ms`, `10s`, `1m30s` or `1h`";
        let text = match self.value? {
            Value::String(text) => text,
            Value::Number(number) => {
                self.refuse(format!("{number} has no unit"), format!("{FORM}: is it `{number}s`?"));
                return None;
            }
            _ => return self.wrong("a duration", FORM),
        };
        let span = match text.parse::<Span>() {
            Ok(span) => span,
            Err(UnitError::NoUnit) => {
                self.refuse(format!("{} has no unit", self.shown()), FORM);
                return None;
            }
            Err(error) => {
                self.refuse(format!("{} is no duration: it {error}", self.shown()), FORM);
                return None;
            }
        };
        if !range.contains(&span.0) {
            let (low, high) = (Span(*range.start()), Span(*range.end()));
            self.refuse(format!("{span} is out of range"), format!("from {low} to {high}"));
            return None;
        }
        Some(span.0)
    }

    /// A number of bytes in the range.
    #[must_use]
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        const FORM: &str = "sizes are written as `64KiB`, `10MB` or a plain number of bytes";
        let size = match self.value? {
            Value::String(text) => match text.parse::<ByteSize>() {
                Ok(size) => size,
                Err(error) => {
                    self.refuse(format!("{} is no size: it {error}", self.shown()), FORM);
                    return None;
                }
            },
            Value::Number(number) if number.is_u64() => ByteSize(number.as_u64()?),
            _ => return self.wrong("a size", FORM),
        };
        if !range.contains(&size.0) {
            let (low, high) = (ByteSize(*range.start()), ByteSize(*range.end()));
            self.refuse(format!("{} is out of range", self.shown()), format!("from {low} to {high}"));
            return None;
        }
        Some(size.0)
    }

    /// One of the names given, as what it stands for.
    #[must_use]
    pub fn one_of<T: Copy>(&self, names: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = names.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let hint = nearest(text, &known).map_or_else(
                || known_names("write one of", &known),
                |near| format!("did you mean `{near}`?"),
            );
            // A name is short; what is long may be a secret that was meant for the key beside it.
            let is_name = self.secret || text.chars().count() <= NAME;
            let shown = if is_name { self.shown() } else { format!("{:?}", disclose::brief(text)) };
            self.refuse(format!("{shown} is not known here"), hint);
        }
        found.map(|(_, value)| *value)
    }

    /// The items of a list; nothing written is an empty list.
    pub fn items(&self) -> impl Iterator<Item = Node<'_>> {
        let items: &[Value] = match self.value {
            None | Some(Value::Null) => &[],
            Some(Value::Sequence(items)) => items,
            Some(_) => {
                self.wrong("a list", "write `[one, two]`, or each item on a line after `- `").unwrap_or(&[])
            }
        };
        items.iter().enumerate().map(|(index, item)| Node {
            findings: self.findings,
            path: Path::Item(&self.path, index),
            value: Some(item),
            expected: true,
            secret: self.secret,
        })
    }

    /// The entries of a mapping whose keys are free; nothing written is an empty one.
    pub fn entries(&self) -> impl Iterator<Item = (&'n str, Node<'_>)> {
        let map = match self.value {
            None | Some(Value::Null) => None,
            Some(Value::Mapping(map)) => Some(map),
            Some(_) => self.wrong("a mapping", "write `key: value` lines, or {}"),
        };
        map.into_iter().flatten().filter_map(|(key, value)| {
            let key = key.as_str()?;
            let path = Path::Key(&self.path, key);
            Some((
                key,
                Node {
                    findings: self.findings,
                    path,
                    value: Some(value),
                    expected: true,
                    secret: self.secret,
                },
            ))
        })
    }

    /// A mapping whose keys are known; nothing written is one where every key has its default.
    #[must_use]
    pub fn section(&self) -> Section<'n> {
        let map = match self.value {
            None | Some(Value::Null) => None,
            Some(Value::Mapping(map)) => Some(map),
            Some(_) => self.wrong("a mapping", "write `key: value` lines below it, indented"),
        };
        // `section:` with nothing below it is there, and lacks what is required in it.
        let expected = map.is_some() || matches!(self.value, Some(Value::Null));
        Section::new(self.findings, self.path, map, expected)
    }

    fn wrong<T>(&self, wanted: &str, hint: &str) -> Option<T> {
        self.refuse_with(|| {
            let message = match self.value {
                Some(Value::Null) => format!("has no value; it must be {wanted}"),
                _ => format!("must be {wanted}, found {}", self.shown()),
            };
            (message, hint)
        });
        None
    }

    fn line(&self, example: &str) -> String {
        match self.path {
            Path::Key(_, key) => format!("{key}: {example}"),
            Path::Root | Path::Item(..) => example.to_owned(),
        }
    }
}

/// What a value is, without the value.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

/// The longest text that a wrong name is shown as it is, in characters.
const NAME: usize = 16;

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => disclose::shown_text(text),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => kind(value).to_owned(),
    }
}
