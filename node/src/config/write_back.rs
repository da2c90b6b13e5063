//! Keeping a generated private key: in `conf.yaml`, whose comments and order stay, or in a file of its own (N2).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;

use net::Identity;
use reload::fault;
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use serde_yaml::Value;
use storage::atomic;
use yamlpath::{Document, route};

/// Why a key was not kept. Never contains the key, nor the name of the file: that may be a key by mistake.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteBackError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot {}: {}", .0.action, .0.source)]
    Write(#[from] atomic::WriteError),
    #[error("its folder cannot be written to: {0}")]
    Folder(#[source] io::Error),
    #[error("the file belongs to user {0}")]
    Owner(u32),
    #[error("the file was changed meanwhile")]
    Changed,
    #[error("there is no place for it that leaves the rest of the file as it is")]
    NoPlace,
}

/// Writes the key into `conf.yaml`, which holds `text`. Returns the new bytes.
pub(super) fn private_key(
    path: &Path,
    text: &[u8],
    identity: &Identity,
) -> Result<Arc<[u8]>, WriteBackError> {
    if fs::read(path)? != text {
        return Err(WriteBackError::Changed);
    }
    let text = std::str::from_utf8(text).map_err(|_| WriteBackError::NoPlace)?;
    let next = insert(text, &identity.to_text()).ok_or(WriteBackError::NoPlace)?;
    fault::io("key::write_back")?;
    replace(path, next.as_bytes())?;
    fault::io("key::written")?;
    Ok(next.into_bytes().into())
}

/// Writes the key into a new file. Returns what the file holds.
pub(super) fn key_file(path: &Path, identity: &Identity) -> Result<String, WriteBackError> {
    let text = format!("{}\n", identity.to_text());
    fault::io("key::create")?;
    // A file that appeared meanwhile holds somebody's key, so it is not replaced.
    atomic::create(path, text.as_bytes())?;
    Ok(text)
}

/// Removes what an earlier start has left beside this file, had it been killed while it wrote: there is a key in it.
pub(crate) fn sweep(path: &Path) {
    let target = fs::canonicalize(path).ok();
    let mut folders: Vec<_> =
        [Some(path), target.as_deref()].into_iter().flatten().filter_map(Path::parent).collect();
    folders.dedup();
    for folder in folders {
        // A folder that cannot be read or written to holds nothing of ours.
        let _ = atomic::sweep(folder);
    }
}

/// The text with the key in it and nothing else changed; `None` if no edit that was tried has that effect.
fn insert(text: &str, key: &str) -> Option<String> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let wanted = with_key(parse(body)?, key)?;
    let document = Document::new(body).ok()?;
    let edit = at_key(&document, body, key).or_else(|| in_section(&document, body, key))?;
    let next = edit.apply(body)?;
    // Whatever the style of the file: what counts is that it now says what it said before, and the key.
    (parse(&next)? == wanted).then(|| format!("{mark}{next}"))
}

/// Replaces the bytes from `from` to `to`.
struct Edit {
    from: usize,
    to: usize,
    with: String,
}

impl Edit {
    fn apply(&self, text: &str) -> Option<String> {
        Some(format!("{}{}{}", text.get(..self.from)?, self.with, text.get(self.to..)?))
    }
}

/// The key is written, with an empty value or none.
fn at_key(document: &Document, text: &str, key: &str) -> Option<Edit> {
    let route = route!("node", "private_key");
    if let Some(value) = document.query_exact(&route).ok()? {
        let (from, to) = value.location.byte_span;
        return Some(Edit { from, to, with: format!("\"{key}\"") });
    }
    let name = document.query_key_only(&route).ok()?;
    let after = name.location.byte_span.1;
    let colon = after + text.get(after..)?.find(':')? + 1;
    Some(Edit { from: colon, to: colon, with: format!(" \"{key}\"") })
}

/// The key is not written: it becomes the first of its section.
fn in_section(document: &Document, text: &str, key: &str) -> Option<Edit> {
    let section = document.query_exact(&route!("node")).ok()?;
    let Some(section) = section else {
        // `node:` with nothing below it.
        let name = document.query_key_only(&route!("node")).ok()?;
        let after = name.location.byte_span.1;
        let colon = after + text.get(after..)?.find(':')? + 1;
        return Some(Edit { from: colon, to: colon, with: format!("\n  private_key: \"{key}\"") });
    };
    let at = section.location.byte_span.0;
    if text.get(at..)?.starts_with('{') {
        let is_empty = text.get(at + 1..)?.trim_start().starts_with('}');
        let comma = if is_empty { "" } else { ", " };
        return Some(Edit { from: at + 1, to: at + 1, with: format!("private_key: \"{key}\"{comma}") });
    }
    let line = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let indent = text.get(line..at)?;
    Some(Edit { from: at, to: at, with: format!("private_key: \"{key}\"\n{indent}") })
}

fn parse(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

fn with_key(mut document: Value, key: &str) -> Option<Value> {
    let node = document.as_mapping_mut()?.get_mut("node")?;
    if node.is_null() {
        *node = Value::Mapping(serde_yaml::Mapping::new());
    }
    node.as_mapping_mut()?.insert("private_key".into(), key.into());
    Some(document)
}

/// Replaces a file as a whole: after a crash it holds the old bytes or the new ones. A symlink stays, what it points to is
/// replaced; the owner stays, and the mode loses what it grants to others.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteBackError> {
    can_replace(path)?;
    let before = fs::metadata(path)?;
    atomic::write(path, bytes, atomic::Mode::OwnerOnly)?;
    if fs::metadata(path)?.uid() != before.uid() {
        chown(path, Some(before.uid()), Some(before.gid()))?;
    }
    if before.mode() & 0o600 != 0o600 {
        fs::set_permissions(path, Permissions::from_mode(before.mode() & 0o600))?;
    }
    Ok(())
}

/// Whether [`private_key`] would be allowed to replace this file.
///
/// # Errors
/// What the system says of its folder, or that the file belongs to somebody who could not read it afterwards.
pub(super) fn can_replace(path: &Path) -> Result<(), WriteBackError> {
    let target = fs::canonicalize(path)?;
    let (owner, user) = (fs::metadata(&target)?.uid(), geteuid());
    if owner != user.as_raw() && !user.is_root() {
        return Err(WriteBackError::Owner(owner));
    }
    writable_folder(&target)
}

/// Whether [`key_file`] would be allowed to create this file.
///
/// # Errors
/// What the system says of its folder.
pub(super) fn can_create(path: &Path) -> Result<(), WriteBackError> {
    writable_folder(path)
}

fn writable_folder(path: &Path) -> Result<(), WriteBackError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| WriteBackError::Folder(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "S0VZ";

    #[test]
    fn comments_and_order_stay_in_every_style() {
        for (before, after) in [
            (
                "a: 1\nnode: # who\n  private_key: \"\"   # the key\n  x: 1\n",
                "a: 1\nnode: # who\n  private_key: \"S0VZ\"   # the key\n  x: 1\n",
            ),
            ("node:\n  private_key: ''\n", "node:\n  private_key: \"S0VZ\"\n"),
            ("node:\n  private_key:\n  x: 1\n", "node:\n  private_key: \"S0VZ\"\n  x: 1\n"),
            ("node:\n  private_key: # soon\n  x: 1\n", "node:\n  private_key: \"S0VZ\" # soon\n  x: 1\n"),
            ("node:\n  private_key: null\n", "node:\n  private_key: \"S0VZ\"\n"),
            (
                "node:\n  # data\n  x: 1 # one\n# end\n",
                "node:\n  # data\n  private_key: \"S0VZ\"\n  x: 1 # one\n# end\n",
            ),
            ("node: {private_key: \"\", x: 1} # flow\n", "node: {private_key: \"S0VZ\", x: 1} # flow\n"),
            ("node: {private_key: , x: 1}\n", "node: {private_key: \"S0VZ\" , x: 1}\n"),
            ("node: {x: 1} # flow\n", "node: {private_key: \"S0VZ\", x: 1} # flow\n"),
            ("node: {}\nb: 2\n", "node: {private_key: \"S0VZ\"}\nb: 2\n"),
            ("node:\nb: 2\n", "node:\n  private_key: \"S0VZ\"\nb: 2\n"),
            ("{\"node\": {\"x\": 1}}\n", "{\"node\": {private_key: \"S0VZ\", \"x\": 1}}\n"),
            ("\u{feff}node:\r\n  private_key: \"\"\r\n", "\u{feff}node:\r\n  private_key: \"S0VZ\"\r\n"),
        ] {
            assert_eq!(insert(before, KEY).as_deref(), Some(after), "{before:?}");
        }
    }

    #[test]
    fn an_edit_that_would_say_something_else_is_not_made() {
        // The empty text belongs to another key as well.
        assert_eq!(insert("a: &empty \"\"\nnode:\n  private_key: *empty\n", KEY), None);
        assert_eq!(insert("a: 1\n", KEY), None);
    }

    #[test]
    fn an_edit_that_came_meanwhile_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        fs::write(&path, "node: {x: 2}\n").unwrap();
        let error = private_key(&path, b"node: {x: 1}\n", &Identity::generate()).unwrap_err();
        assert!(matches!(error, WriteBackError::Changed));
        assert_eq!(fs::read(&path).unwrap(), b"node: {x: 2}\n");
    }

    #[test]
    fn the_mode_keeps_what_is_stricter_and_a_symlink_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.yaml"), folder.path().join("conf.yaml"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for (mode, expected) in [(0o644, 0o600), (0o400, 0o400)] {
            fs::write(&file, "old").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            replace(&link, b"new").unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, expected);
            assert_eq!(fs::read(&file).unwrap(), b"new");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            fs::remove_file(&file).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the link");
    }

    #[test]
    fn what_cannot_be_written_is_told_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        can_replace(&path).unwrap();
        can_create(&path).unwrap();
        let nowhere = folder.path().join("nowhere/node.key");
        assert!(matches!(can_create(&nowhere), Err(WriteBackError::Folder(_))));

        // Root may write anywhere; its rights are those of a thread (setuid(2), "C library/kernel differences").
        let mode = if geteuid().is_root() { 0o755 } else { 0o555 };
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let (own, others) = std::thread::scope(|scope| {
            let judged = scope.spawn(|| {
                if geteuid().is_root() {
                    let nobody = rustix::process::Uid::from_raw(65534);
                    rustix::thread::set_thread_uid(nobody).unwrap();
                }
                (can_create(&path).unwrap_err(), can_replace(&path).unwrap_err())
            });
            judged.join().unwrap()
        });
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(own, WriteBackError::Folder(_)), "{own}");
        assert!(matches!(others, WriteBackError::Owner(0) | WriteBackError::Folder(_)), "{others}");
    }

    #[test]
    fn a_key_file_that_is_there_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let identity = Identity::generate();
        assert_eq!(key_file(&path, &identity).unwrap(), fs::read_to_string(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        key_file(&path, &Identity::generate()).expect_err("it is there");
        assert_eq!(Identity::read(&fs::read_to_string(&path).unwrap()).unwrap().identity, identity);
    }
}
