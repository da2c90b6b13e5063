//! What was found wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::world::locked;

/// How many different ones of each rule are kept: what is broken is so again and again, and hides what else is. All are counted.
pub(crate) const KEPT: usize = 40;

/// What must hold: DESIGN.md's invariants, as they show from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    /// Generations have no gaps, and history, status and metrics name the same one.
    Generations,
    /// A reload takes no longer than its budget, and everybody who asks gets an answer within two.
    Budget,
    /// A component whose section did not change is told nothing.
    Untouched,
    /// A connection closes only if a plan named it.
    Connections,
    /// What was acknowledged arrives, once and in order.
    Messages,
    /// Tunnels carry every byte.
    Tunnels,
    /// Files are whole at any instant; a node that was killed starts with one whole generation.
    Files,
    /// Nothing secret is told.
    Secrets,
    /// Memory and descriptors do not grow with reloads.
    Growth,
    /// A reload ends as it must, and at the end all is at rest.
    Outcomes,
    /// A node that nobody killed runs.
    Alive,
}

/// One.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Milliseconds from the beginning.
    pub(crate) at: u64,
    pub(crate) rule: Rule,
    pub(crate) node: Option<usize>,
    pub(crate) text: String,
    /// What the node said around it, of the first findings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) log: Vec<String>,
}

/// All.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Mutex<Vec<Finding>>,
    count: AtomicU64,
    of_rules: Mutex<BTreeMap<Rule, u64>>,
}

// === impl Rule ===

impl Rule {
    /// The number in DESIGN.md's list, and in a few words what is broken.
    pub(crate) const fn broken(self) -> &'static str {
        match self {
            Self::Generations => "invariant 1: generations",
            Self::Budget => "invariant 2: over the budget",
            Self::Untouched => "invariant 3: a component was told that had not changed",
            Self::Connections => "invariant 4: a connection closed that no plan had named",
            Self::Messages => "invariant 5: messages lost, repeated or reordered",
            Self::Tunnels => "invariant 5: a tunnel broke or changed bytes",
            Self::Files => "invariant 6: files or what a node came back with",
            Self::Secrets => "invariant 7: a secret was told",
            Self::Growth => "a node grows",
            Self::Outcomes => "a reload did not end as it must",
            Self::Alive => "a node ended by itself",
        }
    }
}

// === impl Findings ===

impl Findings {
    pub(crate) fn add(&self, at: u64, rule: Rule, node: Option<usize>, text: String) {
        self.count.fetch_add(1, Ordering::SeqCst);
        *locked(&self.of_rules).entry(rule).or_default() += 1;
        let mut kept = locked(&self.kept);
        let of_rule = || kept.iter().filter(|finding| finding.rule == rule);
        let is_known = of_rule().any(|finding| finding.node == node && finding.text == text);
        if !is_known && of_rule().count() < KEPT {
            kept.push(Finding { at, rule, node, text, log: Vec::new() });
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// How many of each rule, whether or not they are kept.
    pub(crate) fn of_rules(&self) -> BTreeMap<Rule, u64> {
        locked(&self.of_rules).clone()
    }

    /// In the order of time.
    pub(crate) fn all(&self) -> Vec<Finding> {
        let mut all = locked(&self.kept).clone();
        all.sort_by_key(|finding| finding.at);
        all
    }
}
