//! The line of a file that a problem is about, with what is wrong underlined: for people at a terminal.
//!
//! Only the problem's own key and value are shown, never what stands beside them in the line, and nothing where a secret may stand
//! (invariant 7): a slip of the hand puts those where they are not looked for.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::Path;

use reload::Problem;
use storage::document::{MAX_FILE, source};

use crate::config::keys::{CONF, Key, PEERS};

/// The most characters of a line that are shown.
const WIDTH: usize = 100;

/// From so many characters on, a run of the base64 alphabets may be a key.
const KEY_MATERIAL: usize = 40;

/// Words that name secrets.
const SECRETS: [&str; 5] = ["private_key", "secret", "passw", "token", "-----"];

/// Lines of files, read once each.
#[derive(Default)]
pub(super) struct Excerpts {
    files: HashMap<String, Option<Vec<String>>>,
    is_coloured: bool,
    /// Relative names are the node's, which runs in another folder.
    only_absolute: bool,
}

// === impl Excerpts ===

impl Excerpts {
    /// `None` where stderr is no terminal: there each problem is its one line.
    pub(super) fn for_stderr(told_by_node: bool) -> Option<Self> {
        std::io::stderr().is_terminal().then(|| Self {
            files: HashMap::new(),
            is_coloured: has_colours(),
            only_absolute: told_by_node,
        })
    }

    /// The excerpt of a problem, with a line end; empty where there is none to be shown.
    pub(super) fn of(&mut self, problem: &Problem) -> String {
        let (Some(file), Some(line)) = (&problem.file, problem.line) else { return String::new() };
        let is_elsewhere = self.only_absolute && !Path::new(file).is_absolute();
        if is_elsewhere || names_secret(problem.path.as_deref().unwrap_or_default()) {
            return String::new();
        }
        let lines = self.files.entry(file.clone()).or_insert_with(|| lines(file));
        let Some(text) =
            lines.as_ref().and_then(|lines| lines.get(usize::try_from(line).ok()?.checked_sub(1)?))
        else {
            return String::new();
        };
        // Where the text is no YAML, a line may be anything, and in the middle of a secret: only one that begins with a key is shown.
        if problem.path.is_none() && !begins_with_known_key(text) {
            return String::new();
        }
        let column = problem.column.and_then(|column| usize::try_from(column).ok()).unwrap_or(1);
        let Some(piece) = Piece::of(text, column, problem.message.starts_with("unknown key")) else {
            return String::new();
        };
        let (red, plain) = if self.is_coloured { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let Piece { shown, before, marked } = piece;
        let gap = " ".repeat(before);
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        format!("  {number} | {shown}\n  {margin} | {gap}{red}{}{plain}\n", "^".repeat(marked))
    }
}

/// Whether colours are wanted (no-color.org), where there is a terminal.
pub(super) fn has_colours() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn lines(file: &str) -> Option<Vec<String>> {
    let bytes = source::read(Path::new(file), MAX_FILE).ok()?.bytes;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect())
}

/// A part of a line, with the marked characters in it.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    shown: String,
    before: usize,
    marked: usize,
}

// === impl Piece ===

impl Piece {
    /// The key and value at a column (from 1, in characters); of an unknown key only its name.
    fn of(line: &str, column: usize, is_key: bool) -> Option<Self> {
        let characters: Vec<char> = line.chars().collect();
        let at = column.checked_sub(1).filter(|at| *at < characters.len())?;
        let (ahead, rest) = (&characters[..at], &characters[at..]);
        // In a flow mapping or list: from the separator on.
        let start = ahead.iter().rposition(|c| matches!(c, '{' | '[' | ',')).map_or(0, |at| at + 1);
        let lead: String = if start == 0 { String::new() } else { "…".to_owned() };
        let own: String = ahead[start..].iter().collect();
        let length = if is_key { name(rest)? } else { token(rest) };
        let marked: String = rest[..length].iter().collect();
        let after = if rest[length..].iter().all(|c| c.is_whitespace()) { "" } else { " …" };
        let is_long = own.chars().count() + length > WIDTH;
        if is_long || names_secret(&own) || names_secret(&marked) || holds_key(&own) || holds_key(&marked) {
            return None;
        }
        // A control character must not reach the terminal.
        let clean =
            |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
        let (own, marked) = (clean(&own), clean(&marked));
        let before = lead.chars().count() + own.chars().count();
        let count = marked.chars().count().max(1);
        Some(Self { shown: format!("{lead}{own}{marked}{after}"), before, marked: count })
    }
}

/// How long the value is that begins here.
fn token(rest: &[char]) -> usize {
    let length = match rest.first() {
        Some(quote @ ('"' | '\'')) => {
            let close = rest.iter().skip(1).position(|c| c == quote);
            // Closed in another line, or never: nothing but the quote is known to be of the value.
            return close.map_or(1, |close| close + 2);
        }
        // A list or a mapping: its beginning.
        Some('[' | '{') => 1,
        _ => {
            let ends = |(at, c): (usize, &char)| match c {
                ',' | ']' | '}' => true,
                '#' => at > 0 && rest.get(at - 1).is_some_and(|c| c.is_whitespace()),
                _ => false,
            };
            rest.iter().enumerate().position(|(at, c)| ends((at, c))).unwrap_or(rest.len())
        }
    };
    let trailing = rest[..length].iter().rev().take_while(|c| c.is_whitespace()).count();
    (length - trailing).max(1)
}

/// How long the key is that begins here; `None` where it is no plain one, as `secret:hunter2` is not.
fn name(rest: &[char]) -> Option<usize> {
    let length =
        rest.iter().position(|c| !c.is_alphanumeric() && *c != '_' && *c != '-').unwrap_or(rest.len());
    let is_plain = (1..=24).contains(&length)
        && rest.get(length) == Some(&':')
        && rest.get(length + 1).is_none_or(|c| c.is_whitespace());
    is_plain.then_some(length)
}

fn begins_with_known_key(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let mut known = CONF.iter().chain(PEERS).map(Key::name);
    line.split_once(':').is_some_and(|(name, _)| known.any(|key| key == name))
}

fn names_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    // A file that holds one is no secret.
    SECRETS.iter().any(|word| text.contains(word)) && !text.contains("_file")
}

fn holds_key(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    text.split(|c| !is_part(c)).any(|run| run.len() >= KEY_MATERIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(line: &str, mark: &str, is_key: bool) -> Option<(String, String)> {
        let column = line.find(mark).map(|at| line[..at].chars().count() + 1).unwrap();
        let Piece { shown, before, marked } = Piece::of(line, column, is_key)?;
        let under = shown.chars().skip(before).take(marked).collect();
        Some((shown, under))
    }

    #[test]
    fn the_value_is_underlined_and_only_its_own_key_stands_beside_it() {
        let cases = [
            ("  level: inof", "inof", "  level: inof", "inof"),
            ("  level: inof   # secret plans", "inof", "  level: inof …", "inof"),
            ("  limits: {connections: 0, connections_per_ip: x}", "x}", "… connections_per_ip: x …", "x"),
            ("node: {private_key: \"abc\", data_dir: 7}", "7", "… data_dir: 7 …", "7"),
            ("  addresses: [\"/ip4/1.2.3.4\", \"b\"]", "\"/ip4", "…\"/ip4/1.2.3.4\" …", "\"/ip4/1.2.3.4\""),
            ("  größe: ü # a", "ü # a", "  größe: ü …", "ü"),
            ("  file_name: \"abc", "\"abc", "  file_name: \" …", "\""),
        ];
        for (line, mark, shown, under) in cases {
            let expected = Some((shown.to_owned(), under.to_owned()));
            assert_eq!(piece(line, mark, false), expected, "{line}");
        }
        let unknown = piece("  levle: info", "levle", true);
        assert_eq!(unknown, Some(("  levle …".to_owned(), "levle".to_owned())));
    }

    #[test]
    fn where_a_secret_may_stand_nothing_is_shown() {
        let key = "3f".repeat(22);
        for (line, mark, is_key) in [
            ("  private_key: abc", "abc", false),
            ("  secret: hunter2", "hunter2", false),
            ("  secret:hunter2", "secret", true),
            ("  sercet:hunter2", "sercet", true),
            ("  sercet=hunter2", "sercet", true),
            (&format!("  level: {key}"), "3f", false),
            (&format!("  {key}: info"), "info", false),
            ("  -----BEGIN PRIVATE KEY-----", "-----", false),
        ] {
            assert_eq!(piece(line, mark, is_key), None, "{line}");
        }
        let hidden =
            Problem { line: Some(1), ..Problem::at("admin.jwt.secret", "is short").file("/nowhere") };
        assert_eq!(Excerpts::default().of(&hidden), "");
    }

    #[test]
    fn an_excerpt_has_the_number_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        std::fs::write(&path, "logging:\n  level: inof\n").unwrap();
        let mut problem = Problem::at("logging.level", "is not known").file(path.display().to_string());
        (problem.line, problem.column) = (Some(2), Some(10));
        assert_eq!(Excerpts::default().of(&problem), "  2 |   level: inof\n    |          ^^^^\n");
        let coloured = Excerpts { is_coloured: true, ..Excerpts::default() }.of(&problem);
        assert!(coloured.contains("\x1b[31m^^^^\x1b[0m"), "{coloured:?}");
        let told = Excerpts { only_absolute: true, ..Excerpts::default() }
            .of(&Problem { file: Some("a".into()), ..problem.clone() });
        assert_eq!(told, "");
        // No YAML: a line that begins with a key, and one that may be of a secret.
        std::fs::write(&path, "logging:\n  level: [inof\n   hunter: 2\n").unwrap();
        problem.path = None;
        assert!(Excerpts::default().of(&problem).contains("level: [ …"));
        problem.line = Some(3);
        assert_eq!(Excerpts::default().of(&problem), "");
        problem.line = Some(9);
        assert_eq!(Excerpts::default().of(&problem), "");
    }
}
