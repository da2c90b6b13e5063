//! Where it is counted and told that lines are lost: on the other output, or on stderr.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::SystemTime;

use super::line::Line;
use super::output::Outputs;
use crate::config::logging::LogFormat;

/// What somebody should hear of after a write, once.
#[derive(Debug)]
pub(super) enum Note {
    /// A line was lost, after one that was not.
    Failing(io::Error),
    /// Lines are written again, after so many were lost.
    Recovered(u64),
    /// The file could not be rotated and grows on.
    NotRotated(io::Error),
    /// Lines wait for an output that does not answer.
    Waiting,
}

/// An output, for people.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Console,
    File(PathBuf),
    /// Where nothing is told of any more: there is no other place.
    Stderr,
}

/// The count of what was lost, and the way to the outputs for the threads behind them.
#[derive(Debug, Default)]
pub(super) struct Desk {
    lost: AtomicU64,
    outputs: OnceLock<Weak<Outputs>>,
}

// === impl Desk ===

impl Desk {
    /// These are the outputs.
    pub(super) fn open(&self, outputs: Weak<Outputs>) {
        // Once, where they are made.
        let _ = self.outputs.set(outputs);
    }

    /// Counts a line that was not written.
    pub(super) fn count(&self, written: bool) {
        if !written {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Tells it somewhere else than in `place`. Never waits.
    pub(super) fn tell(&self, place: &Place, note: &Note) {
        if let Some(outputs) = self.outputs() {
            outputs.tell(place, &self.notice(place, note));
        }
    }

    /// A line that tells of it, in the format of this moment.
    pub(super) fn notice(&self, place: &Place, note: &Note) -> Line {
        let format = self.outputs().map_or(LogFormat::Json, |outputs| outputs.live.load().section.format);
        let (what, path) = match place {
            Place::Console => ("console", "stdout".to_owned()),
            Place::File(path) => ("log file", path.display().to_string()),
            Place::Stderr => ("console", "stderr".to_owned()),
        };
        let (message, detail) = match note {
            Note::Failing(error) => ("log lines are being lost", Some(("error", error.to_string()))),
            Note::Recovered(lost) => ("log lines were lost", Some(("lost", lost.to_string()))),
            Note::NotRotated(error) => {
                ("the log file cannot be rotated and grows on", Some(("error", error.to_string())))
            }
            Note::Waiting => ("log lines wait: what they are written to does not answer", None),
        };
        let mut fields = vec![("output", what), ("path", path.as_str())];
        fields.extend(detail.as_ref().map(|(key, value)| (*key, value.as_str())));
        let mut line = Line::default();
        line.notice(format, SystemTime::now(), message, &fields);
        line
    }

    fn outputs(&self) -> Option<std::sync::Arc<Outputs>> {
        self.outputs.get().and_then(Weak::upgrade)
    }
}
