//! What a node said around some time.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::world::World;

const AROUND: Duration = Duration::from_secs(2);
const MOST: usize = 40;

/// The lines of its log around that time, and what it printed to stderr in all, if anything.
pub(crate) fn around(world: &World, node: usize, at: u64) -> Vec<String> {
    let (folder, wall) = (&world.places[node].folder, world.wall(at));
    let log = fs::read_to_string(folder.join("stdout.log")).unwrap_or_default();
    let is_near = |line: &&str| time(line).is_some_and(|time| time >= wall - AROUND && time <= wall + AROUND);
    let near: Vec<&str> = log.lines().filter(is_near).collect();
    // The middle, where it happened.
    let skip = near.len().saturating_sub(MOST) / 2;
    let mut lines: Vec<String> = near.into_iter().skip(skip).take(MOST).map(str::to_owned).collect();
    let errors = fs::read_to_string(folder.join("stderr.log")).unwrap_or_default();
    lines.extend(errors.lines().take(MOST).map(|line| format!("stderr: {line}")));
    lines
}

/// What a process has open, and every socket of the machine: who holds the port that another could not have?
pub(crate) fn sockets(pid: i32) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        text.push_str(&format!("{} {}\n", entry.file_name().display(), target.display()));
    }
    for table in ["tcp", "tcp6", "udp"] {
        text.push_str(&fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    }
    text
}

/// The time that a line tells, in either format.
fn time(line: &str) -> Option<SystemTime> {
    if let Ok(event) = serde_json::from_str::<Value>(line) {
        return humantime::parse_rfc3339_weak(event["timestamp"].as_str()?).ok();
    }
    humantime::parse_rfc3339_weak(line.split_whitespace().next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_tell_their_time() {
        let json = time("{\"timestamp\":\"2026-01-02T03:04:05.678Z\",\"level\":\"INFO\"}");
        assert!(json.is_some());
        assert_eq!(time("2026-01-02T03:04:05.678Z  INFO fednode: text"), json);
        assert_eq!(time("nothing"), None);
    }
}
