//! The files of the history, and what they have no room for yet.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reload::{Class, Generation, Problem, Unconfirmed};
use serde_json::Value;
use storage::audit::AuditError;
use storage::generations::{AppendError, Damaged, NewGeneration, StagedGeneration};
use storage::relocate::{AUDIT, GENERATIONS, Settling};
use storage::restore::{self, Restored};
use storage::{AuditLog, DataDir, Generations, Held, HeldFile, Signpost, Standing, Whereabouts};

use super::HistoryError;
use super::moving::{Moved, Pauses};
use crate::config::{Config, HeldFiles, Instead};

/// How many generations and audit lines a full disk may keep back. Beyond it the oldest are given up.
const MAX_KEPT_BACK: usize = 256;

/// How many ended reloads are remembered. One that stages late is seldom more than one behind.
const MAX_ENDED: usize = 16;

/// The files of one data folder.
pub(super) struct Shelf {
    pub(super) path: PathBuf,
    pub(super) generations: Generations,
    pub(super) audit: AuditLog,
}

pub(super) struct Books {
    /// Of the folder that counts; nothing once the node has stopped. Its drop removes the pid file.
    pub(super) lock: Option<DataDir>,
    pub(super) shelf: Shelf,
    /// A move to `shelf` that does not stand yet.
    pub(super) moved: Option<Moved>,
    /// A move that stands, and of which the disk does not know yet.
    pub(super) settling: Option<Settling>,
    pub(super) signpost: Signpost,
    /// It does not say yet that the node runs on this folder.
    signpost_unwritten: bool,
    /// The folder that was left by the move before the next record.
    pub(super) left: Option<PathBuf>,
    /// While the folder is copied nothing is written to it; what there is to write waits as on a full disk.
    pauses: Arc<Pauses>,
    pub(super) standing: Standing,
    /// What stands is not what the file says.
    pub(super) standing_unwritten: bool,
    /// What the loader passes over: what stands, with what to take instead.
    held: Arc<HeldFiles>,
    /// How many replaced files are kept, and generations.
    keep: usize,
    /// Whether every generation is on disk, for those who must not wait for it.
    pub(super) is_durable: Arc<AtomicBool>,
    /// What may become a generation.
    staged: Option<(NewGeneration, StagedGeneration)>,
    /// The reloads that ended last, newest first: what is staged for one of them comes too late. (Staging runs beside the reload,
    /// which may be refused before it begins.)
    pub(super) ended: VecDeque<String>,
    /// Committed and not written yet, in order; perhaps half-way there.
    unwritten: VecDeque<(NewGeneration, Option<StagedGeneration>)>,
    /// Audit lines that had no room, in order.
    untold: VecDeque<Value>,
}

// === impl Shelf ===

impl Shelf {
    /// Opens the files in a data folder, and tells which of them cannot be used.
    pub(super) fn open(path: &Path, keep: usize) -> Result<(Self, Vec<Damaged>), HistoryError> {
        let (generations, damaged) = Generations::open(&path.join(GENERATIONS), keep)?;
        let audit = AuditLog::open(&path.join(AUDIT))?;
        Ok((Self { path: path.to_owned(), generations, audit }, damaged))
    }
}

// === impl Books ===

impl Books {
    /// The books with what was found on disk. Files that are held are taken to say what the newest generation does.
    pub(super) fn new(
        lock: DataDir,
        mut shelf: Shelf,
        standing: Standing,
        held: &Arc<HeldFiles>,
        pauses: &Arc<Pauses>,
        signpost: Signpost,
    ) -> Self {
        shelf.generations.pin(standing.unconfirmed.map(|unconfirmed| unconfirmed.target));
        let mut books = Self {
            lock: Some(lock),
            shelf,
            moved: None,
            settling: None,
            signpost,
            signpost_unwritten: false,
            left: None,
            pauses: Arc::clone(pauses),
            standing,
            standing_unwritten: false,
            held: Arc::clone(held),
            keep: 1,
            is_durable: Arc::new(AtomicBool::new(true)),
            staged: None,
            ended: VecDeque::new(),
            unwritten: VecDeque::new(),
            untold: VecDeque::new(),
        };
        books.take_up_held();
        books
    }

    /// Takes another folder's files, and returns those that were used so far.
    pub(super) fn swap(&mut self, mut shelf: Shelf) -> Shelf {
        shelf.generations.set_keep(self.keep);
        shelf.generations.pin(self.standing.unconfirmed.map(|unconfirmed| unconfirmed.target));
        self.unstage_all();
        self.standing_unwritten = true;
        std::mem::replace(&mut self.shelf, shelf)
    }

    /// What was staged is in the folder that is copied, and no generation of it.
    pub(super) fn unstage_all(&mut self) {
        self.staged = None;
        self.unwritten.iter_mut().for_each(|(_, staged)| *staged = None);
    }

    /// What a predecessor held is held still, if the generation that came back is in the history: it was to be written next.
    fn take_up_held(&mut self) {
        let Some(held) = &self.standing.held else { return };
        let latest = self.shelf.generations.latest();
        let newest = latest.filter(|latest| *latest >= held.since);
        let Some(Ok(snapshot)) = newest.map(|newest| self.shelf.generations.read(newest)) else {
            self.standing.held = None;
            self.standing_unwritten = true;
            return;
        };
        let conf = held.conf.clone().map(|file| (file, Some(snapshot.conf.into())));
        let peers = held.peers.clone().map(|file| (file, snapshot.peers.map(Arc::from)));
        self.held.set([conf, peers].into_iter().flatten());
    }

    pub(super) fn set_keep(&mut self, keep: usize) {
        self.keep = keep.max(1);
        self.shelf.generations.set_keep(keep);
    }

    pub(super) fn await_confirmation(&mut self, unconfirmed: Option<Unconfirmed>) {
        self.standing_unwritten |= self.standing.unconfirmed != unconfirmed;
        self.standing.unconfirmed = unconfirmed;
        self.shelf.generations.pin(unconfirmed.map(|unconfirmed| unconfirmed.target));
    }

    /// Passes the files' bytes of this moment over from `since` on, where they differ from what `config` says, until they
    /// change.
    pub(super) fn hold(&mut self, config: &Config, since: Generation) {
        let [conf, peers] = files_of(config).map(|(path, wanted)| {
            // What cannot be read cannot be told apart from what it becomes: it counts as missing.
            let bytes = restore::bytes_of(&path).unwrap_or_default();
            let differs = bytes.as_deref() != wanted.as_deref();
            differs.then(|| (HeldFile::new(&path, bytes.as_deref()), wanted))
        });
        let file = |held: &Option<Instead>| held.as_ref().map(|(file, _)| file.clone());
        let held = (conf.is_some() || peers.is_some()).then(|| Held {
            since,
            conf: file(&conf),
            peers: file(&peers),
        });
        self.standing_unwritten |= self.standing.held != held;
        self.standing.held = held;
        self.held.set([conf, peers].into_iter().flatten());
    }

    /// A file that was seen with other bytes is held no longer, also after the next start.
    pub(super) fn let_go_of_changed(&mut self) {
        let Some(mut held) = self.standing.held.take() else { return };
        let before = held.clone();
        held.conf = held.conf.filter(|file| self.held.contains(&file.path));
        held.peers = held.peers.filter(|file| self.held.contains(&file.path));
        self.standing_unwritten |= held != before;
        self.standing.held = (held.conf.is_some() || held.peers.is_some()).then_some(held);
    }

    /// Makes the files say what `config` does. Those that cannot be written stay held, and are told.
    pub(super) fn restore(&mut self, config: &Config, replaced: Generation) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for (path, wanted) in files_of(config) {
            match restore::restore(&path, wanted.as_deref(), replaced.get(), self.keep) {
                Ok(Restored::AsItWas) => {}
                Ok(Restored::Written(kept)) => {
                    let kept = kept.map(|kept| kept.display().to_string());
                    tracing::info!(path = %path.display(), replaced = kept, "a file says what its generation said");
                    let before = kept.map_or("there was none".to_owned(), |kept| {
                        format!("{kept} has what it said before")
                    });
                    let message = format!("was written to say what runs; {before}");
                    warnings.push(Problem::new(Class::System, message).file(path.display().to_string()));
                }
                Err(error) => {
                    let message =
                        format!("does not say what runs, and is passed over until it changes: {error}");
                    let problem = Problem::new(Class::System, message).file(path.display().to_string());
                    warnings.push(problem.hint("let the node's user write it, or edit it yourself"));
                }
            }
        }
        if let Some(since) = self.standing.held.as_ref().map(|held| held.since) {
            self.hold(config, since);
            self.flush_standing();
        }
        warnings
    }

    /// Brings to the disk what may become a generation. What fails here fails again, and is told, when it does.
    pub(super) fn stage(&mut self, new: NewGeneration) {
        if self.ended.contains(&new.meta.id) {
            return;
        }
        self.staged = None;
        if self.unwritten.is_empty() && !self.pauses.is_paused() {
            self.staged = self.shelf.generations.stage(&new).ok().map(|staged| (new, staged));
        }
    }

    /// The reload of this id has ended: what it may have left is no generation.
    pub(super) fn unstage(&mut self, id: &str) {
        self.staged.take_if(|(new, _)| new.meta.id == id);
        self.ended.truncate(MAX_ENDED - 1);
        self.ended.push_front(id.to_owned());
    }

    /// Takes the generation of the reload of this id, as it was staged or as it is now made, to be written with the next
    /// [`Books::flush`].
    pub(super) fn keep(&mut self, id: &str, make: impl FnOnce() -> NewGeneration) {
        let (new, staged) = match self.staged.take() {
            Some((new, staged)) if new.meta.id == id => (new, Some(staged)),
            _ => (make(), None),
        };
        if self.unwritten.len() >= MAX_KEPT_BACK {
            self.unwritten.pop_front();
        }
        self.unwritten.push_back((new, staged));
        self.show_durable();
    }

    /// Adds a line to the audit log.
    pub(super) fn tell(&mut self, line: Value) {
        if self.untold.len() >= MAX_KEPT_BACK {
            self.untold.pop_front();
        }
        self.untold.push_back(line);
        self.flush_audit();
    }

    /// Writes what was kept back, oldest first; `true` when nothing is left. What must stand before a generation does holds that
    /// generation back: killed in between, the next start would not know that it is to be confirmed, or which files to pass over.
    pub(super) fn flush(&mut self) -> bool {
        let is_here = self.flush_signpost();
        let is_kept = self.flush_standing() && self.flush_generations();
        self.show_durable();
        self.flush_audit() && is_kept && is_here
    }

    pub(super) fn is_written(&self) -> bool {
        let is_here = self.settling.is_none() && !self.signpost_unwritten;
        is_here && !self.standing_unwritten && self.unwritten.is_empty() && self.untold.is_empty()
    }

    fn show_durable(&self) {
        let is_here = self.settling.is_none() && !self.signpost_unwritten;
        self.is_durable.store(is_here && self.unwritten.is_empty(), Ordering::Release);
    }

    /// The signpost is to name this folder.
    pub(super) fn settle_here(&mut self) -> bool {
        self.signpost_unwritten = true;
        self.flush_signpost()
    }

    /// Makes the disk say which folder counts; `true` when it does. Before anything is written to a folder that was moved to.
    pub(super) fn flush_signpost(&mut self) -> bool {
        let said = match &self.settling {
            Some(settling) => settling.settle(&self.signpost),
            // While somebody copies it says that, too.
            None if self.pauses.is_paused() || !self.signpost_unwritten => return !self.signpost_unwritten,
            None => self.signpost.put(&Whereabouts::at(&self.shelf.path)),
        };
        match said {
            Ok(()) => {
                self.settling = None;
                self.signpost_unwritten = false;
            }
            Err(error) => tracing::warn!(%error, "the disk does not say yet which data folder counts"),
        }
        self.show_durable();
        self.settling.is_none() && !self.signpost_unwritten
    }

    pub(super) fn flush_standing(&mut self) -> bool {
        if !self.standing_unwritten || self.pauses.is_paused() {
            return !self.standing_unwritten;
        }
        match self.standing.write(&self.shelf.path) {
            Ok(()) => self.standing_unwritten = false,
            Err(error) => {
                tracing::warn!(%error, "what has to be known at the next start waits to be written")
            }
        }
        !self.standing_unwritten
    }

    fn flush_generations(&mut self) -> bool {
        if self.unwritten.is_empty()
            || self.pauses.is_paused()
            || !self.has_ground()
            || !self.flush_standing()
        {
            return self.unwritten.is_empty();
        }
        while let Some((next, staged)) = self.unwritten.front_mut() {
            let written = match staged.take() {
                Some(staged) => self.shelf.generations.append_staged(staged),
                None => self.shelf.generations.append(next),
            };
            match written {
                Ok(()) => {}
                Err(AppendError::Write(error)) => {
                    tracing::warn!(generation = next.meta.generation.get(), %error, "a generation waits to be written");
                    return false;
                }
                // Time does not mend the others; the next generation must not wait for this one.
                Err(error) => {
                    tracing::error!(generation = next.meta.generation.get(), %error, "a generation cannot be kept");
                }
            }
            self.unwritten.pop_front();
        }
        true
    }

    /// Removes what has fallen out of the history, unless somebody copies it.
    pub(super) fn prune(&mut self) {
        if !self.pauses.is_paused() {
            self.shelf.generations.prune();
        }
    }

    fn flush_audit(&mut self) -> bool {
        if self.untold.is_empty() || self.pauses.is_paused() || !self.has_ground() {
            return self.untold.is_empty();
        }
        while let Some(next) = self.untold.front_mut() {
            match self.shelf.audit.append(next) {
                Ok(()) => {}
                Err(error @ AuditError::Io { .. }) => {
                    tracing::warn!(%error, "the audit log waits to be written");
                    return false;
                }
                // Time does not mend these; the lines behind it must not wait for it.
                Err(error) if shorten(next) => {
                    tracing::warn!(%error, "an audit line is written without its longest lists");
                    continue;
                }
                Err(error) => tracing::error!(%error, "an audit line cannot be written"),
            }
            self.untold.pop_front();
        }
        true
    }
}

/// Takes the lists that have no bound (a change of a federation names every member) out of an audit line; false if there are none.
fn shorten(line: &mut Value) -> bool {
    let take = |list: Option<&mut Value>| {
        list.and_then(Value::as_array_mut).map(std::mem::take).is_some_and(|list| !list.is_empty())
    };
    let changes = take(line.get_mut("changes"));
    let would_close = take(line.pointer_mut("/connections/would_close"));
    changes || would_close
}

/// `conf.yaml` and `peers.yaml`, with what `config` was made from.
fn files_of(config: &Config) -> [(PathBuf, Option<Arc<[u8]>>); 2] {
    let snapshot = &config.source.snapshot;
    [
        (config.source.path.clone(), Some(Arc::clone(&snapshot.conf))),
        (config.peers.file.clone(), snapshot.peers.clone()),
    ]
}
