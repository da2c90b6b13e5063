//! The node's history on disk: generations and the audit log behind the engine's [`Recorder`], with what a full disk keeps
//! back until there is room.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use reload::history::{Record, Recorder};
use reload::{Generation, Outcome};
use serde_json::Value;
use storage::generations::{AppendError, Damaged, Meta, NewGeneration, Snapshot};
use storage::{AuditLog, Generations};

use crate::config::Config;

/// How many generations and audit lines a full disk may keep back. Beyond it the oldest audit lines are given up; a
/// generation is then kept by the newest alone, since numbers have no gaps.
const MAX_KEPT_BACK: usize = 256;

/// How many audit lines are searched at a start for those that a kill cut short.
const LOOK_BACK: usize = 64;

/// Generations and audit log. Its methods block for file operations.
pub struct History(Mutex<Books>);

struct Books {
    generations: Generations,
    audit: AuditLog,
    /// Committed and not written yet, in order.
    unwritten: VecDeque<NewGeneration>,
    /// Audit lines that had no room, in order.
    untold: VecDeque<Value>,
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
    /// Opens the history in the data folder, and tells which files of it cannot be used.
    ///
    /// # Errors
    /// If the folder or the audit log cannot be opened.
    pub fn open(data_dir: &Path, keep: usize) -> Result<(Self, Vec<Damaged>), HistoryError> {
        let (generations, damaged) = Generations::open(&data_dir.join("generations"), keep)?;
        let audit = AuditLog::open(&data_dir.join("audit.jsonl"))?;
        let books = Books { generations, audit, unwritten: VecDeque::new(), untold: VecDeque::new() };
        Ok((Self(Mutex::new(books)), damaged))
    }

    /// The newest generation with its files; `None` before the first.
    ///
    /// # Errors
    /// If its file was damaged after the history was opened.
    pub fn latest(&self) -> Result<Option<Snapshot>, storage::generations::ReadError> {
        let books = self.lock();
        books.generations.latest().map(|latest| books.generations.read(latest)).transpose()
    }

    /// The number that the next generation takes: above every one that was kept, and every one that was told. (What was
    /// committed on a full disk and lost with a kill is told, and not kept.)
    #[must_use]
    pub fn next(&self) -> Generation {
        let books = self.lock();
        let told = books.audit.tail(1).unwrap_or_default();
        let told = told.last().and_then(|line| Generation::new(line["config_generation"].as_u64()?));
        told.map_or(Generation::FIRST, Generation::next).max(books.generations.next())
    }

    /// Whether the newest generation that was told is the newest that is kept.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let next = self.next();
        next == self.lock().generations.next()
    }

    /// What is known about the newest generations, newest first.
    ///
    /// # Errors
    /// Never yet; the audit log's twin, which can fail, is asked beside it.
    pub fn generations(&self, limit: usize) -> Result<Vec<Meta>, String> {
        Ok(self.lock().generations.list(limit))
    }

    /// The newest attempts, newest first.
    ///
    /// # Errors
    /// If the audit log cannot be read.
    pub fn audit_tail(&self, limit: usize) -> Result<Vec<Value>, String> {
        let mut entries = self.lock().audit.tail(limit).map_err(|error| error.to_string())?;
        entries.reverse();
        Ok(entries)
    }

    /// Kept generations whose outcome the audit log does not know, oldest first. Only those that are newer than the oldest of
    /// the lines that are searched, so that what was told long ago is not told again.
    #[must_use]
    pub fn not_audited(&self) -> Vec<Meta> {
        let books = self.lock();
        let told = books.audit.tail(LOOK_BACK).unwrap_or_default();
        // Ids are ULIDs: they sort by time.
        let Some(since) = told.first().and_then(|line| line["id"].as_str()) else {
            // No log at all: it was cut short at the very first start, or somebody took it away.
            return books
                .generations
                .list(2)
                .into_iter()
                .filter(|meta| meta.generation == Generation::FIRST)
                .collect();
        };
        let is_told = |meta: &Meta| told.iter().any(|line| line["id"] == meta.id.as_str());
        let newest = books.generations.list(LOOK_BACK);
        let mut missing: Vec<Meta> =
            newest.into_iter().filter(|meta| meta.id.as_str() > since && !is_told(meta)).collect();
        missing.reverse();
        missing
    }

    /// Makes the audit log durable: at the end of the process.
    pub fn sync(&self) {
        if let Err(error) = self.lock().audit.sync() {
            tracing::warn!(%error, "the audit log's last lines may not survive a power cut");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Books ===

impl Books {
    /// Writes what was kept back, oldest first; `true` when nothing is left.
    fn flush(&mut self) -> bool {
        self.flush_generations() & self.flush_audit()
    }

    fn flush_generations(&mut self) -> bool {
        while let Some(next) = self.unwritten.front() {
            match self.generations.append(next) {
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

    fn flush_audit(&mut self) -> bool {
        while let Some(next) = self.untold.front() {
            if let Err(error) = self.audit.append(next) {
                tracing::warn!(%error, "the audit log waits to be written");
                return false;
            }
            self.untold.pop_front();
        }
        true
    }
}

impl Recorder<Config> for History {
    fn record(&self, record: Record<Config>) -> bool {
        let snapshot = &record.config.source.snapshot;
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let first = record.generation == Generation::FIRST;
        let new = NewGeneration {
            meta: Meta {
                generation: record.generation,
                from_generation: (!first).then_some(record.from),
                id: record.id,
                trigger: record.origin.trigger.as_str().to_owned(),
                actor: record.origin.actor,
                note: record.origin.note,
                unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
                changes: serde_json::to_value(&record.changes).unwrap_or_default(),
            },
            conf: snapshot.conf.clone(),
            peers: snapshot.peers.clone(),
        };
        let mut books = self.lock();
        books.generations.set_keep(record.config.reload.history as usize);
        if books.unwritten.len() >= MAX_KEPT_BACK {
            books.unwritten.pop_front();
        }
        books.unwritten.push_back(new);
        books.flush_generations()
    }

    fn audit(&self, outcome: &Outcome) {
        let line = match serde_json::to_value(outcome) {
            Ok(line) => line,
            Err(error) => return tracing::error!(%error, "an outcome cannot be written down"),
        };
        let mut books = self.lock();
        if books.untold.len() >= MAX_KEPT_BACK {
            books.untold.pop_front();
        }
        books.untold.push_back(line);
        books.flush_audit();
    }

    fn tidy(&self) {
        self.lock().generations.prune();
    }

    fn retry(&self) -> bool {
        self.lock().flush()
    }
}
