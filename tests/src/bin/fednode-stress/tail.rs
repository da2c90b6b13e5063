//! Follows a node's audit log, whatever happens to the node, and judges each line.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::finding::Rule;
use crate::trouble::Kind;
use crate::world::{Phase, World};

const BETWEEN: Duration = Duration::from_millis(50);

/// By how many milliseconds more a reload may be late when the harness itself keeps every core busy.
const STRAINED: f64 = 2_000.0;

/// The log, from where it was read to.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: Option<File>,
    /// The end of the last whole line.
    at: u64,
}

/// Follows it to the end.
pub(crate) async fn follow(world: Arc<World>, index: usize) {
    let place = &world.places[index];
    let mut log = Log { path: place.data().join("audit.jsonl"), file: None, at: 0 };
    loop {
        let is_last = world.phase() >= Phase::Over;
        // Before the look: what is read then was written by this one or by an earlier one.
        let life = place.life();
        match log.lines() {
            Ok(lines) => lines.iter().for_each(|line| take(&world, index, life, line)),
            Err(error) => {
                let text = format!("{} cannot be read: {error}", log.path.display());
                world.found(Rule::Files, Some(index), text);
            }
        }
        place.book.is_read();
        if is_last {
            return;
        }
        world.wait(BETWEEN, Phase::Over).await;
    }
}

fn take(world: &World, index: usize, life: u32, line: &str) {
    let place = &world.places[index];
    let line: Value = match serde_json::from_str(line) {
        Ok(line) => line,
        Err(error) => {
            let beginning: String = line.chars().take(200).collect();
            world.found(
                Rule::Files,
                Some(index),
                format!("an audit line is no JSON: {error}: {beginning} …"),
            );
            return;
        }
    };
    let now = world.now();
    let scenario = &world.scenario;
    let mut limit = millis(scenario.budget + scenario.slack);
    let duration = line["duration_ms"].as_f64().unwrap_or_default();
    let since = now.saturating_sub(duration as u64 + 1_000);
    if line["trigger"] == "startup" || world.troubles.is(Kind::Stopped, index, since, now) {
        // A start has no budget, and the clock of a process that stands still goes on.
        limit = f64::MAX;
    } else if world.troubles.is(Kind::Strained, index, since, now) {
        limit += STRAINED;
    }
    for (rule, text) in place.book.take(now, life, limit, &line) {
        world.found(rule, Some(index), text);
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

// === impl Log ===

impl Log {
    /// The whole lines that are new.
    fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let Some(there) = stat(&self.path)? else { return Ok(lines) };
        if let Some(file) = &mut self.file {
            let ours = file.metadata()?;
            if ours.ino() != there.0 {
                // Put aside: what was written to it before is there.
                self.at = rest(file, self.at, &mut lines)?;
                self.file = None;
            } else if ours.len() < self.at {
                // A torn line is cut off, whole ones never: the book passes over those that it has.
                self.at = 0;
            }
        }
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => (self.file, self.at) = (Some(file), 0),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
                Err(error) => return Err(error),
            }
        }
        if let Some(file) = &mut self.file {
            self.at = rest(file, self.at, &mut lines)?;
        }
        Ok(lines)
    }
}

/// Inode and length, if it is there.
fn stat(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.ino(), metadata.len()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the whole lines from there on; returns where they end.
fn rest(file: &mut File, at: u64, lines: &mut Vec<String>) -> io::Result<u64> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(at) };
    lines.extend(String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned));
    Ok(at + end as u64 + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_whole_line_is_read_once_through_torn_ones_and_rotations() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let mut log = Log { path: path.clone(), file: None, at: 0 };
        let mut lines = |text: &str| {
            fs::write(&path, text).expect("it can be written");
            log.lines().expect("it can be read")
        };
        assert_eq!(lines("one\ntw"), ["one"]);
        assert_eq!(lines("one\ntwo\n{torn"), ["two"]);
        assert_eq!(lines("one\ntwo\nthree\n"), ["three"]);
        fs::rename(&path, folder.path().join("audit.jsonl.1")).expect("it can be renamed");
        assert_eq!(lines("four\n"), ["four"]);
    }
}
