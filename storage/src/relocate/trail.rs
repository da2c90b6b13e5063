//! What two data folders have to do with each other, by the ids of what was tried in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use reload::Generation;

use super::{AUDIT, GENERATIONS, KNOWN, MoveError};
use crate::audit;
use crate::generations::{self, Generations};
use crate::standing::STANDING;

/// How many audit lines are searched for the newest attempt.
const LOOK_BACK: usize = 16;

/// What two folders have to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The other one holds nothing.
    Nothing,
    /// It holds an earlier copy, or the same.
    Earlier,
    /// It holds more.
    Later,
    /// It holds something else.
    Another,
}

/// What a folder remembers, by the ids of its attempts.
#[derive(Debug)]
pub(super) struct Trail {
    audit: PathBuf,
    generations: BTreeMap<Generation, String>,
    last_told: Option<String>,
    is_empty: bool,
}

// === impl Trail ===

impl Trail {
    fn of(data_dir: &Path) -> Result<Self, MoveError> {
        let mut kept = BTreeMap::new();
        if Self::has_generations(data_dir)? {
            let (store, _) = Generations::open(&data_dir.join(GENERATIONS), usize::MAX)?;
            kept = store.list(usize::MAX).into_iter().map(|meta| (meta.generation, meta.id)).collect();
        }
        let lines = audit::tail(&data_dir.join(AUDIT), LOOK_BACK)?;
        Ok(Self {
            audit: data_dir.join(AUDIT),
            generations: kept,
            last_told: lines.iter().rev().find_map(|line| line["id"].as_str().map(str::to_owned)),
            is_empty: Self::is_empty(data_dir)?,
        })
    }

    /// Whether a folder holds nothing that a node keeps: nor does a file in which nothing stands, as an undoing that was cut short leaves
    /// it.
    pub(super) fn is_empty(data_dir: &Path) -> Result<bool, MoveError> {
        let holds_something = |path: PathBuf| {
            path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file() || metadata.len() > 0)
        };
        let has_others = audit::names(&data_dir.join(AUDIT))
            .chain([STANDING, KNOWN].map(|name| data_dir.join(name)))
            .any(holds_something);
        Ok(!has_others && !Self::has_generations(data_dir)?)
    }

    fn has_generations(data_dir: &Path) -> Result<bool, MoveError> {
        let folder = data_dir.join(GENERATIONS);
        let at = |source| generations::OpenError { path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(at(error).into()),
        };
        for entry in entries {
            if generations::is_own(&entry.map_err(at)?.file_name().to_string_lossy()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn knows(&self, id: &str) -> Result<bool, MoveError> {
        Ok(self.generations.values().any(|kept| kept == id) || audit::mentions(&self.audit, id)?)
    }

    /// Whether the newest that it remembers is in the past of `other`.
    fn is_within(&self, other: &Self) -> Result<bool, MoveError> {
        let Some(newest) = self.newest() else { return Ok(false) };
        Ok(other.knows(newest)? && self.last_told.as_ref().map_or(Ok(true), |id| other.knows(id))?)
    }

    fn newest(&self) -> Option<&str> {
        let generation = self.generations.last_key_value().map(|(_, id)| id);
        generation.or(self.last_told.as_ref()).map(String::as_str)
    }
}

/// What `to` holds, seen from `from`. Ids are never given twice, so one that both know is a part of their past that they share.
pub(super) fn relation(from: &Path, to: &Path) -> Result<Relation, MoveError> {
    let (from, to) = (Trail::of(from)?, Trail::of(to)?);
    if to.is_empty {
        return Ok(Relation::Nothing);
    }
    let differ =
        |(number, id): (&Generation, &String)| to.generations.get(number).is_some_and(|other| other != id);
    if from.generations.iter().any(differ) {
        return Ok(Relation::Another);
    }
    Ok(if to.is_within(&from)? {
        Relation::Earlier
    } else if from.is_empty || from.is_within(&to)? {
        Relation::Later
    } else {
        Relation::Another
    })
}

/// Whether two paths lead to one folder.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    one == other || id(one).is_some_and(|one| Some(one) == id(other))
}
