//! What a configuration says about its data folder and its socket, without judging the rest of it: an edited file need not be
//! valid to be asked about, and a broken one must not keep its node from what it knows.

use std::path::{Path, PathBuf};

use serde_yaml::Value;
use storage::document::{MAX_FILE, source};

/// What stands in a file, as far as it can be read.
#[derive(Debug)]
pub struct Loose {
    folder: PathBuf,
    root: Option<Value>,
    text: String,
}

// === impl Loose ===

impl Loose {
    /// Reads the file; `None` if it cannot be read at all.
    #[must_use]
    pub fn read(config: &Path) -> Option<Self> {
        let bytes = source::read(config, MAX_FILE).ok()?.bytes;
        let root = serde_yaml::from_slice(&bytes).ok().filter(Value::is_mapping);
        Some(Self { root, text: String::from_utf8_lossy(&bytes).into_owned(), ..Self::nothing(config) })
    }

    /// What a file says that says nothing.
    #[must_use]
    pub fn nothing(config: &Path) -> Self {
        Self { folder: config.parent().unwrap_or(Path::new("")).to_owned(), root: None, text: String::new() }
    }

    /// Whether it is YAML at all.
    #[must_use]
    pub const fn is_yaml(&self) -> bool {
        self.root.is_some()
    }

    /// `node.data_dir`. In a file that is no YAML: from the first line that looks like it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let written = match &self.root {
            Some(root) => text_at(root, "node", "data_dir").map(str::to_owned),
            None => self.text.lines().find_map(|line| {
                let value = line.trim().strip_prefix("data_dir:")?;
                serde_yaml::from_str::<String>(value).ok()
            }),
        };
        self.folder.join(written.as_deref().unwrap_or("data"))
    }

    /// `admin.socket`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let root = self.root.as_ref();
        let socket = root.and_then(|root| text_at(root, "admin", "socket")).unwrap_or("admin.sock");
        self.data_dir().join(socket)
    }
}

fn text_at<'r>(root: &'r Value, section: &str, key: &str) -> Option<&'r str> {
    root.get(section)?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_still_tells_its_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        for (text, data_dir, socket) in [
            ("node: {data_dir: /d}\nadmin: {socket: s}", "/d", "/d/s"),
            ("a: [\n  data_dir: '/d e' # there\n", "/d e", "/d e/admin.sock"),
            ("a: [", "data", "data/admin.sock"),
            ("node: 7", "data", "data/admin.sock"),
        ] {
            std::fs::write(&path, text).unwrap();
            let loose = Loose::read(&path).unwrap();
            assert_eq!(loose.data_dir(), folder.path().join(data_dir), "{text}");
            assert_eq!(loose.socket(), folder.path().join(socket), "{text}");
        }
        assert!(Loose::read(&folder.path().join("none")).is_none());
    }
}
