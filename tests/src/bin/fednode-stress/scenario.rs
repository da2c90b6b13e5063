//! What a run consists of, as a file says it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// See `docs/stress.md`. Whatever a file leaves out does not happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// How many processes.
    pub(crate) nodes: usize,
    /// From the moment when everybody is connected and everything flows.
    #[serde(with = "text")]
    pub(crate) duration: Duration,
    /// Where the command line gives none.
    #[serde(default)]
    pub(crate) seed: u64,
    /// Every node's `reload.budget`.
    #[serde(with = "text", default = "budget")]
    pub(crate) budget: Duration,
    /// By how much a reload may be longer than its budget: what a loaded machine takes to wake a thread up.
    #[serde(with = "text", default = "slack")]
    pub(crate) slack: Duration,
    /// Of the whole federation.
    #[serde(default)]
    pub(crate) reloads_per_second: f64,
    #[serde(default)]
    pub(crate) traffic: Traffic,
    #[serde(default)]
    pub(crate) reloads: Reloads,
    #[serde(default)]
    pub(crate) triggers: Triggers,
    #[serde(default)]
    pub(crate) faults: Faults,
}

/// What flows all the time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Traffic {
    /// How many nodes each node sends direct messages to.
    pub(crate) direct: usize,
    /// Direct messages of each of these streams.
    pub(crate) direct_per_second: f64,
    /// How many nodes publish on the topic. All listen.
    pub(crate) publishers: usize,
    /// Messages of each of them.
    pub(crate) topic_per_second: f64,
    /// How many tunnels.
    pub(crate) tunnels: usize,
    /// Blocks of 4 KiB there and back through each of them.
    pub(crate) blocks_per_second: f64,
}

/// How often each kind of reload is drawn, against the others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reloads {
    /// Other valid values of all sections.
    pub(crate) valid: u32,
    /// The same values in other words.
    pub(crate) unchanged: u32,
    /// A file that is wrong.
    pub(crate) invalid: u32,
    /// What cannot be had: a port of somebody else, a generation that is not current, another identity.
    pub(crate) conflicting: u32,
    /// A member that runs is removed, or comes back.
    pub(crate) churn: u32,
    /// Another secret in a file that the configuration names.
    pub(crate) rotation: u32,
    /// An older generation.
    pub(crate) rollback: u32,
}

/// How often each way to ask for a reload is drawn, against the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Triggers {
    /// One SIGHUP.
    pub(crate) signal: u32,
    /// Many, while the files change, and API and command line with them.
    pub(crate) storm: u32,
    pub(crate) api: u32,
    pub(crate) cli: u32,
    /// Nothing but the file; of the nodes that watch theirs (every fourth).
    pub(crate) watch: u32,
}

/// How often each fault is done, to one node of the federation, per minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Faults {
    /// SIGKILL, then a start.
    pub(crate) kill: f64,
    /// The same, some milliseconds after a reload began.
    pub(crate) kill_in_reload: f64,
    /// SIGSTOP for a second or two, which no connection may notice.
    pub(crate) pause: f64,
    /// SIGSTOP until the others give the node up.
    pub(crate) partition: f64,
    /// A component's step hangs, fails, panics or is late during a reload.
    pub(crate) component: f64,
    /// A step of file work fails, or finds no room.
    pub(crate) disk: f64,
    /// No descriptor is left, for some seconds.
    pub(crate) descriptors: f64,
    /// No memory is left, for some seconds; that may be the end of the process.
    pub(crate) memory: f64,
    /// Every core is busy, for some seconds.
    pub(crate) processor: f64,
    /// A file is cut off or overwritten with garbage in place, and one of the node's own while it is down.
    pub(crate) corrupt: f64,
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    #[error("the scenario {path} cannot be read: {cause}; see tests/scenarios/ for those that there are")]
    Read { path: String, cause: std::io::Error },
    #[error("the scenario {path} is not understood: {cause}")]
    Parse { path: String, cause: serde_yaml::Error },
    #[error("the scenario {path}: {what}")]
    Range { path: String, what: &'static str },
}

/// A schedule is made before it is played, and held in memory.
const SHORTEST: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What `reload.budget` may be (contract).
const BUDGETS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The largest weight.
const MOST: u32 = 1_000_000;

const fn budget() -> Duration {
    Duration::from_secs(5)
}

const fn slack() -> Duration {
    Duration::from_millis(250)
}

// === impl Triggers ===

impl Default for Triggers {
    fn default() -> Self {
        Self { signal: 1, storm: 0, api: 0, cli: 0, watch: 0 }
    }
}

// === impl Faults ===

impl Faults {
    const fn per_minute(&self) -> [f64; 10] {
        let Self { kill, kill_in_reload, pause, partition, component, .. } = *self;
        let Self { disk, descriptors, memory, processor, corrupt, .. } = *self;
        [kill, kill_in_reload, pause, partition, component, disk, descriptors, memory, processor, corrupt]
    }
}

// === impl Scenario ===

impl Scenario {
    /// `duration` takes the place of the file's.
    pub(crate) fn read(path: &Path, duration: Option<Duration>) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ScenarioError::Read { path: name.clone(), cause })?;
        let mut scenario: Self = serde_yaml::from_str(&text)
            .map_err(|cause| ScenarioError::Parse { path: name.clone(), cause })?;
        scenario.duration = duration.unwrap_or(scenario.duration);
        match scenario.judge() {
            None => Ok(scenario),
            Some(what) => Err(ScenarioError::Range { path: name, what }),
        }
    }

    /// What is wrong with it.
    pub(crate) fn judge(&self) -> Option<&'static str> {
        let reloads = &self.reloads;
        let kinds = [reloads.valid, reloads.unchanged, reloads.invalid, reloads.conflicting];
        let others = [reloads.churn, reloads.rotation, reloads.rollback];
        let triggers = &self.triggers;
        let ways = [triggers.signal, triggers.storm, triggers.api, triggers.cli];
        let weights = kinds.iter().chain(&others).chain(&ways).chain([&triggers.watch]);
        let traffic = &self.traffic;
        let rates = [traffic.direct_per_second, traffic.topic_per_second, traffic.blocks_per_second];
        match self {
            _ if !(3..=64).contains(&self.nodes) => Some("nodes: write 3 to 64"),
            _ if !(SHORTEST..=LONGEST).contains(&self.duration) => {
                Some("duration: write 20s, which faults need to come and go, to 7days")
            }
            _ if !(BUDGETS.0..=BUDGETS.1).contains(&self.budget) => {
                Some("budget: write 200ms to 30s, as the node's reload.budget")
            }
            _ if self.slack > BUDGETS.1 => Some("slack: write 0s to 30s"),
            _ if weights.clone().any(|weight| *weight > MOST) => {
                Some("reloads, triggers: write weights from 0 to 1000000")
            }
            _ if !rates.iter().all(|rate| (0.0..=1000.0).contains(rate)) => {
                Some("traffic: write 0 to 1000 messages or blocks per second")
            }
            _ if !self.faults.per_minute().iter().all(|rate| (0.0..=600.0).contains(rate)) => {
                Some("faults: write 0 to 600 per minute")
            }
            _ if !(0.0..=1000.0).contains(&self.reloads_per_second) => {
                Some("reloads_per_second: write 0 to 1000")
            }
            _ if self.traffic.direct >= self.nodes || self.traffic.publishers > self.nodes => {
                Some("traffic: there are not so many nodes")
            }
            _ if self.traffic.tunnels > self.nodes => Some("traffic.tunnels: one for each node at most"),
            _ if self.reloads_per_second > 0.0 && kinds.iter().chain(&others).sum::<u32>() == 0 => {
                Some("reloads: at least one kind must be above 0")
            }
            _ if ways.iter().sum::<u32>() == 0 => {
                Some("triggers: one besides watch must be above 0, for the nodes that do not watch")
            }
            _ => None,
        }
    }
}

/// Durations as people write them.
mod text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Duration;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_of_the_repository_can_be_played() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("the folder is there") {
            Scenario::read(&entry.expect("an entry").path(), None).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn what_is_misspelt_or_out_of_range_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wrong.yaml");
        for (text, says) in [
            ("nodes: 8\nduration: 60s\nreloads_per_second: 1\nfaults: {kil: 1}", "unknown field `kil`"),
            ("nodes: 2\nduration: 60s\nreloads_per_second: 1\nreloads: {valid: 1}", "nodes: write 3 to 64"),
            ("nodes: 8\nduration: 1 parsec\nreloads_per_second: 1", "parsec"),
            ("nodes: 8\nduration: 60s\nreloads_per_second: 1", "reloads: at least one kind"),
            ("nodes: 8\nduration: 5s", "duration: write 20s"),
            ("nodes: 8\nduration: 1000000h", "duration: write 20s"),
            ("nodes: 8\nduration: 60s\nbudget: 0s", "budget: write 200ms"),
            ("nodes: 8\nduration: 60s\nfaults: {kill: .nan}", "faults: write 0 to 600"),
            ("nodes: 8\nduration: 60s\nfaults: {disk: 1e300}", "faults: write 0 to 600"),
            ("nodes: 8\nduration: 60s\ntraffic: {direct_per_second: -1}", "traffic: write 0 to 1000"),
            ("nodes: 8\nduration: 60s\nreloads: {valid: 4294967295}", "write weights"),
        ] {
            std::fs::write(&path, text).expect("it can be written");
            let error = Scenario::read(&path, None).expect_err("it is wrong").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
