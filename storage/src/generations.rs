//! The committed configurations, bounded in number, each one a whole file (R16, R17).
//!
//! `data_dir/generations/` (0700) holds `NNNNNNNN.gen` (0600) for each generation; see [`record`] for its format. A
//! `peers.yaml` over 64 KiB is kept once, as `peers-<sha256>.yaml`, and shared by the generations with the same contents,
//! so that a reload which does not touch a file of megabytes does not write it. A small one stands in the record: a commit
//! is then one durable write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reload::{Generation, fault};

use crate::atomic::{self, Action, Mode, WriteError};
use crate::regular;

mod names;
pub mod record;

pub(crate) use names::is_own;
use names::{blob_of, number_of};
pub use record::{Checksum, DecodeError, Meta};
use record::{MAX_INLINE, MAX_RECORD, Peers, Record};

/// The store. One owner; methods block for file operations.
#[derive(Debug)]
pub struct Generations {
    folder: PathBuf,
    keep: usize,
    /// Kept however old it is.
    pinned: Option<Generation>,
    /// The records that can be read, with the blob that each needs.
    index: BTreeMap<Generation, Option<Checksum>>,
    /// Blobs whose contents were seen to match their names, in the life of this store.
    sound: BTreeSet<Checksum>,
    /// The last large `peers.yaml` with its checksum: most reloads leave it as it is, and a hash of megabytes is felt.
    hashed: Option<(Arc<[u8]>, Checksum)>,
    /// The blob of a record that is being written, or could not be: its file may be there all the same, and names this one.
    writing: Option<Checksum>,
}

/// What is to be kept.
#[derive(Clone, Debug)]
pub struct NewGeneration {
    /// What is known about it; its number is above the latest one's.
    pub meta: Meta,
    /// The bytes of `conf.yaml`.
    pub conf: Arc<[u8]>,
    /// The bytes of `peers.yaml`; `None` if there was no such file.
    pub peers: Option<Arc<[u8]>>,
}

/// A generation on its way: on disk, and not in the history yet. Dropped, it goes.
#[derive(Debug)]
pub struct StagedGeneration {
    generation: Generation,
    record: atomic::Staged,
    blob: Option<Checksum>,
}

/// A generation as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What is known about it.
    pub meta: Meta,
    /// The bytes of `conf.yaml`. They may hold secrets.
    pub conf: Vec<u8>,
    /// The bytes of `peers.yaml`; `None` if there was no such file.
    pub peers: Option<Vec<u8>>,
}

/// A file of the store that cannot be used. It is left where it is until its number is taken again or falls out of the
/// history.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason} (this generation is passed over)", path.display())]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: DamageReason,
}

/// What is wrong with a file of the store.
#[derive(Debug, thiserror::Error)]
pub enum DamageReason {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is larger than any record.
    #[error("has more than {MAX_RECORD} bytes")]
    TooLarge,
    /// It is no record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its name and its contents disagree about the number.
    #[error("says that it is generation {0}")]
    Number(Generation),
    /// A blob whose contents are not those of its name.
    #[error("does not match the checksum in its name")]
    Blob,
}

/// Why a generation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not in the history.
    #[error("generation {0} is not in the history (`fednode history` lists those that are)")]
    Unknown(Generation),
    /// It is, and its file is damaged.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// Why a generation was not kept. The history is as before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The number is taken.
    #[error("generation {given} cannot follow; the next is {expected}")]
    Number {
        /// The number that the caller gave.
        given: Generation,
        /// The lowest that is accepted.
        expected: Generation,
    },
    /// Larger than could be read again.
    #[error("generation {generation} has {bytes} bytes; a record holds {MAX_RECORD}")]
    TooLarge {
        /// Its number.
        generation: Generation,
        /// Its size.
        bytes: u64,
    },
    /// Its meta data is no JSON.
    #[error("generation {generation} cannot be encoded: {source}")]
    Encode {
        /// Its number.
        generation: Generation,
        /// Why.
        source: serde_json::Error,
    },
    /// The disk refused.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot open the history of generations: {source} (give the folder to the user that the node runs as)", path.display())]
pub struct OpenError {
    /// The folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

// === impl Generations ===

impl Generations {
    /// Opens the store and looks at every record. Files that cannot be used are told and passed over, so that the latest
    /// generation is the newest *whole* one. Leftovers of a killed process are removed.
    ///
    /// # Errors
    /// If the folder cannot be created or read.
    pub fn open(folder: &Path, keep: usize) -> Result<(Self, Vec<Damaged>), OpenError> {
        let at = |source| OpenError { path: folder.into(), source };
        fault::io("generations::open").map_err(at)?;
        make_folder(folder).map_err(at)?;
        atomic::sweep(folder).map_err(at)?;
        let mut store = Self {
            folder: folder.into(),
            keep: keep.max(1),
            pinned: None,
            index: BTreeMap::new(),
            sound: BTreeSet::new(),
            hashed: None,
            writing: None,
        };
        let mut damaged = Vec::new();
        for entry in fs::read_dir(folder).map_err(at)? {
            let Some(generation) = number_of(&entry.map_err(at)?.file_name().to_string_lossy()) else {
                continue;
            };
            let blob = store.load(generation, |record| match record.peers {
                Peers::Blob(blob) => Some(blob),
                Peers::Missing | Peers::Inline(_) => None,
            });
            match blob {
                Ok(blob) => {
                    store.index.insert(generation, blob);
                }
                Err(damage) => damaged.push(damage),
            }
        }
        // The latest is what a start may have to run on: it is whole only if its blob is.
        while let Some((&generation, &Some(blob))) = store.index.last_key_value() {
            match store.load_blob(blob) {
                Ok(_) => {
                    store.sound.insert(blob);
                    break;
                }
                Err(damage) => {
                    damaged.push(damage);
                    store.index.remove(&generation);
                }
            }
        }
        Ok((store, damaged))
    }

    /// Makes the folder anew that somebody took away. The numbers go on, and what was in it is gone: nothing is taken to be there
    /// that was seen before.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_folder_again(&mut self) -> Result<(), OpenError> {
        self.sound.clear();
        let made = make_folder(&self.folder);
        made.map_err(|source| OpenError { path: self.folder.clone(), source })
    }

    /// The newest whole generation.
    #[must_use]
    pub fn latest(&self) -> Option<Generation> {
        self.index.last_key_value().map(|(&generation, _)| generation)
    }

    /// The number that the next generation takes.
    #[must_use]
    pub fn next(&self) -> Generation {
        self.latest().map_or(Generation::FIRST, Generation::next)
    }

    /// How many generations are kept; a lower number takes effect with the next [`Generations::append`]. At least one is.
    pub fn set_keep(&mut self, keep: usize) {
        self.keep = keep.max(1);
    }

    /// Keeps one generation however old it gets: somebody may still have to go back to it.
    pub const fn pin(&mut self, generation: Option<Generation>) {
        self.pinned = generation;
    }

    /// The numbers of the whole generations, newest first.
    pub fn numbers(&self) -> impl Iterator<Item = Generation> {
        self.index.keys().rev().copied()
    }

    /// A generation with its files.
    ///
    /// # Errors
    /// If it is not in the history or its file is damaged.
    pub fn read(&self, generation: Generation) -> Result<Snapshot, ReadError> {
        if !self.index.contains_key(&generation) {
            return Err(ReadError::Unknown(generation));
        }
        self.load(generation, |record| {
            let peers = match record.peers {
                Peers::Missing => None,
                Peers::Inline(bytes) => Some(bytes.to_vec()),
                Peers::Blob(blob) => Some(self.load_blob(blob)?),
            };
            Ok(Snapshot { conf: record.conf.to_vec(), peers, meta: record.meta })
        })?
    }

    /// What is known about the newest generations, newest first. One that was damaged after [`Generations::open`] is left
    /// out.
    #[must_use]
    pub fn list(&self, limit: usize) -> Vec<Meta> {
        let newest = self.index.keys().rev().take(limit);
        newest.filter_map(|&generation| self.load(generation, |record| record.meta).ok()).collect()
    }

    /// Keeps a generation durably; the oldest go with [`Generations::prune`]. After `Ok` it is [`Generations::latest`], also after
    /// a power cut; after an error it is not, also then. Blocks for one durable write, for two if a large `peers.yaml` is new.
    ///
    /// # Errors
    /// If the number is taken, the record is too large, or the disk refuses.
    pub fn append(&mut self, new: &NewGeneration) -> Result<(), AppendError> {
        let staged = self.stage(new)?;
        self.append_staged(staged)
    }

    /// Brings a generation to the disk that is not one yet, and may never be: what takes time of [`Generations::append`].
    ///
    /// # Errors
    /// As [`Generations::append`].
    pub fn stage(&mut self, new: &NewGeneration) -> Result<StagedGeneration, AppendError> {
        let generation = new.meta.generation;
        self.check(generation)?;
        let blob = match &new.peers {
            Some(peers) if peers.len() > MAX_INLINE => Some((self.checksum(peers), peers)),
            _ => None,
        };
        let peers = match (&new.peers, &blob) {
            (_, Some((checksum, _))) => Peers::Blob(*checksum),
            (Some(peers), None) => Peers::Inline(peers),
            (None, None) => Peers::Missing,
        };
        let bytes = record::encode(&Record { meta: new.meta.clone(), conf: &new.conf, peers })
            .map_err(|source| AppendError::Encode { generation, source })?;
        if bytes.len() as u64 > MAX_RECORD {
            return Err(AppendError::TooLarge { generation, bytes: bytes.len() as u64 });
        }
        // The blob first: a record never names one that is not there.
        if let Some((checksum, peers)) = &blob {
            self.writing = Some(*checksum);
            self.keep_blob(*checksum, peers)?;
        }
        let path = self.path(generation);
        let failed = |source| WriteError { path: path.clone(), action: Action::Write, source };
        fault::io("generation::stage").map_err(failed)?;
        let record = atomic::stage(&path, &bytes, Mode::OwnerOnly)?;
        Ok(StagedGeneration { generation, record, blob: blob.map(|(checksum, _)| checksum) })
    }

    /// The rest of [`Generations::append`].
    ///
    /// # Errors
    /// As [`Generations::append`].
    pub fn append_staged(&mut self, staged: StagedGeneration) -> Result<(), AppendError> {
        let StagedGeneration { generation, record, blob } = staged;
        self.check(generation)?;
        let path = self.path(generation);
        let failed = |source| WriteError { path: path.clone(), action: Action::Write, source };
        fault::io("generation::append").map_err(failed)?;
        record.put_in_place()?;
        fault::io("generation::appended").map_err(failed)?;
        self.index.insert(generation, blob);
        self.writing = None;
        Ok(())
    }

    /// Numbers rise. Those between were lost with a full disk and a kill; they were seen, and are not used again.
    fn check(&self, given: Generation) -> Result<(), AppendError> {
        let expected = self.next();
        if given < expected { Err(AppendError::Number { given, expected }) } else { Ok(()) }
    }

    fn checksum(&mut self, peers: &Arc<[u8]>) -> Checksum {
        match &self.hashed {
            Some((bytes, checksum)) if Arc::ptr_eq(bytes, peers) => *checksum,
            _ => {
                let checksum = Checksum::of(peers);
                self.hashed = Some((Arc::clone(peers), checksum));
                checksum
            }
        }
    }

    fn keep_blob(&mut self, checksum: Checksum, contents: &[u8]) -> Result<(), WriteError> {
        if !self.sound.contains(&checksum) && self.load_blob(checksum).is_err() {
            let path = self.blob_path(checksum);
            let failed = |source| WriteError { path: path.clone(), action: Action::Write, source };
            fault::io("blob::write").map_err(failed)?;
            atomic::write(&path, contents, Mode::OwnerOnly)?;
        }
        self.sound.insert(checksum);
        Ok(())
    }

    /// Removes what has fallen out of the history: a call of its own, because nobody who waits for a reload should wait for it.
    /// What cannot be removed is tried again the next time: the history is
    /// right without it.
    pub fn prune(&mut self) {
        let Some(latest) = self.latest() else { return };
        let keep = u64::try_from(self.keep).unwrap_or(u64::MAX);
        let oldest = latest.get().saturating_sub(keep).saturating_add(1);
        let pinned = self.pinned.map(Generation::get);
        let is_kept = |number: u64| number >= oldest || Some(number) == pinned;
        self.index.retain(|generation, _| is_kept(generation.get()));
        let needed: BTreeSet<_> = self.index.values().flatten().chain(&self.writing).copied().collect();
        self.sound.retain(|blob| needed.contains(blob));
        let removed =
            fault::io("generations::prune").and_then(|()| fs::read_dir(&self.folder)).and_then(|entries| {
                let mut unneeded = Vec::new();
                for entry in entries {
                    let entry = entry?;
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    if number_of(&name).is_some_and(|number| !is_kept(number.get())) {
                        fs::remove_file(entry.path())?;
                    } else if blob_of(&name).is_some_and(|blob| !needed.contains(&blob)) {
                        unneeded.push(entry.path());
                    }
                }
                // Last: killed in between, no record names a blob that is not there.
                unneeded.iter().try_for_each(fs::remove_file)
            });
        if let Err(error) = removed {
            tracing::warn!(folder = %self.folder.display(), %error, "old generations could not be removed");
        }
    }

    /// The files of the whole generations, each blob once and before the records that need it: for whoever copies them.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let blobs: BTreeSet<_> = self.index.values().flatten().copied().collect();
        let blobs = blobs.into_iter().map(|blob| self.blob_path(blob));
        blobs.chain(self.index.keys().map(|&generation| self.path(generation))).collect()
    }

    fn path(&self, generation: Generation) -> PathBuf {
        self.folder.join(format!("{:08}.gen", generation.get()))
    }

    fn blob_path(&self, blob: Checksum) -> PathBuf {
        self.folder.join(format!("peers-{blob}.yaml"))
    }

    fn load<T>(&self, generation: Generation, then: impl FnOnce(Record<'_>) -> T) -> Result<T, Damaged> {
        let path = self.path(generation);
        let read = fault::io("generation::read").map_err(DamageReason::from);
        let loaded = read.and_then(|()| read_bounded(&path)).and_then(|bytes| {
            let record = record::decode(&bytes)?;
            match record.meta.generation {
                number if number == generation => Ok(then(record)),
                number => Err(DamageReason::Number(number)),
            }
        });
        loaded.map_err(|reason| Damaged { path, reason })
    }

    fn load_blob(&self, blob: Checksum) -> Result<Vec<u8>, Damaged> {
        let path = self.blob_path(blob);
        let read = fault::io("blob::read").map_err(DamageReason::from);
        let loaded = read
            .and_then(|()| read_bounded(&path))
            .and_then(|bytes| if Checksum::of(&bytes) == blob { Ok(bytes) } else { Err(DamageReason::Blob) });
        loaded.map_err(|reason| Damaged { path, reason })
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, DamageReason> {
    let file = regular::read(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_RECORD.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_RECORD { Err(DamageReason::TooLarge) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests;
