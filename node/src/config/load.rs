//! Loading a configuration: from its files, or from the bytes of a generation.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reload::Problem;

use super::judge::{Judge, Verdict};
use super::{Config, HeldFiles, Snapshot, certificates, files};

/// How a configuration is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// A missing private key is generated and written into the file that should hold it (N2): at a node's start. Without it
    /// (`check`) the key is only generated in memory, with a warning. Against a running node a missing key is a problem
    /// either way: the node has one.
    pub generate: bool,
}

/// A configuration that was accepted.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; the very one that runs where nothing has changed, and with its sections where they have not.
    pub config: Arc<Config>,
    /// What an operator should know nevertheless.
    pub warnings: Vec<Problem>,
    /// How long the reading of files took.
    pub read: Duration,
    /// How long parsing and judging took.
    pub validate: Duration,
    /// The node has no key yet, and the identity was made for the moment: the next load makes another. Never at a start,
    /// where the key is kept.
    pub temporary_key: bool,
    /// The bytes that were judged, after a generated key was written.
    pub snapshot: Snapshot,
}

/// Why a configuration was refused: everything that is wrong in all of its files.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", super::problems_text(problems))]
pub struct Rejection {
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
    /// What is odd besides.
    pub warnings: Vec<Problem>,
    /// How long the reading of files took.
    pub read: Duration,
    /// How long parsing and judging took.
    pub validate: Duration,
}

impl Config {
    /// Reads the configuration at `path`. Blocks on files; meant for a thread that may. `current` is what runs.
    ///
    /// # Errors
    /// With everything that is wrong, if anything is. What runs is not concerned.
    pub fn load(path: &Path, current: Option<&Arc<Self>>, options: LoadOptions) -> Result<Loaded, Rejection> {
        Self::load_past(&HeldFiles::default(), path, current, options)
    }

    /// The same, with the bytes of files that are held passed over.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_past(
        held: &HeldFiles,
        path: &Path,
        current: Option<&Arc<Self>>,
        options: LoadOptions,
    ) -> Result<Loaded, Rejection> {
        let started = Instant::now();
        let mut judge = Judge::new(path, current, options, held);
        let conf = judge.read_conf();
        let outcome = match conf {
            Ok(bytes) => judge.judge(bytes, None),
            Err(error) => {
                let problems = vec![error.problem(&path.display().to_string())];
                Err(Verdict { problems, warnings: Vec::new() })
            }
        };
        report(&judge, started, outcome)
    }

    /// Judges bytes in place of the files: a generation's snapshot. Files that they name are read from the disk; `peers`
    /// stands for `peers.yaml`, `None` for its absence. Nothing is written.
    ///
    /// # Errors
    /// With everything that is wrong, if anything is.
    pub fn from_snapshot(
        path: &Path,
        snapshot: Snapshot,
        current: Option<&Arc<Self>>,
    ) -> Result<Loaded, Rejection> {
        let started = Instant::now();
        let held = HeldFiles::default();
        let mut judge = Judge::new(path, current, LoadOptions::default(), &held);
        let outcome = judge.judge(snapshot.conf, Some(snapshot.peers));
        report(&judge, started, outcome)
    }
}

/// What comes of a judgement, with what it took.
fn report(
    judge: &Judge<'_>,
    started: Instant,
    outcome: Result<(Arc<Config>, Vec<Problem>), Verdict>,
) -> Result<Loaded, Rejection> {
    let (read, validate) = (judge.read, started.elapsed().saturating_sub(judge.read));
    match outcome {
        Ok((config, mut warnings)) => {
            warnings.extend(files::permissions(&config));
            warnings.extend(certificates::ending(&config));
            let snapshot = config.source.snapshot.clone();
            let temporary_key = config.source.temporary_key;
            Ok(Loaded { config, warnings, read, validate, temporary_key, snapshot })
        }
        Err(Verdict { problems, warnings }) => Err(Rejection { problems, warnings, read, validate }),
    }
}
