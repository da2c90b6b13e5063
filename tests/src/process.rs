//! A node as a process.

mod node;
mod spec;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use node::Node;
pub use spec::{Keys, Spec};

/// The whole lines of the audit log in a data folder.
#[must_use]
pub fn audit(data_dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(data_dir.join("audit.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The binary under test.
///
/// # Panics
/// Never: cargo sets the variable for tests of this package.
#[must_use]
pub fn binary() -> PathBuf {
    // Tests are in `deps`, the binary beside it; `CARGO_BIN_EXE_…` is only there when an integration test is compiled.
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("fednode-under-test")
}

/// A value as YAML.
///
/// # Panics
/// Never: JSON is YAML.
#[must_use]
pub fn yaml(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value is JSON")
}

fn replace(path: &Path, contents: &[u8]) {
    let beside = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let written = file
        .as_mut()
        .map_err(|error| error.kind())
        .and_then(|file| file.write_all(contents).map_err(|error| error.kind()));
    written.expect("the folder can be written");
    fs::rename(&beside, path).expect("a file can be renamed");
}

/// Reads a file whole.
///
/// # Panics
/// If it cannot.
#[must_use]
pub fn read(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("the file can be read");
    text
}
