//! The stress harness: real nodes on loopback, with traffic between them, under reloads and faults that follow from a seed, and the
//! invariants of the design checked all the time from outside. See `docs/stress.md`.
//!
//! `cargo run -p fednode-tests --bin fednode-stress -- --scenario tests/scenarios/smoke.yaml`. Its exit code is the verdict: 0 for
//! passed, 1 for failed, 2 for a wrong usage.

mod action;
mod book;
mod charts;
mod connections;
mod files;
mod finding;
mod flow;
mod growth;
mod hand;
mod logs;
mod options;
mod page;
mod progress;
mod report;
mod rest;
mod run;
mod scenario;
mod schedule;
mod tail;
mod trouble;
mod world;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use action::Entry;
use options::Options;
use report::Report;
use run::Plan;
use scenario::Scenario;

fn main() -> ExitCode {
    let options = Options::parse();
    let plans = match plans(&options) {
        Ok(plans) => plans,
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::from(2);
        }
    };
    if options.print_schedule {
        for plan in &plans {
            match serde_json::to_string_pretty(&plan.schedule) {
                Ok(text) => println!("{text}"),
                Err(error) => eprintln!("Error: {error}"),
            }
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: no runtime: {error}");
            return ExitCode::from(2);
        }
    };
    if runtime.block_on(play(plans)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is to be run.
fn plans(options: &Options) -> Result<Vec<Plan>, String> {
    if let Some(path) = &options.replay {
        return replay(options, path).map(|plan| vec![plan]);
    }
    let mut scenario = Scenario::read(&options.scenario).map_err(|error| error.to_string())?;
    scenario.duration = options.duration.unwrap_or(scenario.duration);
    let name = options.scenario.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let plan = |seed| Plan {
        name: name.clone(),
        scenario: scenario.clone(),
        seed,
        schedule: schedule::of(&scenario, seed),
        node: options.node.clone(),
        out: options.out.join(format!("{name}-{seed}")),
    };
    Ok(match options.seeds {
        Some(range) => (range.first..=range.last).map(plan).collect(),
        None => vec![plan(options.seed.unwrap_or(scenario.seed))],
    })
}

/// The schedule that a report has written down, also if this program would make another one of its seed.
fn replay(options: &Options, path: &Path) -> Result<Plan, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| told(&error))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| told(&error))?;
    let scenario: Scenario =
        serde_json::from_value(report["scenario"].clone()).map_err(|error| told(&error))?;
    let schedule: Vec<Entry> =
        serde_json::from_value(report["schedule"].clone()).map_err(|error| told(&error))?;
    let seed = report["seed"].as_u64().ok_or_else(|| told(&"it names no seed"))?;
    let name = report["name"].as_str().unwrap_or("replay").to_owned();
    let out = options.out.join(format!("{name}-{seed}-replay"));
    Ok(Plan { name, scenario, seed, schedule, node: options.node.clone(), out })
}

/// Plays one after the other. `true` if all passed.
async fn play(plans: Vec<Plan>) -> bool {
    // One Ctrl-C, or SIGTERM, ends the run that is under way, and those behind it.
    let stop = Arc::new(watch::Sender::new(false));
    let stopping = Arc::clone(&stop);
    tokio::spawn(async move {
        let Ok(mut term) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        stopping.send_replace(true);
    });
    let (count, mut failed) = (plans.len(), Vec::new());
    for plan in plans {
        if *stop.borrow() {
            break;
        }
        let (out, seed) = (plan.out.clone(), plan.seed);
        eprintln!("{}: {} nodes, seed {seed}", plan.name, plan.scenario.nodes);
        let mut stopped = stop.subscribe();
        let report = run::run(plan, async move {
            // The sender lives as long as this program plays.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
        .await;
        println!("{}", report.summary());
        if let Err(error) = write(&report, &out) {
            eprintln!("{}: the report cannot be written: {error}", out.display());
        }
        if !report.passed {
            failed.push(seed);
        }
    }
    if count > 1 {
        println!("{} of {count} runs failed: {failed:?}", failed.len());
    }
    failed.is_empty()
}

fn write(report: &Report, out: &Path) -> std::io::Result<()> {
    fs::create_dir_all(out)?;
    fs::write(out.join("report.json"), serde_json::to_vec(report)?)?;
    fs::write(out.join("report.html"), page::of(report))?;
    for chart in page::charts(report) {
        fs::write(out.join(chart.name).with_extension("svg"), chart.svg())?;
    }
    println!("  {}", out.join("report.html").display());
    Ok(())
}
