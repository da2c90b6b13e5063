//! What the node learns of others is kept over a restart: `known.yaml` in the data folder (N9, contract: "peers.yaml").
//!
//! It is loaded beside the start, saved now and then and at the end. What a person has changed in the file meanwhile counts, from
//! the next save on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use net::Known;
use reload::Board;
use storage::known_file::{Hand, KnownFile, Opened, Saved};

use crate::engine::Current;

/// Between two saves. What is lost with a kill is learned again in one exchange.
const EVERY: Duration = Duration::from_secs(30);

/// Conflicts that are told one by one at a save; all are counted.
const MAX_TOLD: usize = 16;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keep(Arc<Inner>);

struct Inner {
    known: Known,
    current: Current,
    board: Arc<Board>,
    /// Nothing until it was loaded: before that, memory knows too little to be written.
    file: Mutex<Option<KnownFile>>,
    /// What went wrong at the last save: told once, not at every one.
    trouble: Mutex<Option<String>>,
}

// === impl Keep ===

impl Keep {
    /// Loads the file of the data folder, then saves to it now and then. To be called inside an actix system.
    pub(crate) fn start(known: Known, current: Current, board: Arc<Board>) -> Self {
        let keep = Self(Arc::new(Inner {
            known,
            current,
            board,
            file: Mutex::new(None),
            trouble: Mutex::new(None),
        }));
        actix::spawn(keep.clone().run());
        keep
    }

    async fn run(self) {
        let inner = Arc::clone(&self.0);
        // A person may have written it, and then each signature is looked at: a start does not wait for ten thousand of them.
        let loaded = tokio::task::spawn_blocking(move || inner.load()).await;
        if let Err(error) = loaded {
            return tracing::error!(%error, "what was known is not loaded, and nothing that is learned is kept");
        }
        loop {
            tokio::time::sleep(reload::fault::patience(EVERY)).await;
            // A reload may be about to take the folder elsewhere.
            if self.0.board.read().running.is_none() {
                self.save().await;
            }
        }
    }

    /// Writes down what is known now.
    pub(crate) async fn save(&self) {
        let inner = Arc::clone(&self.0);
        if let Err(error) = tokio::task::spawn_blocking(move || inner.save()).await {
            tracing::error!(%error, "what is known is not kept");
        }
    }
}

// === impl Inner ===

impl Inner {
    fn load(&self) {
        let Opened { file, entries, hand, troubles } = KnownFile::open(&self.current.load().history.data_dir);
        tell(&troubles);
        let (entries_read, taken) = (entries.len(), self.known.load(entries, hand));
        tracing::debug!(entries = entries_read, records = taken, "known.yaml is loaded");
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    fn save(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = file.as_mut() else { return };
        file.move_to(&self.current.load().history.data_dir);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let Saved { merged, troubles, .. } = match file.save(self.known.snapshot(), now) {
            Ok(saved) => saved,
            Err(error) => return self.failed(error.to_string()),
        };
        self.is_well();
        tell(&troubles);
        let Some((merged, hand)) = merged else { return };
        let other: HashSet<_> = merged.taken.into_iter().collect();
        let taken: Vec<_> =
            merged.entries.into_iter().filter(|entry| other.contains(&entry.public_key)).collect();
        let by = match hand {
            Hand::Node => "a node",
            Hand::Person => "a person",
        };
        tracing::info!(
            taken = taken.len(),
            forgotten = merged.forgotten.len(),
            conflicts = merged.conflicts.len(),
            by,
            "known.yaml was edited, and counts"
        );
        for key in merged.conflicts.iter().take(MAX_TOLD) {
            let kept = match (merged.forgotten.contains(key), other.contains(key)) {
                (true, _) => "removed, as the file has it",
                (false, true) => "the file's, with what both have signed",
                (false, false) => "what the node has learned",
            };
            tracing::info!(%key, kept, by, "known.yaml and memory had both changed what is known of a peer");
        }
        self.known.forget(&merged.forgotten);
        // Whoever it was: this node has not judged it.
        self.known.load(taken, Hand::Person);
    }
}

impl Inner {
    /// Another reason is told again.
    fn failed(&self, error: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref() != Some(&error) {
            let every = EVERY.as_secs();
            tracing::warn!(%error, every, "what is known is not kept; it is tried again, and told when it is");
        }
        *trouble = Some(error);
    }

    fn is_well(&self) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("what is known is kept again");
        }
    }
}

fn tell(troubles: &[String]) {
    for trouble in troubles {
        tracing::warn!(%trouble, "known.yaml");
    }
}
