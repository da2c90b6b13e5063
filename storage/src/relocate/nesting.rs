//! Folders in one another: whoever is told to remove one of them when it is not needed any more would remove the other as well.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Whether one of two folders is somewhere in the other, whatever they are called. Neither need be there yet.
#[must_use]
pub fn is_nested(one: &Path, other: &Path) -> bool {
    let (one, other) = (real(one), real(other));
    one != other && (one.starts_with(&other) || other.starts_with(&one))
}

/// The path without symlinks, as far as that is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|ancestor| Some((ancestor, fs::canonicalize(ancestor).ok()?)));
    let Some((ancestor, mut real)) = there else { return path };
    for part in path.strip_prefix(ancestor).unwrap_or(Path::new("")).components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            part => real.push(part),
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_one_another_are_known_by_any_name() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("data/generations")).unwrap();
        std::os::unix::fs::symlink("data", at("alias")).unwrap();
        for inner in ["data/sub", "data/generations", "data/a/b", "alias/sub", "no/../data/sub"] {
            assert!(is_nested(&at("data"), &at(inner)) && is_nested(&at(inner), &at("data")), "{inner}");
        }
        assert!(is_nested(&at("data"), root.path()) && is_nested(Path::new("/"), &at("data")));
        for beside in ["data", "alias", "database", "other/data", "data/../other"] {
            assert!(!is_nested(&at("data"), &at(beside)), "{beside}");
        }
    }
}
