//! Which configuration a start runs: what the files say, the generation that an unconfirmed one goes back to, or, if the
//! operator says so, the last known good one (R18).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reload::{Generation, Problem, fault};
use storage::relocate::{self, NOTE, Taken};
use storage::standing::STANDING;
use storage::{DataDir, DataDirError, Incoming, MoveError, Signpost, SignpostError, Whereabouts};

use crate::config::{self, Config, HeldFiles, LoadOptions, Loaded, Loose, Rejection, Snapshot};
use crate::history::{History, HistoryError, Wrong};

/// How many generations are kept until the configuration says so.
const KEEP_ALL: usize = usize::MAX;

/// What a node is started from. The data folder is locked.
pub struct StartFrom {
    /// The configuration.
    pub loaded: Loaded,
    /// What the data folder knows. It holds the folder.
    pub history: History,
    /// What of that cannot be used.
    pub wrong: Wrong,
    /// Where the configuration comes from.
    pub from: From,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum From {
    /// The files.
    Files,
    /// This generation: the one after it was not confirmed in time.
    Unconfirmed {
        /// The generation that nobody confirmed went back to this one.
        target: Generation,
    },
    /// The newest generation that can run: the files are refused.
    LastKnownGood {
        /// Its number.
        generation: Generation,
        /// What is wrong with the files.
        problems: Vec<Problem>,
    },
}

/// Why nothing is started.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The configuration is wrong.
    #[error("configuration validation failed: {}", config::problems_text(.0))]
    Configuration(Vec<Problem>),
    /// Another instance runs, or the folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The history cannot be opened.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The history is in another folder, and cannot be had from there.
    #[error("the history of this node is not where node.data_dir says, and cannot be moved there: {0}")]
    Move(#[from] MoveError),
    /// Where it is cannot be read.
    #[error(transparent)]
    Signpost(#[from] SignpostError),
}

/// A data folder under its lock, with its history.
struct Place {
    history: History,
    wrong: Wrong,
    signpost: Signpost,
    /// A node was killed here: the history goes with the configuration, whichever folder that names.
    is_left: bool,
}

// === impl StartFrom ===

impl StartFrom {
    /// Chooses for the configuration at `path`. Blocks on files.
    ///
    /// # Errors
    /// If there is nothing that can run.
    pub fn choose(path: &Path, last_known_good: bool) -> Result<Self, Refused> {
        let signpost = Signpost::beside(path);
        let told = signpost.read()?;
        let chosen = Self::in_its_place(path, last_known_good, &signpost, told.as_ref())?;
        abandon(&signpost, &chosen.history.path())?;
        // What was left before, and now.
        for told in told.into_iter().chain(signpost.read()?) {
            let_go(&told);
        }
        chosen.history.settle_here();
        Ok(chosen)
    }

    /// Looks first where a node was killed, then where the file says.
    fn in_its_place(
        path: &Path,
        last_known_good: bool,
        signpost: &Signpost,
        told: Option<&Whereabouts>,
    ) -> Result<Self, Refused> {
        let said = Loose::read(path).unwrap_or_else(|| Loose::nothing(path)).data_dir();
        let said = std::path::absolute(&said).unwrap_or(said);
        let home = told.map(|told| relocate::home(told, &said)).transpose()?.flatten();
        if let Some(home) = home {
            let place = Place { is_left: true, ..Place::take_up(home, signpost)? };
            return place.choose(path, last_known_good);
        }
        if let Some(place) = Place::known_before_the_file(&said, last_known_good, signpost)? {
            return place.choose(path, last_known_good);
        }
        let loaded = load(path, &HeldFiles::default())?;
        let place = Place::open(&loaded.config.history.data_dir, signpost)?;
        place.start(loaded, From::Files)
    }
}

// === impl Place ===

impl Place {
    fn open(data_dir: &Path, signpost: &Signpost) -> Result<Self, Refused> {
        Self::take_up(DataDir::open(data_dir)?, signpost)
    }

    fn take_up(data_dir: DataDir, signpost: &Signpost) -> Result<Self, Refused> {
        fault::pass("start::history");
        // A predecessor was killed while it moved here, or moved away from here.
        if let Taken::Apart(other) = relocate::take_up(&data_dir, signpost)? {
            eprintln!(
                "Warning: {}: a move between this folder and {} was never finished, and each went its own way since; this one \
                 counts",
                data_dir.path().display(),
                other.display()
            );
        }
        Self::with_history(data_dir, signpost)
    }

    fn with_history(data_dir: DataDir, signpost: &Signpost) -> Result<Self, Refused> {
        let (history, wrong) = History::open(data_dir, KEEP_ALL, signpost.clone())?;
        Ok(Self { history, wrong, signpost: signpost.clone(), is_left: false })
    }

    /// The same in the folder that the configuration names which is started: the file was edited before a kill, or a generation comes
    /// back that names another one than the files do, which are made to say it next.
    fn moved_to(&self, to: &Path) -> Result<Option<Self>, Refused> {
        let from = self.history.path();
        if from == to {
            return Ok(None);
        }
        abandon(&self.signpost, to)?;
        // The signpost tells of one folder that was left, and is to tell of this one: killed here, nobody would know of the other.
        if let Some(told) = self.signpost.read()? {
            let_go(&told);
        }
        let announced = Whereabouts { moving_to: Some(to.into()), ..Whereabouts::at(&from) };
        self.signpost.put(&announced).map_err(MoveError::from)?;
        let place = match Incoming::copy(&from, to, || true) {
            Ok(incoming) => {
                let (data_dir, settling) = incoming.keep();
                settling.settle(&self.signpost).map_err(MoveError::from)?;
                Self::with_history(data_dir, &self.signpost)
            }
            // Killed when it was there, and before the files said so.
            Err(MoveError::Later { .. }) => Self::open(to, &self.signpost),
            Err(error) => Err(error.into()),
        };
        place.map(Some)
    }

    /// Starts on what is `loaded`, in the folder that it names.
    fn moved(self, loaded: Loaded, from: From) -> Result<StartFrom, Refused> {
        let place = self.moved_to(&loaded.config.history.data_dir)?;
        Ok(place.unwrap_or(self).with(loaded, from))
    }

    /// The data folder has a say if something stands in it, or if the operator asks for what it remembers.
    fn known_before_the_file(
        data_dir: &Path,
        last_known_good: bool,
        signpost: &Signpost,
    ) -> Result<Option<Self>, Refused> {
        let is_known = [STANDING, NOTE].iter().any(|name| data_dir.join(name).exists())
            || (last_known_good && data_dir.join("generations").is_dir());
        is_known.then(|| Self::open(data_dir, signpost)).transpose()
    }

    fn choose(self, path: &Path, last_known_good: bool) -> Result<StartFrom, Refused> {
        if let Some(target) = self.overdue() {
            match self.generation(path, target) {
                Ok(loaded) => match self.moved_to(&loaded.config.history.data_dir) {
                    Ok(place) => return Ok(place.unwrap_or(self).with(loaded, From::Unconfirmed { target })),
                    Err(error) => {
                        eprintln!("Warning: generation {target} was to come back, and cannot: {error}")
                    }
                },
                // It is tried again while the node runs on what the files say.
                Err(problems) => eprintln!(
                    "Warning: generation {target} was to come back, because the one after it was not confirmed in time, and \
                     cannot: {}",
                    config::problems_text(&problems)
                ),
            }
        }
        match load(path, &self.history.held()) {
            Ok(loaded) if loaded.config.history.data_dir == self.history.path() => {
                self.start(loaded, From::Files)
            }
            Ok(loaded) if self.is_left => {
                runnable(&loaded)?;
                self.moved(loaded, From::Files)
            }
            Ok(_) => {
                // Another folder than it seemed: what stands in this one is about another node.
                let signpost = self.signpost.clone();
                drop(self);
                let loaded = load(path, &HeldFiles::default())?;
                Self::open(&loaded.config.history.data_dir, &signpost)?.start(loaded, From::Files)
            }
            Err(Refused::Configuration(problems)) if last_known_good => {
                let newest = self.history.numbers().into_iter().find_map(|generation| {
                    self.generation(path, generation).ok().map(|loaded| (generation, loaded))
                });
                match newest {
                    Some((generation, loaded)) => {
                        let from = From::LastKnownGood { generation, problems };
                        if self.is_left { self.moved(loaded, from) } else { Ok(self.with(loaded, from)) }
                    }
                    None => Err(Refused::Configuration(problems)),
                }
            }
            Err(refused) => Err(refused),
        }
    }

    /// The generation to go back to, if the time to confirm the one after it is over.
    fn overdue(&self) -> Option<Generation> {
        let awaited = self.history.unconfirmed()?;
        awaited.left().is_zero().then_some(awaited.target)
    }

    /// A generation that can run here and now.
    fn generation(&self, path: &Path, generation: Generation) -> Result<Loaded, Vec<Problem>> {
        let loaded =
            from_history(&self.history, path, generation, None).map_err(|rejection| rejection.problems)?;
        let problems = config::resources(&loaded.config, None, &[]);
        if problems.is_empty() { Ok(loaded) } else { Err(problems) }
    }

    fn start(self, loaded: Loaded, from: From) -> Result<StartFrom, Refused> {
        // Under the lock only: a port that another instance of this very node holds would have been the wrong thing to
        // complain about.
        runnable(&loaded)?;
        Ok(self.with(loaded, from))
    }

    fn with(self, loaded: Loaded, from: From) -> StartFrom {
        let Self { history, wrong, .. } = self;
        StartFrom { loaded, history, wrong, from }
    }
}

/// Clears up a move that a kill has cut short, unless it was to the folder that will be `used`.
fn abandon(signpost: &Signpost, used: &Path) -> Result<(), SignpostError> {
    if let Some(Whereabouts { data_dir, moving_to: Some(copy), .. }) = signpost.read()?
        && copy != used
        && let Err(error) = relocate::abandon(&data_dir, &copy)
    {
        eprintln!("Warning: {}: a part of a copy that is not needed stays behind: {error}", copy.display());
    }
    Ok(())
}

/// Clears up what a predecessor had no time to take away from the folder that he left.
fn let_go(told: &Whereabouts) {
    if let Err(error) = relocate::let_go(told) {
        eprintln!("Warning: the pid file or the socket of a killed node stays behind: {error}");
    }
}

/// Looks whether this can run here and now, and sweeps where it will.
fn runnable(loaded: &Loaded) -> Result<(), Refused> {
    let problems = config::resources(&loaded.config, None, &[]);
    if !problems.is_empty() {
        return Err(Refused::Configuration(problems));
    }
    sweep(&loaded.config);
    Ok(())
}

/// Removes what a killed predecessor has left beside the files that it wrote: copies of them, with the key in it. The data folder
/// is swept when it is opened.
fn sweep(config: &Config) {
    for path in [&config.source.path, &config.peers.file, &config.admin.socket] {
        config::sweep(path);
    }
}

fn load(path: &Path, held: &HeldFiles) -> Result<Loaded, Refused> {
    Config::load_past(held, path, None, LoadOptions { generate: true })
        .map_err(|rejection| Refused::Configuration(rejection.problems))
}

/// Loads what a generation said, for the configuration at `path`.
///
/// # Errors
/// If it is not in the history, or would not be accepted today.
pub fn from_history(
    history: &History,
    path: &Path,
    generation: Generation,
    current: Option<&Arc<Config>>,
) -> Result<Loaded, Rejection> {
    let snapshot = history.read(generation).map_err(|error| Rejection {
        problems: vec![Problem::new(reload::Class::Validation, error.to_string())],
        warnings: Vec::new(),
        read: Duration::ZERO,
        validate: Duration::ZERO,
    })?;
    let snapshot = Snapshot { conf: snapshot.conf.into(), peers: snapshot.peers.map(Into::into) };
    Config::from_snapshot(path, snapshot, current)
}

#[cfg(test)]
mod tests;
