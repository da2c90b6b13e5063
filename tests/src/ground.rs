//! What a node leaves on the disk, judged from outside: whole files, an unbroken history, no leftovers, no secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use serde_json::Value;
use storage::generations::record::{self, Checksum, Peers};

/// A generation as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The outcome's id.
    pub id: String,
    /// The one before.
    pub from: Option<u64>,
    /// `conf.yaml`.
    pub conf: Vec<u8>,
    /// `peers.yaml`.
    pub peers: Option<Vec<u8>>,
}

/// All that a data folder remembers.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The generations that are kept.
    pub generations: BTreeMap<u64, Kept>,
    /// The audit log's lines, with those of files put aside.
    pub audit: Vec<Value>,
}

// === impl Ground ===

impl Ground {
    /// Reads a data folder, changing nothing, and asserts what must be true of it at any instant, also after a kill: each
    /// generation whole, no id told twice, no number twice.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn read(data_dir: &Path, what: &str) -> Self {
        let mut generations = BTreeMap::new();
        let folder = data_dir.join("generations");
        for path in files(&folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(number) = name.strip_suffix(".gen") else { continue };
            // One that was pruned since it was listed.
            let Ok(bytes) = fs::read(&path) else { continue };
            let record = record::decode(&bytes).unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
            let number: u64 = number.parse().unwrap_or_else(|_| panic!("{what}: {name} is no generation"));
            assert_eq!(record.meta.generation.get(), number, "{what}: {name} says another number");
            let peers = match record.peers {
                Peers::Missing => None,
                Peers::Inline(bytes) => Some(bytes.to_vec()),
                Peers::Blob(sum) => {
                    let bytes = match fs::read(folder.join(format!("peers-{sum}.yaml"))) {
                        Ok(bytes) => bytes,
                        // Pruned since it was read, the record first.
                        Err(_) if !path.exists() => continue,
                        Err(error) => panic!("{what}: the peers of {name}: {error}"),
                    };
                    assert_eq!(Checksum::of(&bytes), sum, "{what}: the peers of {name}");
                    Some(bytes)
                }
            };
            let from = record.meta.from_generation.map(reload::Generation::get);
            assert!(from.is_none_or(|from| from < number), "{what}: {name} comes from {from:?}");
            let kept = Kept { id: record.meta.id.clone(), from, conf: record.conf.to_vec(), peers };
            generations.insert(number, kept);
        }
        let ground = Self { generations, audit: audit(data_dir, what) };
        ground.assert_ids(what);
        ground
    }

    fn assert_ids(&self, what: &str) {
        let mut ids = BTreeSet::new();
        for line in &self.audit {
            let id = line["id"].as_str().unwrap_or_else(|| panic!("{what}: no id in {line}"));
            assert!(ids.insert(id), "{what}: {id} is told twice: {:#?}", self.numbers());
        }
        let kept: BTreeSet<_> = self.generations.values().map(|kept| &kept.id).collect();
        assert_eq!(kept.len(), self.generations.len(), "{what}: an id stands in two generations");
    }

    /// What must be true at rest: every kept generation has its line, and no number was given to two generations.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_unbroken(&self, what: &str) {
        let mut last = 0;
        for line in &self.audit {
            let number = line["config_generation"].as_u64().unwrap_or_else(|| panic!("{what}: {line}"));
            assert!(number >= last, "{what}: generation {number} after {last}: {:#?}", self.numbers());
            let is_new =
                line["outcome"] == "committed" && line["from_generation"] != line["config_generation"];
            assert!(!is_new || number > last, "{what}: generation {number} twice: {:#?}", self.numbers());
            last = number;
        }
        for (number, kept) in &self.generations {
            let line = self.audit.iter().find(|line| line["id"] == kept.id.as_str());
            let line = line.unwrap_or_else(|| {
                panic!("{what}: generation {number} ({}) has no line: {:#?}", kept.id, self.numbers())
            });
            assert_eq!(line["config_generation"], *number, "{what}: {line}");
        }
    }

    /// The newest generation.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.generations.keys().next_back().copied()
    }

    /// The newest lines in short, for whoever looks for the reason of a failure.
    #[must_use]
    pub fn numbers(&self) -> Vec<String> {
        let line = |line: &Value| {
            format!(
                "{} {} -> {} {} {} {}",
                line["outcome"],
                line["from_generation"],
                line["config_generation"],
                line["trigger"],
                line["message"],
                line["id"]
            )
        };
        self.audit.iter().rev().take(12).rev().map(line).collect()
    }
}

/// The lines of the audit log, oldest first; what a test has filled it up with left out.
fn audit(data_dir: &Path, what: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    for number in (0..=storage::audit::BACKUPS).rev() {
        let name = if number == 0 { "audit.jsonl".to_owned() } else { format!("audit.jsonl.{number}") };
        let text = fs::read_to_string(data_dir.join(name)).unwrap_or_default();
        // The last line may be under way, or torn by a kill.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{what}: {e}: {line}"));
            if line.get("filler").is_none() {
                lines.push(line);
            }
        }
    }
    lines
}

/// Temporary files below a folder.
#[must_use]
pub fn leftovers(folder: &Path) -> Vec<PathBuf> {
    all_files(folder)
        .into_iter()
        .filter(|path| path.file_name().unwrap_or_default().to_string_lossy().contains(".tmp-"))
        .collect()
}

/// Files below a folder that hold one of these texts, besides those that are there to hold them. Each file is read once, however
/// many texts there are.
///
/// # Panics
/// If the texts are more than an automaton can have states for.
#[must_use]
pub fn telltales<S: AsRef<str>>(folder: &Path, secrets: &[S]) -> Vec<PathBuf> {
    let secrets = AhoCorasick::new(secrets.iter().map(S::as_ref)).expect("gigabytes of secrets are not had");
    let holds_secrets = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("conf.yaml") || name == "node.key" || name.ends_with(".gen")
    };
    let tells = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| secrets.is_match(&bytes));
    all_files(folder).into_iter().filter(|path| !holds_secrets(path) && tells(path)).collect()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in files(folder) {
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
