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
    /// Reads a data folder, changing nothing, and asserts what must be true of it at any instant, also after a kill: see
    /// [`examine`](Self::examine).
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn read(data_dir: &Path, what: &str) -> Self {
        Self::examine(data_dir).unwrap_or_else(|wrong| panic!("{what}: {wrong}"))
    }

    /// Reads a data folder, changing nothing: each generation whole, no id told twice, no number twice.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub fn examine(data_dir: &Path) -> Result<Self, String> {
        let mut generations = BTreeMap::new();
        let folder = data_dir.join("generations");
        for path in files(&folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".gen") else { continue };
            // One that was pruned since it was listed.
            let Ok(bytes) = fs::read(&path) else { continue };
            let record = record::decode(&bytes).map_err(|error| format!("{name}: {error}"))?;
            let number: u64 = stem.parse().map_err(|_| format!("{name} is no generation"))?;
            let said = record.meta.generation.get();
            ensure(said == number, || format!("{name} says {said}"))?;
            let peers = match record.peers {
                Peers::Missing => None,
                Peers::Inline(bytes) => Some(bytes.to_vec()),
                Peers::Blob(sum) => {
                    let bytes = match fs::read(folder.join(format!("peers-{sum}.yaml"))) {
                        Ok(bytes) => bytes,
                        // Pruned since it was read, the record first.
                        Err(_) if !path.exists() => continue,
                        Err(error) => return Err(format!("the peers of {name}: {error}")),
                    };
                    ensure(Checksum::of(&bytes) == sum, || {
                        format!("the peers of {name} are not those of then")
                    })?;
                    Some(bytes)
                }
            };
            let from = record.meta.from_generation.map(reload::Generation::get);
            ensure(from.is_none_or(|from| from < number), || format!("{name} comes from {from:?}"))?;
            let kept = Kept { id: record.meta.id.clone(), from, conf: record.conf.to_vec(), peers };
            generations.insert(number, kept);
        }
        let ground = Self { generations, audit: audit(data_dir)? };
        ground.examine_ids()?;
        Ok(ground)
    }

    fn examine_ids(&self) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        for line in &self.audit {
            let id = line["id"]
                .as_str()
                .ok_or_else(|| format!("an audit line has no id: {}", shortened(&line.to_string())))?;
            ensure(ids.insert(id), || format!("{id} is told twice: {:#?}", self.numbers()))?;
        }
        let kept: BTreeSet<_> = self.generations.values().map(|kept| &kept.id).collect();
        ensure(kept.len() == self.generations.len(), || "an id stands in two generations".to_owned())
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
fn audit(data_dir: &Path) -> Result<Vec<Value>, String> {
    let mut lines = Vec::new();
    for number in (0..=storage::audit::BACKUPS).rev() {
        let name = if number == 0 { "audit.jsonl".to_owned() } else { format!("audit.jsonl.{number}") };
        let text = fs::read_to_string(data_dir.join(&name)).unwrap_or_default();
        // The last line may be under way, or torn by a kill.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line)
                .map_err(|error| format!("a line of {name} is no JSON: {error}: {}", shortened(line)))?;
            if line.get("filler").is_none() {
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

/// The beginning of a text that may be long.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push_str(" …");
    }
    short
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
