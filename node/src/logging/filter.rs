//! Which events are written.
//!
//! `logging.level` is the level of the node's own crates. What it depends on (libp2p, actix, …) says at `info` what only
//! its authors want to know: it stays at `warn` there, and follows `level` when that is `debug` or stricter than `info`.
//! Gossipsub is silent at every level: it writes what any peer makes it write, whole messages among it.
//! A key of `logging.targets` sets the level of everything that it is a prefix of, up to a `::` or a `_`: `libp2p` means
//! all of libp2p's crates, `libp2p_swarm::connection` one module. The longest key that fits decides.

use std::collections::BTreeMap;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;

use crate::config::logging::Level;

/// The crates of this workspace that write events.
const OWN: [&str; 5] = ["fednode", "fednode_tests", "net", "reload", "storage"];

/// What this node has to say about topics, [`net`] says.
const GOSSIPSUB: &str = "libp2p_gossipsub";

/// Levels by target.
#[derive(Debug)]
pub(super) struct Filter {
    own: LevelFilter,
    others: LevelFilter,
    /// The longest first.
    targets: Vec<(String, LevelFilter)>,
}

// === impl Filter ===

impl Filter {
    pub(super) fn new(level: Level, targets: &BTreeMap<String, Level>) -> Self {
        let others = if level == Level::Info { Level::Warn } else { level };
        let mut targets: Vec<_> =
            targets.iter().map(|(target, level)| (target.clone(), filter(*level))).collect();
        targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Self { own: filter(level), others: filter(others), targets }
    }

    /// Whether an event is written.
    pub(super) fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level_of(metadata.target())
    }

    /// The most verbose level of all: what is beyond it is not even asked about.
    pub(super) fn most(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| *level).fold(self.own.max(self.others), LevelFilter::max)
    }

    fn level_of(&self, target: &str) -> LevelFilter {
        if let Some((_, level)) = self.targets.iter().find(|(key, _)| covers(key, target)) {
            return *level;
        }
        let krate = target.split("::").next().unwrap_or(target);
        if krate == GOSSIPSUB {
            LevelFilter::OFF
        } else if OWN.contains(&krate) {
            self.own
        } else {
            self.others
        }
    }
}

fn covers(key: &str, target: &str) -> bool {
    target.strip_prefix(key).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with("::") || rest.starts_with('_') || key.ends_with([':', '_'])
    })
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_key_decides_and_dependencies_are_quiet_at_info() {
        let targets = BTreeMap::from([
            ("libp2p".to_owned(), Level::Error),
            ("libp2p_swarm".to_owned(), Level::Debug),
            ("net::".to_owned(), Level::Warn),
        ]);
        let filter = Filter::new(Level::Info, &targets);
        for (target, level) in [
            ("fednode::logging", LevelFilter::INFO),
            ("network", LevelFilter::WARN),
            ("netlink_sys", LevelFilter::WARN),
            ("actix_server::worker", LevelFilter::WARN),
            ("libp2p_tcp", LevelFilter::ERROR),
            ("libp2p_swarm", LevelFilter::DEBUG),
            ("libp2p_swarm::connection", LevelFilter::DEBUG),
            ("libp2pish", LevelFilter::WARN),
            ("net::dialer", LevelFilter::WARN),
            ("net", LevelFilter::INFO),
        ] {
            assert_eq!(filter.level_of(target), level, "{target}");
        }
        assert_eq!(filter.most(), LevelFilter::DEBUG);
    }

    #[test]
    fn dependencies_follow_every_level_but_info() {
        for (level, theirs) in [
            (Level::Debug, LevelFilter::DEBUG),
            (Level::Info, LevelFilter::WARN),
            (Level::Warn, LevelFilter::WARN),
            (Level::Error, LevelFilter::ERROR),
        ] {
            let filter = Filter::new(level, &BTreeMap::new());
            assert_eq!(filter.level_of("libp2p_swarm"), theirs);
            assert_eq!(filter.level_of("libp2p_gossipsub::behaviour"), LevelFilter::OFF);
        }
    }
}
