//! Where generations and the audit log are kept: a trait, because this crate does not know the disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::plan::Change;
use crate::trigger::Origin;
use crate::{Generation, Problem};

/// A generation to be written down.
#[derive(Debug)]
pub struct Record<C> {
    /// Its number.
    pub generation: Generation,
    /// The one before.
    pub from: Generation,
    /// The id of the reload that made it.
    pub id: String,
    /// Who asked for it.
    pub origin: Origin,
    /// What changed, redacted.
    pub changes: Arc<Vec<Change>>,
    /// The configuration.
    pub config: Arc<C>,
    /// The configuration came from the history: the files are made to say it once it is written down.
    pub restore: bool,
}

/// A generation that goes back by itself unless somebody confirms it, also when the process dies meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// The generation to go back to.
    pub target: Generation,
    /// Until when, in milliseconds since 1970: what is left of it is counted anew at a start.
    pub by_unix_ms: u64,
    /// How long that was when it was asked for, in milliseconds. Not known of one that an earlier version wrote down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// What a record changes about the confirmation that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmChange {
    /// Nothing.
    Keep,
    /// From now on this one is awaited: to be on disk before the generation is, so that no kill can lose it.
    Begin(Unconfirmed),
    /// None is awaited any more, once the generation is on disk.
    End,
}

/// How a generation was written down.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// This one and all before are on disk.
    pub durable: bool,
    /// What a person should know: a file that could not be made to say what runs.
    pub warnings: Vec<Problem>,
}

// === impl Unconfirmed ===

impl Unconfirmed {
    /// To go back to `target` after so long, counted from now.
    #[must_use]
    pub fn begin(target: Generation, within: Duration) -> Self {
        let within = millis(within);
        Self { target, by_unix_ms: millis(unix_time()).saturating_add(within), within_ms: Some(within) }
    }

    /// Counted on by another process: never longer than was asked for, though the clock was set back meanwhile.
    #[must_use]
    pub fn count_on(self) -> Self {
        let latest = self.within_ms.map(|within| millis(unix_time()).saturating_add(within));
        Self { by_unix_ms: latest.map_or(self.by_unix_ms, |latest| latest.min(self.by_unix_ms)), ..self }
    }

    /// What is left of the time.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.by_unix_ms).saturating_sub(unix_time())
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps generations and the audit log. Called on a thread that may block.
pub trait Recorder<C>: Send + Sync + 'static {
    /// What may become a generation, while the components prepare: a recorder that brings it to the disk now has less to do
    /// in [`Recorder::record`]. It is no generation, whatever happens, until it is recorded; when an outcome with its id is
    /// audited without that, it never will be. Only one at a time is.
    fn stage(&self, record: &Record<C>) {
        let _ = record;
    }

    /// Writes a generation down, with what its commit changes about the confirmation that is awaited (not known yet when it is
    /// staged). What cannot be written now is kept for [`Recorder::retry`].
    fn record(&self, record: &Record<C>, confirm: ConfirmChange) -> Recorded;

    /// Makes the files say what `config`, a generation's, says: it runs already. `current` is the number under which.
    /// Returns what a person should know about it.
    fn restore(&self, config: &Arc<C>, current: Generation) -> Vec<Problem> {
        let _ = (config, current);
        Vec::new()
    }

    /// No confirmation is awaited any more. `true` when that is on disk.
    fn confirmed(&self) -> bool {
        true
    }

    /// Appends the outcome to the audit log; kept for later if the disk is full.
    fn audit(&self, outcome: &Outcome);

    /// Everybody has been answered: what can wait, as letting old generations go, is done here.
    fn tidy(&self) {}

    /// Whether nothing waits for [`Recorder::retry`].
    fn is_written(&self) -> bool {
        true
    }

    /// Whether every generation that was recorded is on disk: what an outcome that records none tells of the one that runs. Asked on
    /// the coordinator's own thread, so it must not wait for a disk.
    fn is_durable(&self) -> bool;

    /// Tries again to write what could not be written. `true` when nothing is left.
    fn retry(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn no_clock_makes_the_time_longer_than_was_asked_for() {
        let awaited = Unconfirmed::begin(Generation::FIRST, MINUTE);
        assert!(awaited.left() <= MINUTE);
        assert_eq!(awaited.count_on(), awaited, "the clock went on");
        // As it looks where the clock was set back by as much.
        let ahead = Unconfirmed { by_unix_ms: awaited.by_unix_ms + millis(100 * MINUTE), ..awaited };
        assert!(ahead.left() > MINUTE && ahead.count_on().left() <= MINUTE);
        let over = Unconfirmed { by_unix_ms: 1, ..awaited };
        assert_eq!((over.count_on(), over.left()), (over, Duration::ZERO));
        // Of an earlier version.
        let old: Unconfirmed = serde_json::from_str(r#"{"target": 1, "by_unix_ms": 7}"#).unwrap();
        assert_eq!((old.by_unix_ms, old.within_ms, old.count_on()), (7, None, old));
    }
}
