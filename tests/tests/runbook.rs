//! The runbook knows every warning and every error that the program can log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose events an operator sees.
const CRATES: [&str; 4] = ["reload", "storage", "net", "node"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The last string in the arguments of a macro that begin here: its message, by the macros' own grammar.
fn message(arguments: &str) -> String {
    let (mut depth, mut last, mut current) = (1, String::new(), None::<String>);
    let mut characters = arguments.chars();
    while let Some(character) = characters.next() {
        match (&mut current, character) {
            (Some(_), '\\') => drop(characters.next()),
            (Some(text), '"') => {
                last = std::mem::take(text);
                current = None;
            }
            (Some(text), _) => text.push(character),
            (None, '"') => current = Some(String::new()),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    last
}

/// Messages, and where each is logged.
fn messages() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for name in CRATES {
        sources(&root.join(name).join("src"), &mut files);
    }
    let mut messages = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // What stands in a file's own tests is no event of the program.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for name in ["tracing::error!(", "tracing::warn!("] {
            for (at, _) in text.match_indices(name) {
                messages.insert(message(&text[at + name.len()..]), file.clone());
            }
        }
    }
    messages
}

/// The part of a message that is the same each time, and short enough for a table.
fn constant(message: &str) -> &str {
    let end = message.find(['{', '(', '`']).unwrap_or(message.len());
    message[..end].trim_end()
}

#[test]
fn every_warning_and_error_is_in_the_runbook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let book = fs::read_to_string(root.join("docs/runbook.md")).unwrap();
    let messages = messages();
    assert!(messages.len() > 50, "{messages:?}");
    let mut missing = Vec::new();
    for (message, file) in &messages {
        let text = constant(message);
        // One whose text is made elsewhere has no constant part; its kinds are in the book by hand.
        if !text.is_empty() && !book.contains(&format!("`{text}`")) {
            missing.push(format!("{}: {text}", file.display()));
        }
    }
    assert!(missing.is_empty(), "docs/runbook.md, last section, has nothing about:\n{}", missing.join("\n"));
}

#[test]
fn messages_are_found_as_the_macros_take_them() {
    assert_eq!(message(r#"%error, path = %path.display(), "it is \"so\"", more); "next""#), "it is so");
    assert_eq!(constant("polled (raise it)"), "polled");
}
