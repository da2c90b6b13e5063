//! What is made to fail around a node: its steps, its descriptors, its memory, the processor.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};

use super::Hand;
use super::reload::Expected;
use crate::action::Trigger;
use crate::book::Allowed;
use crate::finding::Rule;
use crate::trouble::{Kind, Who};
use crate::world::Phase;

// === impl Hand ===

impl Hand {
    /// One reload in which a point fails; the next one works.
    pub(super) async fn fault(&mut self, point: &str, order: &str, seed: u64) {
        let of = point.split("::").next().unwrap_or_default();
        let is_disk = ["atomic", "generation", "generations", "blob", "audit"].contains(&of);
        // The network alone cannot be left behind.
        let may_be_lost = ["network", "listener", "workers"].contains(&of);
        self.place().book.allow(Allowed {
            rejected: true,
            rolled_back: true,
            failed: may_be_lost,
            not_durable: is_disk,
        });
        self.arms.clear();
        self.write_valid(seed);
        self.arms.arm(point, order);
        self.done.points_armed += 1;
        let line = self.ask(Trigger::Signal, Expected::Any).await;
        if self.arms.was_hit(point) {
            self.done.points_reached += 1;
        }
        self.arms.clear();
        // Where the line itself was what could not be written, it may be the next one's.
        if line.is_none() && !is_disk && self.runs() {
            self.found(Rule::Budget, format!("no outcome of a reload in which {point} was told {order}"));
        }
        self.recovers(seed.wrapping_add(1), &format!("{point} {order}"), line.map(|line| line.outcome)).await;
    }

    /// A failing reload leaves the next one working.
    async fn recovers(&mut self, seed: u64, after: &str, outcome: Option<String>) {
        if outcome.as_deref() == Some("failed") {
            // An emergency is left by a good reload, as soon as the component answers again.
            for attempt in 0..3 {
                self.write_valid(seed.wrapping_add(attempt));
                let line = self.ask(Trigger::Signal, Expected::Any).await;
                if line.is_some_and(|line| line.outcome == "committed") {
                    return;
                }
            }
        }
        self.place().book.allow(Allowed::default());
        self.write_valid(seed);
        let line = self.ask(Trigger::Signal, Expected::Good).await;
        if line.is_none() && self.runs() {
            self.found(Rule::Outcomes, format!("the reload after {after} did not work"));
        }
    }

    /// No descriptors for a while.
    pub(super) async fn descriptors(&mut self, ms: u64, spare: u64, seed: u64) {
        let Some(pid) = self.node.as_ref().map(fednode_tests::Node::pid) else { return };
        let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
        let open = fs::read_dir(folder).map_or(0, |entries| entries.count() as u64);
        self.squeezed(Kind::Strained, Resource::Nofile, open + spare, ms, seed).await;
        self.recovers(seed.wrapping_add(1), "a time without descriptors", None).await;
    }

    /// No memory for a while. That may be the end of the process, which is then started again.
    pub(super) async fn memory(&mut self, ms: u64, spare: u64, seed: u64) {
        let Some(pid) = self.node.as_ref().map(fednode_tests::Node::pid) else { return };
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib: u64 = size.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(1 << 22);
        let down = self.world.troubles.begin(Kind::Down, Who::Node(self.index), self.world.now());
        self.squeezed(Kind::Strained, Resource::As, (kib << 10) + (spare << 20), ms, seed).await;
        // Threads that could not be started are missed by whoever needs them: what a person would do.
        let node = self.node.take();
        self.place().ends();
        if let Some(node) = node {
            let spec = node.kill().await;
            self.start(spec).await;
        }
        self.world.troubles.end(down, self.world.now());
        self.recovers(seed.wrapping_add(1), "a time without memory", None).await;
    }

    /// A reload under a limit, which is then taken back.
    async fn squeezed(&mut self, kind: Kind, what: Resource, limit: u64, ms: u64, seed: u64) {
        let Some(pid) = self.node.as_ref().map(fednode_tests::Node::pid) else { return };
        self.place().book.allow(Allowed {
            rejected: true,
            rolled_back: true,
            failed: true,
            not_durable: true,
        });
        let lasting = self.world.troubles.begin(kind, Who::Node(self.index), self.world.now());
        // Only what stands above it may be taken away for good: the hard limit stays.
        let process = format!("/proc/{}/limits", pid.as_raw_nonzero());
        let maximum = hard(&fs::read_to_string(process).unwrap_or_default(), what);
        let limit = Some(limit.min(maximum.unwrap_or(u64::MAX)));
        // Setting it tells what it was.
        let before = match prlimit(Some(pid), what, Rlimit { current: limit, maximum }) {
            Ok(before) => before,
            Err(error) => {
                self.found(Rule::Outcomes, format!("the harness cannot set a limit: {error}"));
                self.world.troubles.end(lasting, self.world.now());
                return;
            }
        };
        self.write_valid(seed);
        self.signal(rustix::process::Signal::HUP);
        self.world.wait(Duration::from_millis(ms), Phase::Rests).await;
        // A process that has ended needs none.
        let _ = prlimit(Some(pid), what, before);
        if kind == Kind::Strained && what == Resource::Nofile {
            self.rests().await;
        }
        self.world.troubles.end(lasting, self.world.now());
    }

    /// Every core is busy for a while.
    pub(super) async fn processor(&mut self, ms: u64) {
        let lasting = self.world.troubles.begin(Kind::Strained, Who::Everybody, self.world.now());
        let go_on = Arc::new(AtomicBool::new(true));
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let spinning: Vec<_> = (0..cores)
            .map(|_| {
                let go_on = Arc::clone(&go_on);
                std::thread::spawn(move || {
                    while go_on.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        self.world.wait(Duration::from_millis(ms), Phase::Rests).await;
        go_on.store(false, Ordering::Relaxed);
        for thread in spinning {
            // It cannot panic.
            let _ = thread.join();
        }
        self.world.troubles.end(lasting, self.world.now());
    }
}

/// The hard limit, as proc_pid_limits(5) tells; `None` where there is none.
fn hard(limits: &str, what: Resource) -> Option<u64> {
    let name = if what == Resource::Nofile { "Max open files" } else { "Max address space" };
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limits_are_read() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n\
                      Max address space  unlimited  unlimited  bytes\n";
        assert_eq!((hard(limits, Resource::Nofile), hard(limits, Resource::As)), (Some(4096), None));
    }
}
