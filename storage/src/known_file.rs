//! `known.yaml`: what the node has learned of others, beside the history in its data folder (N9). It is not configuration.
//!
//! The node writes it, an entry a line, with a checksum at its end. A person may edit it: that is noticed by the checksum, and
//! [merged](merge) with what the node has learned since. What is damaged is kept beside it under a telling name, and the last
//! good version stands in for it.

pub mod merge;
mod text;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use reload::fault;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::atomic::{self, Action, Mode, WriteError};
use crate::document::source::{self, FileBytes, ReadError};
use crate::{Digest, PeerKey};
use merge::{Common, Merged};
pub use text::{Damage, Hand};

/// The file's name in the data folder.
pub const KNOWN: &str = "known.yaml";

/// The version before, beside it.
pub const BACKUP: &str = "known.yaml.backup";

/// The largest file that is read: a hundred thousand peers with all that they may sign.
pub const MAX_KNOWN: u64 = 256 << 20;

/// Files that are kept aside for one reason, the newest.
const MAX_ASIDE: usize = 3;

/// How the names of those begin that cannot be read.
const DAMAGED: &str = "known.yaml.damaged-";

/// So many bytes of a file are hashed at once.
const PIECE: usize = 64 << 10;

/// In a file's mode: its group or everybody.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownEntry {
    /// Who.
    pub public_key: PeerKey,
    /// Where it says that it is: for people, the records say it all.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Who brought it first.
    #[serde(default)]
    pub source: String,
    /// When the node first heard of it, in Unix seconds.
    #[serde(default)]
    pub first_seen: u64,
    /// When it last spoke, in Unix seconds.
    #[serde(default)]
    pub last_seen: u64,
    /// Dials in a row that came to nothing.
    #[serde(default)]
    pub failures: u32,
    /// What it signed, base64.
    #[serde(default)]
    pub records: Vec<String>,
}

/// The file of one node, with what it and the node's memory last had in common.
#[derive(Debug)]
pub struct KnownFile {
    path: PathBuf,
    common: Common,
    /// Of the bytes that were read or written last; nothing before the first, or where there was no file.
    digest: Option<Digest>,
}

/// What a file had to say when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: KnownFile,
    /// What it says, by key.
    pub entries: Vec<KnownEntry>,
    /// Who wrote that last. What a person wrote, or could write, has signatures that nobody has looked at.
    pub hand: Hand,
    /// What was wrong, for the log.
    pub troubles: Vec<String>,
}

/// What a save has found and done.
#[derive(Debug, Default)]
pub struct Saved {
    /// What another hand has changed in the file since the node last looked, and whose that was: [`Hand::Node`] is another
    /// node's, or this one's of another time. Nothing if nobody has.
    pub merged: Option<(Merged, Hand)>,
    /// What was wrong, for the log.
    pub troubles: Vec<String>,
    /// Whether there was anything to write.
    pub written: bool,
}

// === impl KnownFile ===

impl KnownFile {
    /// Reads the file in this data folder, or, if that is damaged, the version before. A missing one knows nobody. Blocks.
    #[must_use]
    pub fn open(data_dir: &Path) -> Opened {
        let path = data_dir.join(KNOWN);
        let mut troubles = Vec::new();
        let mut file = Self { path, common: Common::default(), digest: None };
        let (entries, hand) = match file.read(&mut troubles) {
            Found::Good(entries, hand, digest) => {
                file.digest = Some(digest);
                (entries, hand)
            }
            Found::Same | Found::Nothing => (Vec::new(), Hand::Node),
            Found::Damaged | Found::Unread => file.version_before(&mut troubles),
        };
        file.common = Common::of(&entries);
        Opened { file, entries, hand, troubles }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same memory is kept in another data folder from now on.
    pub fn move_to(&mut self, data_dir: &Path) {
        let path = data_dir.join(KNOWN);
        if path != self.path {
            (self.path, self.digest, self.common) = (path, None, Common::default());
        }
    }

    /// Writes what the node knows, merged with what a person has changed in the file meanwhile. `now` is in Unix seconds.
    /// Durable when it returns; blocks for two durable writes.
    ///
    /// # Errors
    /// What the disk says. The file is as it was, and the next save tries again.
    pub fn save(&mut self, memory: Vec<KnownEntry>, now: u64) -> Result<Saved, WriteError> {
        let mut saved = Saved::default();
        let before = self.read(&mut saved.troubles);
        let memory = match &before {
            Found::Good(entries, hand, _) => {
                let merged = merge::merge(&self.common, entries, &memory, now);
                let entries = merged.entries.clone();
                saved.merged = Some((merged, *hand));
                entries
            }
            _ => memory,
        };
        let (text, digest) = text::render(&memory);
        // A file that a person has taken away is written anew: to know nobody, one says so in it.
        let is_there = match &before {
            Found::Good(_, _, there) => *there == digest,
            Found::Same => self.digest == Some(digest),
            _ => false,
        };
        if !is_there {
            let failed =
                |path: &Path, source| WriteError { path: path.to_owned(), action: Action::Write, source };
            fault::io("known::backup").map_err(|error| failed(&self.backup(), error))?;
            match before {
                Found::Good(..) | Found::Same => self.keep_backup()?,
                // There is no good version before: this one is its own.
                Found::Nothing | Found::Damaged | Found::Unread => {
                    atomic::write(&self.backup(), &text, Mode::OwnerOnly)?;
                }
            }
            if matches!(before, Found::Unread) {
                self.put_aside(&mut saved.troubles)?;
            }
            fault::io("known::write").map_err(|error| failed(&self.path, error))?;
            atomic::write(&self.path, &text, Mode::OwnerOnly)?;
            saved.written = true;
            fault::io("known::written").map_err(|error| failed(&self.path, error))?;
        }
        self.digest = Some(digest);
        self.common = Common::of(&memory);
        Ok(saved)
    }

    fn read(&self, troubles: &mut Vec<String>) -> Found {
        let read = fault::io("known::read");
        if read.is_ok() && self.digest.is_some() && digest_of(&self.path).ok() == self.digest {
            return Found::Same;
        }
        let read = read.map_err(Into::into);
        let FileBytes { bytes, metadata } = match read.and_then(|()| source::read(&self.path, MAX_KNOWN)) {
            Ok(file) => file,
            Err(ReadError::Missing) => return Found::Nothing,
            Err(error) => {
                troubles.push(format!("{}: {error}", self.path.display()));
                return Found::Unread;
            }
        };
        let digest = Digest::of(&bytes);
        match text::parse(&bytes) {
            // Where others may write, a checksum proves nothing.
            Ok((entries, _)) if metadata.mode() & OTHERS_MAY_WRITE != 0 => {
                Found::Good(entries, Hand::Person, digest)
            }
            Ok((entries, hand)) => Found::Good(entries, hand, digest),
            Err(damage) => {
                let kept = self.keep_aside(&bytes, &damage);
                let kept = match &kept {
                    Ok(kept) => format!("it is kept as {}", kept.display()),
                    Err(error) => format!("it could not be kept: {error}"),
                };
                troubles.push(format!("{}: {damage}; {kept}", self.path.display()));
                Found::Damaged
            }
        }
    }

    /// What the backup says, if that is whole.
    fn version_before(&self, troubles: &mut Vec<String>) -> (Vec<KnownEntry>, Hand) {
        let backup = self.backup();
        let read = read_bytes(&backup).map_err(|error| error.to_string());
        let parsed = read.and_then(|bytes| text::parse(&bytes).map_err(|damage| damage.to_string()));
        match parsed {
            Ok((entries, hand)) => {
                troubles.push(format!("what {} says stands in for it", backup.display()));
                (entries, hand)
            }
            Err(error) => {
                troubles.push(format!("{}: {error}; the node begins with nobody", backup.display()));
                (Vec::new(), Hand::Node)
            }
        }
    }

    fn backup(&self) -> PathBuf {
        self.path.with_file_name(BACKUP)
    }

    /// The file as it is becomes the version before. The kernel copies it: its text is not held in memory for that.
    fn keep_backup(&self) -> Result<(), WriteError> {
        let backup = self.backup();
        // Gone in this very moment: what was the backup stays it.
        let Ok((file, _)) = source::open(&self.path, MAX_KNOWN) else { return Ok(()) };
        atomic::place(&backup, &file)?;
        // Before the file is replaced, so that one of the two is whole whatever happens.
        let synced = File::open(&backup).and_then(|backup| backup.sync_all());
        synced.map_err(|source| WriteError { path: backup, action: Action::Write, source })
    }

    /// What cannot be read is kept under a name that says why.
    fn keep_aside(&self, bytes: &[u8], damage: &Damage) -> io::Result<PathBuf> {
        let name = match damage {
            Damage::Version(version) => format!("{KNOWN}.version-{version}-"),
            _ => DAMAGED.to_owned(),
        };
        // Where the file cannot be replaced, it is found again with every save.
        let newest = beside(&self.path, &name)?.pop();
        if let Some(same) = newest.filter(|newest| read_bytes(newest).is_ok_and(|kept| kept == bytes)) {
            return Ok(same);
        }
        let kept = self.aside(&name);
        atomic::write(&kept, bytes, Mode::OwnerOnly).map_err(|error| error.source)?;
        for old in beside(&self.path, &name)?.iter().rev().skip(MAX_ASIDE) {
            fs::remove_file(old)?;
        }
        Ok(kept)
    }

    /// A file that cannot be read is not replaced, but moved: a person may be able to read it.
    fn put_aside(&self, troubles: &mut Vec<String>) -> Result<(), WriteError> {
        let aside = self.aside(DAMAGED);
        match fs::rename(&self.path, &aside) {
            Ok(()) => troubles.push(format!("{}: it is kept as {}", self.path.display(), aside.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(WriteError { path: self.path.clone(), action: Action::Rename, source });
            }
        }
        Ok(())
    }

    /// Where a version that is not read is kept: under a name that begins so.
    fn aside(&self, begin: &str) -> PathBuf {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.path.with_file_name(format!("{begin}{}", since.as_secs()))
    }
}

enum Found {
    Good(Vec<KnownEntry>, Hand, Digest),
    /// What was read or written last.
    Same,
    Nothing,
    Damaged,
    /// The system does not let it be read.
    Unread,
}

/// The digest of a file's content, piece by piece.
fn digest_of(path: &Path) -> Result<Digest, ReadError> {
    let (file, _) = source::open(path, MAX_KNOWN)?;
    let mut hash = Sha256::new();
    let mut reader = BufReader::with_capacity(PIECE, file.take(MAX_KNOWN));
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(piece);
        let read = piece.len();
        reader.consume(read);
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ReadError> {
    Ok(source::read(path, MAX_KNOWN)?.bytes)
}

/// The files beside a file whose names begin so, the newest last.
fn beside(path: &Path, begin: &str) -> io::Result<Vec<PathBuf>> {
    let folder = atomic::folder_of(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with(begin) {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
