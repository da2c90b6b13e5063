//! Two configurations, judged one after the other, and the plan that leads from the one to the other: no panic, in bounded time
//! and memory, and nobody is named who is no component. Each line of the input that has the key of a line of a good
//! configuration takes its place, others come after it; a zero byte ends the first configuration.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use fednode::config::{Config, Snapshot, default_config_text};
use net::Identity;
use reload::graph::Graph;
use reload::plan::Plan;

static GOOD: LazyLock<String> = LazyLock::new(|| default_config_text(&Identity::generate(), true));

/// As `node::Node` puts them together.
static GRAPH: LazyLock<Graph> = LazyLock::new(|| {
    let graph = Graph::new(&[
        ("logging", &[]),
        ("peer_store", &["logging"]),
        ("network", &["peer_store"]),
        ("protocol", &["network"]),
        ("admin", &["logging"]),
    ]);
    graph.expect("a graph")
});

fn text(edits: &str) -> String {
    let key = |line: &str| line.split_once(':').map(|(key, _)| key.trim().to_owned());
    let edits: Vec<&str> = edits.lines().collect();
    let edit = |line: &str| edits.iter().find(|edit| key(edit).is_some() && key(edit) == key(line));
    let indent = |line: &str| " ".repeat(line.len() - line.trim_start().len());
    let kept = GOOD.lines().map(|line| match edit(line) {
        Some(edit) => format!("{}{}\n", indent(line), edit.trim_start()),
        None => format!("{line}\n"),
    });
    let added = edits.iter().filter(|edit| GOOD.lines().all(|line| key(line) != key(edit)));
    kept.chain(added.map(|edit| format!("{edit}\n"))).collect()
}

fn judge(edits: &str, current: Option<&Arc<Config>>) -> Option<Arc<Config>> {
    let snapshot = Snapshot { conf: text(edits).into_bytes().into(), peers: None };
    Config::from_snapshot(Path::new("conf.yaml"), snapshot, current).ok().map(|loaded| loaded.config)
}

libfuzzer_sys::fuzz_target!(|edits: &str| {
    let (old, new) = edits.split_once('\0').unwrap_or(("", edits));
    let Some(old) = judge(old, None) else { return };
    let Some(new) = judge(new, Some(&old)) else { return };
    let changes = old.changes(&new);
    let named = changes.iter().flat_map(|change| &change.components).filter(|name| *name != "reload");
    let affected = named.map(|name| GRAPH.index(name).expect("a component")).collect();
    let plan = Plan::new(&GRAPH, changes, affected, reload::graph::Set::EMPTY, Vec::new());
    assert_eq!(plan.levels.iter().flat_map(|level| level.iter()).count(), affected.iter().count());
    assert_eq!(plan.is_empty(), fednode::diff::between(&old, "old", &new, "new").is_empty());
    assert!(new.changes(&new).is_empty());
});
