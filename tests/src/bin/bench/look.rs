//! What a process holds, as the kernel tells.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    pub(crate) rss_kib: u64,
    pub(crate) pss_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

// === impl Look ===

impl Look {
    pub(crate) fn at(pid: u32) -> Self {
        let folder = format!("/proc/{pid}");
        let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
        let (status, rollup) = (read("status"), read("smaps_rollup"));
        Self {
            rss_kib: field(&status, "VmRSS:"),
            pss_kib: field(&rollup, "Pss:"),
            descriptors: fs::read_dir(format!("{folder}/fd")).map_or(0, |entries| entries.count() as u64),
            threads: field(&status, "Threads:"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "rss_kib": self.rss_kib, "pss_kib": self.pss_kib, "descriptors": self.descriptors,
            "threads": self.threads,
        })
    }
}

/// What a process has had of the processors since its start, to ten milliseconds.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces and ends with a bracket; then state is field 3, user and system time are 14 and 15 (proc(5)).
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    // USER_HZ is 100 on every architecture that Rust's standard library runs Linux on.
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// The number after a name in a file of `/proc`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}
