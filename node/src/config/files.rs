//! Files that `conf.yaml` names: their content is part of the configuration, their permissions are judged.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reload::{Class, Problem, Secret, fault};
use storage::Digest;
use storage::document::{Node, source};

use super::sections::{JwtKey, NamedFile};
use super::{Config, ConfigSource};

/// The largest key, certificate chain or secret that is read, in bytes.
const MAX_NAMED: u64 = 1024 * 1024;

/// What a PEM file must hold (RFC 7468): one of these labels.
pub(super) const CERTIFICATE: &[&str] = &["CERTIFICATE"];
/// See [`CERTIFICATE`].
pub(super) const PRIVATE_KEY: &[&str] = &["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
/// See [`CERTIFICATE`].
pub(super) const PUBLIC_KEY: &[&str] = &["PUBLIC KEY", "RSA PUBLIC KEY"];

/// A path as it stands in the file, seen from the folder of `conf.yaml`.
pub(super) fn path_of(node: &Node<'_>, folder: &Path) -> Option<PathBuf> {
    let text = node.filled()?;
    if text.contains('\0') {
        node.refuse("has a NUL byte in it", "write a path");
        return None;
    }
    let path = folder.join(text);
    // The longest is 255 bytes nearly everywhere, and known to the file system alone.
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::InvalidFilename) {
        node.refuse("is longer than the name of a file may be", "name a shorter one");
        return None;
    }
    let is_key = text.contains("-----BEGIN") || storage::peers_file::is_key_pair(text);
    if is_key && path.symlink_metadata().is_err() {
        node.refuse(
            "is a key itself, not the name of a file",
            "write the key into a file (chmod 600), and name that",
        );
        return None;
    }
    Some(path)
}

/// Reads a file that a key names.
pub(super) fn named(node: &Node<'_>, folder: &Path) -> Option<NamedFile> {
    let path = path_of(node, folder)?;
    match read_named(&path) {
        Ok((file, _)) => Some(file),
        Err(error) => {
            node.refuse_file(&error);
            None
        }
    }
}

/// Reads a file that a key names, as PEM with one of these labels.
pub(super) fn named_pem(node: &Node<'_>, folder: &Path, labels: &[&str]) -> Option<NamedFile> {
    let file = named(node, folder)?;
    if !holds_pem(file.content.expose(), labels) {
        let wanted = labels.first().copied().unwrap_or_default();
        node.refuse(
            format!("the file {} holds no PEM of a {}", node.shown_file(), wanted.to_lowercase()),
            format!("it must have a `-----BEGIN {wanted}-----` block"),
        );
        return None;
    }
    Some(file)
}

/// Reads a named file, with its owner and mode.
///
/// # Errors
/// If there is none, or it is refused.
pub fn read_named(path: &Path) -> Result<(NamedFile, Metadata), source::ReadError> {
    fault::io("named::read")?;
    let read = source::read(path, MAX_NAMED)?;
    let digest = Digest::of(&read.bytes);
    let file = NamedFile { path: path.to_owned(), content: Secret::new(read.bytes.into()), digest };
    Ok((file, read.metadata))
}

/// Whether every file that was named has still the same content.
pub(super) fn named_are_same(source: &ConfigSource) -> bool {
    source.named.iter().all(|(path, digest)| read_named(path).is_ok_and(|(file, _)| file.digest == *digest))
}

/// The bytes without one line end, which editors and `echo` append to a secret.
pub(super) fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Files whose permissions invite others (contract: "Paths": warnings, not refusals).
pub(super) fn permissions(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let source = &config.source;
    if let Ok(metadata) = std::fs::metadata(&source.path) {
        if metadata.mode() & 0o022 != 0 {
            let hint = format!("chmod go-w {}", source.name);
            found.push(
                warning(format!("can be changed by other users (mode {:03o})", mode(&metadata))).hint(hint),
            );
        }
        let inline_jwt = matches!(config.admin.jwt.as_ref().map(|jwt| &jwt.key), Some(JwtKey::Inline(_)));
        if metadata.mode() & 0o044 != 0 && (config.node.key_file.is_none() || inline_jwt) {
            let what =
                format!("holds a secret and can be read by other users (mode {:03o})", mode(&metadata));
            found.push(warning(what).hint(format!("chmod 600 {}", source.name)));
        }
    }
    let key_file = config.node.key_file.as_ref().map(|path| ("node.key_file", path));
    let tls = config.admin.tls.as_ref().map(|tls| ("admin.tls.private_key", &tls.private_key.path));
    let jwt = config.admin.jwt.as_ref().and_then(|jwt| match &jwt.key {
        JwtKey::SecretFile(file) => Some(("admin.jwt.secret_file", &file.path)),
        JwtKey::Inline(_) | JwtKey::PublicKey(_) => None,
    });
    for (key, path) in [key_file, tls, jwt].into_iter().flatten() {
        if let Ok(metadata) = std::fs::metadata(path)
            && metadata.mode() & 0o077 != 0
        {
            let what =
                format!("{} can be read by other users (mode {:03o})", path.display(), mode(&metadata));
            let hint = format!("chmod 600 {}", path.display());
            found.push(Problem { path: Some(key.to_owned()), ..warning(what) }.hint(hint));
        }
    }
    for problem in found.iter_mut().filter(|problem| problem.path.is_none()) {
        problem.file = Some(source.name.clone());
    }
    config.locate(&mut found);
    found
}

fn warning(message: String) -> Problem {
    Problem::new(Class::Validation, message)
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o777
}

/// Whether there is a PEM block with one of these labels and base64 in it.
fn holds_pem(bytes: &[u8], labels: &[&str]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    labels.iter().any(|label| {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let body = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(body, _)| body);
        body.is_some_and(|body| {
            let packed: String = body.split_ascii_whitespace().collect();
            STANDARD.decode(packed).is_ok_and(|der| !der.is_empty())
        })
    })
}
