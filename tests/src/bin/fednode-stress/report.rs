//! What a run has to tell: the verdict, what went wrong first, and the figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::action::Entry;
use crate::book::Line;
use crate::connections;
use crate::finding::{Finding, Rule};
use crate::flow::{self, tunnel};
use crate::growth::Sample;
use crate::hand::Done;
use crate::logs;
use crate::rest::Flows;
use crate::run::Plan;
use crate::scenario::Scenario;
use crate::trouble::Trouble;
use crate::world::{World, locked};

/// Of so many findings the log is looked up.
const WITH_LOG: usize = 5;

/// What this machine's kernel and rights do not let the harness do, so that nobody takes it for tested.
const NOT_DONE: [&str; 2] = [
    "clock jumps: setting the clock needs rights over the whole machine, and a time namespace does not cover CLOCK_REALTIME",
    "packet loss and delay: this kernel has no netem; partitions are made by SIGSTOP",
];

/// The report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) passed: bool,
    /// Which rules are broken, the first finding's first.
    pub(crate) broken: Vec<Rule>,
    pub(crate) interrupted: bool,
    /// When the schedule began, and how long it was played, in milliseconds of the run.
    pub(crate) began: u64,
    pub(crate) played: u64,
    pub(crate) findings: Vec<Finding>,
    pub(crate) findings_in_all: u64,
    /// The same by rule; of each some are kept, and each different one once.
    pub(crate) findings_of_rules: BTreeMap<Rule, u64>,
    pub(crate) reloads: BTreeMap<String, Durations>,
    pub(crate) direct: flow::Tally,
    pub(crate) topic: flow::Tally,
    pub(crate) tunnels: tunnel::Tally,
    pub(crate) connections: connections::Tally,
    pub(crate) done: Done,
    pub(crate) not_done: [&'static str; 2],
    pub(crate) nodes: Vec<Told>,
    pub(crate) beats: Vec<Beat>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) scenario: Scenario,
    pub(crate) schedule: Vec<Entry>,
}

/// How long reloads of one outcome took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Durations {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// One node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) lives: u32,
    pub(crate) generation: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) connections: Vec<(u64, usize)>,
    pub(crate) reloads: Vec<Line>,
}

/// What was acknowledged until then.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Beat {
    pub(crate) at: u64,
    pub(crate) direct: u64,
    pub(crate) topic: u64,
    pub(crate) blocks: u64,
}

/// What besides the world a report is made of.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) flows: &'a Flows,
    pub(crate) done: Done,
    pub(crate) beats: Vec<Beat>,
    pub(crate) began: u64,
    pub(crate) played: u64,
    pub(crate) interrupted: bool,
}

// === impl Durations ===

impl Durations {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (part * (all.len().saturating_sub(1)) as f64).round() as usize;
            all.get(index).copied().unwrap_or(0.0)
        };
        Self { count: all.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

// === impl Report ===

impl Report {
    /// Judges what is judged in the end, and puts everything together.
    pub(crate) fn of(plan: &Plan, world: &World, parts: Parts<'_>) -> Self {
        let direct = parts.flows.direct.judge(world, true);
        let topic = parts.flows.topic.judge(world, true);
        let connections = world.connections.judge(world);
        let nodes: Vec<Told> = world
            .places
            .iter()
            .map(|place| Told {
                lives: place.life(),
                generation: place.book.generation(),
                samples: locked(&place.samples).clone(),
                connections: locked(&world.connections.open[place.index]).clone(),
                reloads: place.book.lines(),
            })
            .collect();
        let mut by_outcome: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for line in nodes.iter().flat_map(|node| &node.reloads).filter(|line| line.trigger != "startup") {
            by_outcome.entry(line.outcome.clone()).or_default().push(line.duration_ms);
        }
        let mut report = Self {
            name: plan.name.clone(),
            seed: plan.seed,
            passed: true,
            broken: Vec::new(),
            interrupted: parts.interrupted,
            began: parts.began,
            played: parts.played,
            findings: Vec::new(),
            findings_in_all: 0,
            findings_of_rules: BTreeMap::new(),
            reloads: by_outcome.into_iter().map(|(outcome, all)| (outcome, Durations::of(all))).collect(),
            direct,
            topic,
            tunnels: parts.flows.tunnels.tally(),
            connections,
            done: parts.done,
            not_done: NOT_DONE,
            nodes,
            beats: parts.beats,
            troubles: world.troubles.all(),
            scenario: plan.scenario.clone(),
            schedule: plan.schedule.clone(),
        };
        report.take_findings(world);
        report
    }

    /// Takes what was found since, too.
    pub(crate) fn take_findings(&mut self, world: &World) {
        // A node that has ended has taken its log with it.
        let before = std::mem::replace(&mut self.findings, world.findings.all());
        for finding in self.findings.iter_mut().take(WITH_LOG) {
            let same = |known: &&Finding| known.at == finding.at && known.text == finding.text;
            let known = before.iter().find(same).map(|known| known.log.clone());
            let look = || finding.node.map(|node| logs::around(world, node, finding.at));
            finding.log = known.filter(|log| !log.is_empty()).or_else(look).unwrap_or_default();
        }
        self.findings_of_rules = world.findings.of_rules();
        self.findings_in_all = world.findings.count();
        self.passed = self.findings_in_all == 0;
        self.broken.clear();
        for finding in &self.findings {
            if !self.broken.contains(&finding.rule) {
                self.broken.push(finding.rule);
            }
        }
    }

    /// Keeps the files of nodes in which something was found.
    pub(crate) fn keep_folders(&self, world: &World, out: &Path) {
        let nodes: std::collections::BTreeSet<usize> =
            self.findings.iter().filter_map(|finding| finding.node).collect();
        for node in nodes {
            let to = out.join(format!("node-{node}"));
            let kept = copy(&world.places[node].folder, &to);
            let sockets = world.places[node].pid().map_or(String::new(), logs::sockets);
            if let Err(error) = kept.and_then(|()| fs::write(to.join("sockets.txt"), sockets)) {
                eprintln!("{}: not all was kept: {error}", to.display());
            }
        }
    }

    /// In a few lines, for whoever waits.
    pub(crate) fn summary(&self) -> String {
        let mut lines = vec![format!(
            "{} with seed {}: {}{}",
            self.name,
            self.seed,
            if self.passed { "passed" } else { "FAILED" },
            if self.interrupted { ", interrupted" } else { "" },
        )];
        for (outcome, all) in &self.reloads {
            lines.push(format!(
                "  {:>6} {outcome:11} p50 {:7.1}  p95 {:7.1}  p99 {:7.1}  max {:7.1} ms",
                all.count, all.p50, all.p95, all.p99, all.max
            ));
        }
        for (what, tally) in [("direct", self.direct), ("topic", self.topic)] {
            lines.push(format!(
                "  {what:6} {} acknowledged, {} arrived, {} lost, {} repeated, {} reordered, {} excused",
                tally.acknowledged, tally.arrived, tally.lost, tally.repeated, tally.reordered, tally.excused
            ));
        }
        let (tunnels, connections) = (self.tunnels, self.connections);
        lines.push(format!(
            "  tunnels {} blocks in {} streams; {} times one, or the try to open one, ended with what carried it",
            tunnels.blocks, tunnels.streams, tunnels.excused
        ));
        lines.push(format!(
            "  connections {} opened, {} closed: {} named by a plan, {} crossed, {} excused, {} wrong",
            connections.opened,
            connections.closed,
            connections.named,
            connections.crossed,
            connections.excused,
            connections.wrong
        ));
        lines.push(format!(
            "  {} actions, {} left out as too late; {} of {} fault points reached",
            self.done.actions, self.done.left_out, self.done.points_reached, self.done.points_armed
        ));
        if let Some(first) = self.findings.first() {
            let node = first.node.map_or(String::new(), |node| format!(", node {node}"));
            lines.push(format!("  first, at {} ms{node}: {}", first.at, first.rule.broken()));
            lines.push(format!("    {}", first.text));
            for rule in &self.broken {
                let count = self.findings_of_rules.get(rule).copied().unwrap_or_default();
                lines.push(format!("  {count:>4} x {}", rule.broken()));
            }
        }
        lines.join("\n")
    }
}

/// Removes what an earlier run has left in its folder, and nothing else: what stands there afterwards is all of one run.
pub(crate) fn clear(out: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (name, is_folder) = (entry.file_name(), entry.file_type()?.is_dir());
        let name = name.to_string_lossy();
        let number = name.strip_prefix("node-").is_some_and(|number| number.parse::<usize>().is_ok());
        if is_folder && number {
            fs::remove_dir_all(entry.path())?;
        } else if !is_folder && (name.starts_with("report.") || name.ends_with(".svg")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies a folder's files, sockets left out.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_has_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("smoke-1");
        clear(&out).expect("there is nothing");
        fs::create_dir_all(out.join("node-3/data")).expect("made");
        fs::create_dir_all(out.join("node-mine")).expect("made");
        for name in ["report.json", "report.html", "memory.svg", "notes.txt", "node-3/data/audit.jsonl"] {
            fs::write(out.join(name), "x").expect("written");
        }
        clear(&out).expect("cleared");
        let left = fs::read_dir(&out).expect("it is there").map(|entry| entry.expect("one").file_name());
        let left: std::collections::BTreeSet<_> = left.collect();
        assert_eq!(left, ["node-mine", "notes.txt"].map(std::ffi::OsString::from).into());
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let all = Durations::of((0..101).rev().map(f64::from).collect());
        assert_eq!((all.count, all.p50, all.p95, all.p99, all.max), (101, 50.0, 95.0, 99.0, 100.0));
        assert_eq!(Durations::of(Vec::new()).count, 0);
    }
}
