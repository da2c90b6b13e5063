//! The node's history on disk: generations and the audit log behind the engine's [`Recorder`], with what a full disk keeps
//! back until there is room.

mod books;
mod ground;
mod keeper;
mod moving;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reload::{Class, ConfirmChange, Generation, Outcome, Problem, Record, Recorded, Recorder, Unconfirmed};
use serde_json::Value;
use storage::generations::{Damaged, Meta, NewGeneration, ReadError, Snapshot};
use storage::standing::StandingError;
use storage::{DataDir, Signpost, Standing};

use crate::config::{Config, HeldFiles};
use crate::logging::LoggingHandle;
use books::{Books, Shelf};
pub use keeper::Keeper;
use moving::Pauses;

/// How many audit lines are searched at a start for those that a kill cut short.
const LOOK_BACK: usize = 64;

/// How long an audit line waits for the log. A healthy one needs less than a millisecond.
const LOG_WITHIN: Duration = Duration::from_millis(500);

/// Generations, audit log, and what stands besides. Its methods block for file operations.
pub struct History {
    books: Mutex<Books>,
    /// The books', to be read without them.
    is_durable: Arc<AtomicBool>,
    held: Arc<HeldFiles>,
    pauses: Arc<Pauses>,
    /// One copy at a time, also where one is stuck that nobody waits for any more.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What is told in the audit log stands in the log before.
    log: OnceLock<LoggingHandle>,
}

/// What was found wrong when the history was opened.
#[derive(Debug, Default)]
pub struct Wrong {
    /// Generations that cannot be used.
    pub damaged: Vec<Damaged>,
    /// What stood besides cannot.
    pub standing: Option<StandingError>,
}

/// Why the history cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The generations cannot.
    #[error(transparent)]
    Generations(#[from] storage::generations::OpenError),
    /// The audit log cannot.
    #[error(transparent)]
    Audit(#[from] storage::audit::AuditError),
}

// === impl History ===

impl History {
    /// Opens the history in the data folder, which it holds from here on, and tells which files of it cannot be used. The signpost
    /// is made to say so by [`History::settle_here`] and with each move.
    ///
    /// # Errors
    /// If the folder or the audit log cannot be opened.
    pub fn open(data_dir: DataDir, keep: usize, signpost: Signpost) -> Result<(Self, Wrong), HistoryError> {
        let (shelf, damaged) = Shelf::open(data_dir.path(), keep)?;
        let (standing, wrong) = match Standing::read(data_dir.path()) {
            Ok(standing) => (standing, None),
            Err(error) => (Standing::default(), Some(error)),
        };
        let (held, pauses) = (Arc::new(HeldFiles::default()), Arc::default());
        let mut books = Books::new(data_dir, shelf, standing, &held, &pauses, signpost);
        // To be written down: the clock may be put right again before the next start.
        books.await_confirmation(books.standing.unconfirmed.map(Unconfirmed::count_on));
        let is_durable = Arc::clone(&books.is_durable);
        let history = Self {
            books: Mutex::new(books),
            is_durable,
            held,
            pauses,
            turn: Arc::default(),
            log: OnceLock::new(),
        };
        Ok((history, Wrong { damaged, standing: wrong }))
    }

    /// From now on an audit line waits, for a moment at most, until the log says what it tells (contract: "Order of sight").
    pub fn speak_after(&self, log: LoggingHandle) {
        // Once, at the start.
        let _ = self.log.set(log);
    }

    /// How many generations, and replaced files, are kept from now on.
    pub fn keep(&self, keep: usize) {
        self.lock().set_keep(keep);
    }

    /// The files whose bytes are passed over.
    #[must_use]
    pub fn held(&self) -> Arc<HeldFiles> {
        Arc::clone(&self.held)
    }

    /// The confirmation that is awaited.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.lock().standing.unconfirmed
    }

    /// A generation with its files.
    ///
    /// # Errors
    /// If it is not in the history or its file is damaged.
    pub fn read(&self, generation: Generation) -> Result<Snapshot, ReadError> {
        self.lock().shelf.generations.read(generation)
    }

    /// The numbers of the generations that can be gone back to, newest first.
    #[must_use]
    pub fn numbers(&self) -> Vec<Generation> {
        self.lock().shelf.generations.numbers().collect()
    }

    /// The newest generation with its files; `None` before the first.
    ///
    /// # Errors
    /// If its file was damaged after the history was opened.
    pub fn latest(&self) -> Result<Option<Snapshot>, ReadError> {
        let books = self.lock();
        books.shelf.generations.latest().map(|latest| books.shelf.generations.read(latest)).transpose()
    }

    /// The number that the next generation takes: above every one that was kept, and every one that was told. (What was
    /// committed on a full disk and lost with a kill is told, and not kept.)
    #[must_use]
    pub fn next(&self) -> Generation {
        let books = self.lock();
        let told = books.shelf.audit.tail(1).unwrap_or_default();
        let told = told.last().and_then(|line| Generation::new(line["config_generation"].as_u64()?));
        told.map_or(Generation::FIRST, Generation::next).max(books.shelf.generations.next())
    }

    /// Whether the newest generation that was told is the newest that is kept.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let next = self.next();
        next == self.lock().shelf.generations.next()
    }

    /// What is known about the newest generations, newest first.
    ///
    /// # Errors
    /// Never yet; the audit log's twin, which can fail, is asked beside it.
    pub fn generations(&self, limit: usize) -> Result<Vec<Meta>, String> {
        Ok(self.lock().shelf.generations.list(limit))
    }

    /// The newest attempts, newest first.
    ///
    /// # Errors
    /// If the audit log cannot be read.
    pub fn audit_tail(&self, limit: usize) -> Result<Vec<Value>, String> {
        let mut entries = self.lock().shelf.audit.tail(limit).map_err(|error| error.to_string())?;
        entries.reverse();
        Ok(entries)
    }

    /// Kept generations whose outcome the audit log does not know, oldest first. Only those that are newer than the oldest of
    /// the lines that are searched, so that what was told long ago is not told again.
    #[must_use]
    pub fn not_audited(&self) -> Vec<Meta> {
        let books = self.lock();
        let told = books.shelf.audit.tail(LOOK_BACK).unwrap_or_default();
        // Ids are ULIDs: they sort by time.
        let Some(since) = told.iter().find_map(|line| line["id"].as_str()) else {
            // No log at all: it was cut short at the very first start, or somebody took it away.
            return books
                .shelf
                .generations
                .list(2)
                .into_iter()
                .filter(|meta| meta.generation == Generation::FIRST)
                .collect();
        };
        let is_told = |meta: &Meta| told.iter().any(|line| line["id"] == meta.id.as_str());
        let newest = books.shelf.generations.list(LOOK_BACK);
        let mut missing: Vec<Meta> =
            newest.into_iter().filter(|meta| meta.id.as_str() > since && !is_told(meta)).collect();
        missing.reverse();
        missing
    }

    /// Makes the audit log durable: at the end of the process.
    pub fn sync(&self) {
        if let Err(error) = self.lock().shelf.audit.sync() {
            tracing::warn!(%error, "the audit log's last lines may not survive a power cut");
        }
    }

    /// Whether everything is written, without waiting for a disk: while it is being written it is not.
    #[must_use]
    pub fn is_on_disk(&self) -> bool {
        match self.books.try_lock() {
            Ok(books) => books.is_written(),
            Err(TryLockError::Poisoned(books)) => books.into_inner().is_written(),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder<Config> for History {
    fn stage(&self, record: &Record<Config>) {
        self.lock().stage(generation_of(record));
    }

    /// In this order: what must stand before the generation does, the generation, then the files that are to say it. Killed
    /// in between, the next start finds either generation whole, and knows what is left to do.
    fn record(&self, record: &Record<Config>, confirm: ConfirmChange) -> Recorded {
        // Past the point of return, whether or not it was told so.
        self.settle();
        let mut books = self.lock();
        books.set_keep(record.config.reload.history as usize);
        if let ConfirmChange::Begin(unconfirmed) = confirm {
            books.await_confirmation(Some(unconfirmed));
        }
        if record.restore {
            books.hold(&record.config, record.generation);
        }
        books.keep(&record.id, || generation_of(record));
        let mut durable = books.flush();
        let mut warnings =
            if record.restore { books.restore(&record.config, record.from) } else { Vec::new() };
        warnings.extend(books.left.take().map(|left| left_behind(&left)));
        if matches!(confirm, ConfirmChange::Begin(_)) && !durable {
            let message = "that this generation has to be confirmed is not on disk: if the node dies before it is, it does not go back";
            warnings.push(Problem::new(Class::System, message).hint("make room, then confirm or roll back"));
        }
        if confirm == ConfirmChange::End {
            books.await_confirmation(None);
            durable &= books.flush_standing();
        }
        Recorded { durable, warnings }
    }

    fn restore(&self, config: &Arc<Config>, current: Generation) -> Vec<Problem> {
        let mut books = self.lock();
        books.hold(config, current);
        books.flush_standing();
        books.restore(config, current)
    }

    fn confirmed(&self) -> bool {
        let mut books = self.lock();
        books.await_confirmation(None);
        books.flush_standing()
    }

    fn audit(&self, outcome: &Outcome) {
        if let Some(log) = self.log.get() {
            log.flush(LOG_WITHIN);
        }
        match serde_json::to_value(outcome) {
            Ok(line) => {
                let mut books = self.lock();
                books.unstage(&outcome.id);
                books.let_go_of_changed();
                books.flush_standing();
                books.tell(line);
            }
            Err(error) => tracing::error!(%error, "an outcome cannot be written down"),
        }
    }

    fn tidy(&self) {
        self.lock().prune();
    }

    fn is_written(&self) -> bool {
        self.lock().is_written()
    }

    fn is_durable(&self) -> bool {
        self.is_durable.load(Ordering::Acquire)
    }

    fn retry(&self) -> bool {
        self.lock().flush()
    }
}

fn left_behind(folder: &Path) -> Problem {
    let message = "is not the node's any more; what it holds stays, with a note where the history goes on";
    Problem::new(Class::System, message)
        .file(folder.display().to_string())
        .hint("remove it when nobody needs it, or name it again to move back")
}

/// What is kept of a record.
fn generation_of(record: &Record<Config>) -> NewGeneration {
    let snapshot = &record.config.source.snapshot;
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let first = record.generation == Generation::FIRST;
    NewGeneration {
        meta: Meta {
            generation: record.generation,
            from_generation: (!first).then_some(record.from),
            id: record.id.clone(),
            trigger: record.origin.trigger.as_str().to_owned(),
            actor: record.origin.actor.clone(),
            note: record.origin.note.clone(),
            unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
            changes: serde_json::to_value(&*record.changes).unwrap_or_default(),
        },
        conf: snapshot.conf.clone(),
        peers: snapshot.peers.clone(),
    }
}
