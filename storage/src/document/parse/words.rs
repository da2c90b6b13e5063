//! Why a text is no document, in our words and with its place.

use reload::{Class, Problem};
use serde::de::DeserializeSeed as _;
use serde_yaml::Location;

use super::super::disclose::shown_key;
use super::super::given_up;
use super::super::walk;
use super::{MAX_DEPTH, MAX_NODES, Refusal, Seed, State};

/// The parser's error in our words.
pub(super) fn problem(
    file: &str,
    text: &str,
    error: &serde_yaml::Error,
    place: Option<Location>,
    state: &State,
) -> Problem {
    let new = |message: String| Problem::new(Class::Validation, message).file(file);
    let mut problem = match &*state.refusal.borrow() {
        Some(Refusal::Repeated(key)) => {
            new(format!("key {:?} stands here twice", shown_key(key))).hint("remove one of the two")
        }
        Some(Refusal::Key(kind)) => new(format!("a key is {kind}, not a text")).hint("put it in quotes"),
        Some(Refusal::Tag) => {
            new("a tag (`!name`) has no meaning here".into()).hint("remove it, or quote the text")
        }
        Some(Refusal::Size) => {
            new(format!("holds more than {MAX_NODES} values, or its aliases (`*name`) expand to more"))
                .hint("write the values out instead of using aliases")
        }
        Some(Refusal::Depth) => deep(),
        Some(Refusal::GivenUp) => return given_up(file),
        None => from_parser(text, error),
    };
    problem.file = Some(file.to_owned());
    let control = control_character(error).map(|at| walk::line_and_column(text, at));
    let place = control.or_else(|| place.map(|place| walk::place(text, &place)));
    let place = place.or_else(|| second_document(text, error));
    if let Some((line, column)) = place {
        problem.line = u32::try_from(line).ok();
        problem.column = u32::try_from(column).ok();
    }
    problem
}

/// Where a second document begins: at its `---`.
fn second_document(text: &str, error: &serde_yaml::Error) -> Option<(usize, usize)> {
    if !is_several(&error.to_string()) {
        return None;
    }
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    let refused = State { max_nodes: 0, ..State::default() };
    let (line, _) = walk::place(text, &Seed(&refused).deserialize(second).err()?.location()?);
    let mark = text.lines().take(line).collect::<Vec<_>>().iter().rposition(|line| line.starts_with("---"));
    Some((mark.map_or(line, |mark| mark + 1), 1))
}

/// Where a character is that the parser's reader does not let through, in bytes: it tells the place in words, and the beginning of
/// the text as the place.
fn control_character(error: &serde_yaml::Error) -> Option<usize> {
    error.to_string().strip_prefix("control characters are not allowed at position ")?.parse().ok()
}

fn is_several(message: &str) -> bool {
    message.contains("more than one document")
}

pub(super) fn is_repetition(message: &str) -> bool {
    message.contains("repetition limit")
}

fn from_parser(text: &str, error: &serde_yaml::Error) -> Problem {
    let whole = error.to_string();
    if is_several(&whole) {
        return Problem::new(Class::Validation, "holds more than one YAML document")
            .hint("remove the `---` between them, and what stands below it");
    }
    if is_repetition(&whole) {
        return Problem::new(Class::Validation, "its aliases (`*name`) expand without measure")
            .hint("write the values out instead of using aliases");
    }
    if whole.contains("recursion limit") {
        return deep();
    }
    if control_character(error).is_some() {
        return Problem::new(Class::Validation, "is not YAML: control characters are not allowed").hint(
            "remove the one that stands here; in a text in double quotes it can be written as `\\u0007`",
        );
    }
    // serde's own words quote values and name keys, and either may be a secret; the parser's are fixed texts.
    if whole.contains("invalid value: ") || whole.contains("invalid type: ") {
        return Problem::new(Class::Validation, "a value is not of the type that its tag (`!!name`) demands")
            .hint("remove the tag, or write a value of that type");
    }
    // The place stands in line and column already.
    let message = match error.location() {
        Some(place) => whole.replacen(&format!(" at line {} column {}", place.line(), place.column()), "", 1),
        None => whole,
    };
    let line = error.location().map(|place| walk::place(text, &place).0);
    let line = line.and_then(|line| text.lines().nth(line.saturating_sub(1)));
    let hint = if line.is_some_and(|line| line.trim_start_matches(' ').starts_with('\t')) {
        "YAML indents with spaces, not with tabs"
    } else {
        "look for a missing colon, quote, bracket or indentation here or in the line above"
    };
    Problem::new(Class::Validation, format!("is not YAML: {message}")).hint(hint)
}

fn deep() -> Problem {
    Problem::new(Class::Validation, format!("is nested more than {MAX_DEPTH} levels deep"))
        .hint("is it the right file?")
}

/// Brackets that open far more often than they close: refused before the parser, whose work on them is quadratic. Brackets
/// in texts and comments count as well, which is why the bound is generous.
pub(super) fn too_deep(text: &str) -> Option<Problem> {
    const SLACK: usize = 10_000;
    let mut depth = 0_usize;
    let mut deep_at = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth <= MAX_DEPTH {
            deep_at = at;
        }
        if depth > SLACK {
            let (line, column) = walk::line_and_column(text, deep_at);
            let mut problem = deep();
            (problem.line, problem.column) = (u32::try_from(line).ok(), u32::try_from(column).ok());
            return Some(problem);
        }
    }
    None
}
