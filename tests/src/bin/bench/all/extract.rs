//! The figures out of each mode's report.

use serde_json::Value;

use crate::figure::{Better, Figure, Goal};
use crate::floor::Floor;
use crate::observe::{nobody, peers_text};
use crate::options::Shape;

/// So often the floor of the files of peers is measured.
const FLOOR_ROUNDS: usize = 5;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn reloads(report: &Value) -> Vec<Figure> {
    let figure = |row: &Value| Figure {
        id: format!("reload.{}.{}", row["members"], text(&row["changed"])),
        what: format!("reload, {} members: {}", row["members"], text(&row["title"])),
        unit: "ms",
        value: number(&row["outcome_ms"]["p50"]),
        beside: if row["peers_changed"] == true { "a durable write, YAML parsed" } else { "a durable write" },
        floor: number(&row["floor"]["sum_ms"]),
        better: Better::Less,
        goal: None,
    };
    rows(report).map(figure).collect()
}

/// Of the components the one that takes longest.
pub(super) fn rollbacks(report: &Value) -> Vec<Figure> {
    let mut worst: Vec<(String, &Value)> = Vec::new();
    for row in rows(&report["faults"]) {
        let kind = if row["hangs"] == true { "hang" } else { "error" };
        let id = format!("rollback.{}.{kind}", text(&row["step"]));
        match worst.iter_mut().find(|(known, _)| *known == id) {
            Some((_, worst)) if number(&worst["ratio"]) < number(&row["ratio"]) => *worst = row,
            Some(_) => {}
            None => worst.push((id, row)),
        }
    }
    let figure = |(id, row): (String, &Value)| {
        let hangs = row["hangs"] == true;
        let how = if hangs { "never answers" } else { "fails" };
        Figure {
            id,
            what: format!("rollback: {} {how} in {}", text(&row["component"]), text(&row["step"])),
            unit: "ms",
            value: number(&row["rolled_back_ms"]["p50"]),
            beside: if hangs { "the budget" } else { "the same, committed" },
            floor: number(&row["floor_ms"]),
            better: Better::Less,
            goal: hangs.then_some(Goal::AtMost(1.1)),
        }
    };
    worst.into_iter().map(figure).collect()
}

pub(super) fn starts(report: &Value) -> Vec<Figure> {
    let figure = |row: &Value| Figure {
        id: format!("start.{}", row["members"]),
        what: format!("start to ready, {} members", row["members"]),
        unit: "ms",
        value: number(&row["ready_ms"]["p50"]),
        beside: "bare libp2p listens, YAML parsed",
        floor: number(&row["bare_ms"]) + number(&row["parse_ms"]),
        better: Better::Less,
        goal: None,
    };
    rows(report).map(figure).collect()
}

pub(super) fn data(report: &Value) -> Vec<Figure> {
    let figure = |row: &Value| {
        let is_beside_itself = row["with"].is_object();
        let (ours, floor) = if is_beside_itself { ("with", "without") } else { ("ours", "bare") };
        let unit = if row["unit"] == "us" { "us" } else { "MiB/s" };
        Figure {
            id: format!("data.{}", text(&row["what"]).replace([',', ' '], "_").replace("__", "_")),
            what: format!("data: {}", text(&row["what"])),
            unit,
            value: number(&row[ours]["p50"]),
            beside: if is_beside_itself { "the same node without" } else { "bare libp2p" },
            floor: number(&row[floor]["p50"]),
            better: if unit == "us" { Better::Less } else { Better::More },
            goal: Goal::read(text(&row["goal"])),
        }
    };
    rows(report).map(figure).collect()
}

pub(super) fn tunnel(report: &Value) -> Vec<Figure> {
    let figure = |id: &str, beside: &'static str, floor: &Value, goal: Option<Goal>| Figure {
        id: format!("tunnel.{id}"),
        what: "tunnel: one stream of a service".to_owned(),
        unit: "MiB/s",
        value: number(&report["ours"]["p50"]),
        beside,
        floor: number(&floor["p50"]),
        better: Better::More,
        goal,
    };
    let bare = figure("bare", "bare libp2p stream", &report["bare"], Goal::read(text(&report["goal"])));
    let socat = &report["socat"];
    let socat = socat.is_object().then(|| figure("socat", "two socats, not encrypted", socat, None));
    std::iter::once(bare).chain(socat).collect()
}

pub(super) fn memory(report: &Value) -> Vec<Figure> {
    let idle = &report["idle"];
    vec![Figure {
        id: "memory.connection".to_owned(),
        what: format!("memory of a connection, of {}", idle["connections"]),
        unit: "KiB",
        value: number(&idle["ours_kib"]),
        beside: "bare libp2p",
        floor: number(&idle["bare_kib"]),
        better: Better::Less,
        goal: Some(Goal::AtMost(1.2)),
    }]
}

/// Every time that the report has, beside what it takes to parse `peers.yaml` of that size as values, and to write durably.
pub(super) fn store(report: &Value) -> Vec<Figure> {
    let mut figures = Vec::new();
    for row in rows(&report["store"]) {
        let size = row["peers"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        let mut floor = Floor::new(peers_text(&nobody(size), Shape::Block));
        (0..FLOOR_ROUNDS).for_each(|_| floor.sample());
        let fields = row.as_object().into_iter().flatten();
        let times = fields.filter_map(|(key, value)| Some((key.strip_suffix("_ms")?, value.as_f64()?)));
        figures.extend(times.map(|(name, value)| {
            let writes = matches!(name, "edit" | "save");
            let write = if writes { floor.write.median() } else { 0.0 };
            Figure {
                id: format!("store.{size}.{name}"),
                what: format!("store, {size} peers: {}", name.replace('_', " ")),
                unit: "ms",
                value,
                beside: if writes { "a durable write, YAML parsed" } else { "YAML parsed" },
                floor: floor.parse.median() + write,
                better: Better::Less,
                goal: None,
            }
        }));
    }
    figures
}
