//! The report as a page: one file, with its pictures in it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::charts::{Chart, Series, Shape};
use crate::finding::KEPT;
use crate::report::{Report, Told};

const STYLE: &str = "\
body { font: 14px/1.45 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 span { padding: .1em .5em; border-radius: .2em; color: #fff; background: #00785a }
h1 span.failed { background: #c03020 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left } pre { overflow-x: auto; background: #f6f6f6; padding: .8em; font-size: 12px }
svg { max-width: 100%; height: auto }";

/// The page.
pub(crate) fn of(report: &Report) -> String {
    let (word, class) = if report.passed { ("passed", "") } else { ("FAILED", "failed") };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "fednode-stress: " (report.name) " " (word) } style { (STYLE) } }
            body {
                h1 { (report.name) ", seed " (report.seed) " " span class=(class) { (word) } }
                p {
                    (report.scenario.nodes) " nodes, " (report.played / 1000) " s"
                    @if report.interrupted { ", interrupted" } ". "
                    (report.done.actions) " actions, " (report.done.left_out) " left out as too late; "
                    (report.done.points_reached) " of " (report.done.points_armed) " fault points reached."
                }
                (wrong(report))
                (figures(report))
                @for chart in charts(report) { (PreEscaped(chart.svg())) }
                h2 { "Not done here" }
                ul { @for text in report.not_done { li { (text) } } }
            }
        }
    };
    page.into_string()
}

/// What went wrong, the first with what the node said.
fn wrong(report: &Report) -> Markup {
    html! {
        @if let Some(first) = report.findings.first() {
            h2 { "What went wrong first" }
            p { b { (first.rule.broken()) } ", at " (first.at) " ms" @if let Some(node) = first.node { ", node " (node) } }
            pre { (first.text) }
            @if !first.log.is_empty() {
                details { summary { "the node's log around it" } pre { @for line in &first.log { (line) "\n" } } }
            }
            h2 { "Findings" }
            p {
                (report.findings_in_all) " in all; of each rule the first " (KEPT) " that differ are shown."
                @for (rule, count) in &report.findings_of_rules { br; (count) " x " (rule.broken()) }
            }
            table {
                tr { th { "rule" } th { "ms" } th { "node" } th { "what" } }
                @for finding in &report.findings {
                    tr {
                        td { (finding.rule.broken()) } td { (finding.at) }
                        td { @if let Some(node) = finding.node { (node) } }
                        td style="text-align: left" { (finding.text) }
                    }
                }
            }
        }
    }
}

fn figures(report: &Report) -> Markup {
    let connections = report.connections;
    html! {
        h2 { "Reloads" }
        table {
            tr { th { "outcome" } th { "count" } th { "p50 ms" } th { "p95 ms" } th { "p99 ms" } th { "max ms" } }
            @for (outcome, all) in &report.reloads {
                tr {
                    td { (outcome) } td { (all.count) }
                    @for figure in [all.p50, all.p95, all.p99, all.max] { td { (format!("{figure:.1}")) } }
                }
            }
        }
        h2 { "Messages" }
        table {
            tr {
                th {} th { "sent" } th { "acknowledged" } th { "arrived" } th { "lost" } th { "repeated" } th { "reordered" }
                th { "excused" }
            }
            @for (name, of) in [("direct", report.direct), ("topic, at all readers", report.topic)] {
                tr {
                    td { (name) } td { (of.sent) } td { (of.acknowledged) } td { (of.arrived) } td { (of.lost) }
                    td { (of.repeated) } td { (of.reordered) } td { (of.excused) }
                }
            }
        }
        p {
            "Tunnels: " (report.tunnels.blocks) " blocks of 4 KiB there and back in " (report.tunnels.streams) " streams; "
            (report.tunnels.excused) " times one, or the try to open one, ended with what carried it. Connections: " (connections.opened) " opened, "
            (connections.closed) " closed: " (connections.named) " named by a plan, " (connections.crossed) " crossed, "
            (connections.excused) " broken by the harness, " (connections.wrong) " wrong."
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// What is drawn.
pub(crate) fn charts(report: &Report) -> Vec<Chart> {
    let lines =
        || report.nodes.iter().flat_map(|node| &node.reloads).filter(|line| line.trigger != "startup");
    let latency = report.reloads.keys().map(|outcome| {
        let of = lines().filter(|line| line.outcome == *outcome);
        let points = of.map(|line| (seconds(line.at), line.duration_ms.max(0.1))).collect();
        Series { name: outcome.clone(), shape: Shape::Dots, points }
    });
    let distribution = report.reloads.keys().map(|outcome| {
        let of = lines().filter(|line| line.outcome == *outcome);
        let mut all: Vec<f64> = of.map(|line| line.duration_ms).collect();
        all.sort_by(f64::total_cmp);
        let last = all.len().saturating_sub(1).max(1) as f64;
        let points = all.iter().enumerate().map(|(n, ms)| (100.0 * n as f64 / last, ms.max(0.1))).collect();
        Series { name: outcome.clone(), shape: Shape::Line, points }
    });
    let chart = |name, title, y, is_log, series| Chart { name, title, x: "s", y, is_log, series };
    vec![
        chart("reloads", "how long reloads took, over time", "ms", true, latency.collect()),
        Chart {
            name: "percentiles",
            title: "how long reloads took, by percentile",
            x: "%",
            y: "ms",
            is_log: true,
            series: distribution.collect(),
        },
        throughput(report),
        chart(
            "connections",
            "connections",
            "open",
            false,
            by_node(report, |node| {
                node.connections.iter().map(|(at, open)| (seconds(*at), *open as f64)).collect()
            }),
        ),
        chart(
            "memory",
            "memory",
            "MiB",
            false,
            by_node(report, |node| {
                node.samples.iter().map(|one| (seconds(one.at), one.rss_kib as f64 / 1024.0)).collect()
            }),
        ),
        chart(
            "descriptors",
            "descriptors",
            "open",
            false,
            by_node(report, |node| {
                node.samples.iter().map(|one| (seconds(one.at), one.descriptors as f64)).collect()
            }),
        ),
    ]
}

fn by_node(report: &Report, points: impl Fn(&Told) -> Vec<(f64, f64)>) -> Vec<Series> {
    let all = report.nodes.iter().enumerate();
    let series =
        |(index, node)| Series { name: format!("node {index}"), shape: Shape::Line, points: points(node) };
    all.map(series).collect()
}

/// What was acknowledged in each second, with a mark for each reload.
fn throughput(report: &Report) -> Chart {
    type Of = fn(&crate::report::Beat) -> u64;
    let kinds: [(&str, Of); 3] = [
        ("direct messages", |beat| beat.direct),
        ("topic messages", |beat| beat.topic),
        ("blocks", |beat| beat.blocks),
    ];
    let mut series: Vec<Series> = Vec::new();
    let mut top: f64 = 1.0;
    for (name, of) in kinds {
        let pairs = report.beats.windows(2).filter_map(|two| {
            let [one, next] = two else { return None };
            let per_second = (of(next) - of(one)) as f64 / seconds(next.at - one.at).max(0.001);
            Some((seconds(next.at), per_second))
        });
        let points: Vec<_> = pairs.collect();
        top = points.iter().map(|point| point.1).fold(top, f64::max);
        series.push(Series { name: name.to_owned(), shape: Shape::Line, points });
    }
    let reloads = report.nodes.iter().flat_map(|node| &node.reloads);
    let marks = reloads.map(|line| (seconds(line.at), top / 12.0)).collect();
    series.push(Series { name: "reloads".to_owned(), shape: Shape::Marks, points: marks });
    Chart {
        name: "throughput",
        title: "what was acknowledged in each second",
        x: "s",
        y: "per second",
        is_log: false,
        series,
    }
}
