//! How much of what people wrote is shown when something is wrong with it: a slip of the hand puts secrets where they are
//! not looked for, into a key (`secret:hunter2`, without the space) or into the value of another key (invariant 7).

use std::borrow::Cow;

/// The most characters of an unknown key.
const KEY: usize = 24;

/// The most characters of a value.
const VALUE: usize = 48;

/// The most characters of what looks like a key: enough to recognise it by.
const BRIEF: usize = 8;

/// From so many characters on, a text of the base64 alphabets looks like a key: 32 bytes have 44.
const KEY_MATERIAL: usize = 44;

/// What stands between the name and the rest in a key that was meant to be both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separator {
    /// A colon, without the space that YAML demands after it.
    Colon,
    /// `=`, a quote or a space.
    Other,
}

/// The name in a key, and what ends it.
pub(super) fn key_parts(key: &str) -> (&str, Option<Separator>) {
    let ends = |c: char| c.is_whitespace() || matches!(c, ':' | '=' | '"' | '\'' | '`');
    match key.find(ends) {
        Some(end) => {
            let (name, rest) = key.split_at(end);
            let separator = if rest.starts_with(':') { Separator::Colon } else { Separator::Other };
            (name, Some(separator))
        }
        None => (key, None),
    }
}

/// A key that this program has not named: its name, and `…` for what is not shown.
pub(super) fn shown_key(key: &str) -> Cow<'_, str> {
    let (name, _) = key_parts(key);
    let shown = beginning(name, if is_key_material(name) { 0 } else { KEY });
    if shown.len() == key.len() { key.into() } else { format!("{shown}…").into() }
}

/// A value, in quotes.
pub(super) fn shown_text(text: &str) -> String {
    if text.contains("-----BEGIN") {
        return "a PEM text".to_owned();
    }
    let text = without_keys(text);
    let shown = beginning(&text, VALUE);
    let end = if shown.len() == text.len() { "" } else { "…" };
    format!("{:?}", format!("{shown}{end}"))
}

/// What may be a key: how long it is, and its beginning where it is no longer than a public one, which people tell apart by it.
pub(super) fn brief(text: &str) -> String {
    let length = text.chars().count();
    let shown = if length <= KEY_MATERIAL { beginning(text, BRIEF) } else { "" };
    format!("{shown}… ({length} characters)")
}

/// Whether a text is long enough to be a key.
pub(super) fn is_long(text: &str) -> bool {
    text.chars().count() >= KEY_MATERIAL
}

/// Whether a text looks like the name of a file, rather than like what is in it.
pub(super) fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '~' | ' ');
    text.chars().all(plain) && (text.contains(['/', '.']) || beginning(text, KEY).len() == text.len())
}

/// The text with [`brief`] in place of every part that looks like a key.
fn without_keys(text: &str) -> Cow<'_, str> {
    // In a multiaddr `/` stands between the parts; elsewhere it is a character of base64.
    let is_address = ["/ip4/", "/ip6/", "/dns"].iter().any(|start| text.starts_with(start));
    let belongs = |c: char| is_key_character(c) && !(is_address && c == '/');
    if !text.split(|c| !belongs(c)).any(is_key_material) {
        return text.into();
    }
    let mut shown = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| belongs(c) != belongs(first)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        if is_key_material(part) {
            shown += &brief(part)
        } else {
            shown += part
        }
        rest = after;
    }
    shown.into()
}

/// A character of base64 or base64url.
fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=')
}

fn is_key_material(text: &str) -> bool {
    text.len() >= KEY_MATERIAL && text.chars().all(is_key_character)
}

/// The first characters of a text, at most `count`.
fn beginning(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_up_to_what_may_be_its_value() {
        let key = "A".repeat(86) + "==";
        for (written, shown) in [
            ("adresses", "adresses"),
            ("secret:supersecret", "secret…"),
            ("private_key=\"x\"", "private_key…"),
            ("private_key \"x\"", "private_key…"),
            ("private_key\"x\"", "private_key…"),
            ("secret'x'", "secret…"),
            (":x", "…"),
            ("a_name_of_twenty_four_ch", "a_name_of_twenty_four_ch"),
            ("a_name_of_twenty_four_cha", "a_name_of_twenty_four_ch…"),
            ("ééééééééééééééééééééééééé", "éééééééééééééééééééééééé…"),
            (&key, "…"),
        ] {
            assert_eq!(shown_key(written), shown);
        }
    }

    #[test]
    fn a_value_is_shown_without_the_keys_in_it() {
        let key = "k".repeat(44);
        for (written, shown) in [
            ("short", "\"short\"".to_owned()),
            (&key, "\"kkkkkkkk… (44 characters)\"".into()),
            (&key[1..], format!("{:?}", &key[1..])),
            (&format!("x {key}!"), "\"x kkkkkkkk… (44 characters)!\"".into()),
            (&format!("/ip4/1.2.3.4/tcp/1/{key}"), "\"/ip4/1.2.3.4/tcp/1/kkkkkkkk… (44 characters)\"".into()),
            (&"a b".repeat(20), format!("\"{}…\"", "a b".repeat(16))),
            ("-----BEGIN PRIVATE KEY-----\nMII", "a PEM text".into()),
        ] {
            assert_eq!(shown_text(written), shown);
        }
    }

    #[test]
    fn a_file_is_told_from_its_content() {
        for name in ["none", "node.key", "/etc/fednode/a long name", "~/key"] {
            assert!(is_path(name), "{name}");
        }
        for content in ["correct horse battery staple", "x!", "a/b=", "-----BEGIN A-----\n"] {
            assert!(!is_path(content), "{content}");
        }
    }
}
