//! What a node costs the machine, as the kernel counts it.

use std::fs;

use crate::process::Node;

/// The figures of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    /// Memory in use, in KiB.
    pub resident: u64,
    /// Of it what is the process's own, and no page of a file: what it has allocated, in KiB.
    pub anonymous: u64,
    /// The most of it since the process began, or since [`Gauge::begin`], in KiB.
    pub peak: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

// === impl Gauge ===

impl Gauge {
    /// The figures now, from which on the peak is counted.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn begin(node: &Node) -> Self {
        // 5 sets the peak back (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{}/clear_refs", node.pid().as_raw_nonzero()), "5").expect("the node runs");
        Self::of(node)
    }

    /// The figures now.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let process = format!("/proc/{}", node.pid().as_raw_nonzero());
        let status = fs::read_to_string(format!("{process}/status")).expect("the node runs");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("the kernel tells it")
        };
        let descriptors = fs::read_dir(format!("{process}/fd")).expect("the node runs").count();
        Self { resident: kib("VmRSS:"), anonymous: kib("RssAnon:"), peak: kib("VmHWM:"), descriptors }
    }
}
