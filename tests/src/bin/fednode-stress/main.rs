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
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
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
        // One that reads no further has what it wants.
        let printed = plans.iter().try_for_each(|plan| print(&plan.schedule));
        return match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                eprintln!("Error: the schedule cannot be printed: {error}");
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        };
    }
    if let Err(error) = plans.iter().try_for_each(prepare) {
        eprintln!("Error: {error}");
        return ExitCode::from(2);
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

fn print(schedule: &[Entry]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, schedule)?;
    writeln!(stdout)
}

/// What a run would find out after its hour: a node that is none, a place where nothing can be written.
fn prepare(plan: &Plan) -> Result<(), String> {
    if let Some(node) = &plan.node {
        let is_program =
            fs::metadata(node).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        if !is_program {
            return Err(format!("--node {}: is no program", node.display()));
        }
    }
    let mark = plan.out.join(".writable");
    fs::create_dir_all(&plan.out)
        .and_then(|()| fs::write(&mark, ""))
        .and_then(|()| fs::remove_file(&mark))
        .map_err(|error| format!("--out {}: no report can be written there: {error}", plan.out.display()))
}

/// What is to be run.
fn plans(options: &Options) -> Result<Vec<Plan>, String> {
    if let Some(path) = &options.replay {
        return replay(options, path).map(|plan| vec![plan]);
    }
    let scenario = Scenario::read(&options.scenario, options.duration).map_err(|error| error.to_string())?;
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
    if let Some(wrong) = scenario.judge() {
        return Err(told(&wrong));
    }
    let mut schedule: Vec<Entry> =
        serde_json::from_value(report["schedule"].clone()).map_err(|error| told(&error))?;
    schedule.sort_by_key(|entry| (entry.at, entry.node));
    if let Some(entry) = schedule.iter().find(|entry| !entry.is_of(scenario.nodes)) {
        return Err(told(&format!("{entry:?} is about a node that there is not")));
    }
    let seed = report["seed"].as_u64().ok_or_else(|| told(&"it names no seed"))?;
    let name = Path::new(report["name"].as_str().unwrap_or("replay")).file_name();
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let out = options.out.join(format!("{name}-{seed}-replay"));
    Ok(Plan { name, scenario, seed, schedule, node: options.node.clone(), out })
}

/// How a run is to be ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    /// Nothing more is done to the nodes; all comes to rest, and is judged.
    Well,
    /// What has not come to rest by now does not.
    Now,
}

/// Plays one after the other. `true` if all passed.
async fn play(plans: Vec<Plan>) -> bool {
    // One Ctrl-C, or SIGTERM, ends the run that is under way, and those behind it; another one does not wait until all is well.
    let stop = Arc::new(watch::Sender::new(Stop::No));
    let stopping = Arc::clone(&stop);
    tokio::spawn(async move {
        let Ok(mut term) = signal(SignalKind::terminate()) else { return };
        for wanted in [Stop::Well, Stop::Now] {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            stopping.send_replace(wanted);
            if wanted == Stop::Well {
                eprintln!(
                    "ends: all comes to rest first, which may take minutes; once more, and it ends now"
                );
            }
        }
    });
    let (count, mut failed) = (plans.len(), Vec::new());
    for plan in plans {
        if *stop.borrow() != Stop::No {
            break;
        }
        let (out, seed) = (plan.out.clone(), plan.seed);
        eprintln!("{}: {} nodes, seed {seed}", plan.name, plan.scenario.nodes);
        let report = match run::run(plan, stop.subscribe()).await {
            Ok(report) => report,
            Err(error) => {
                eprintln!("Error: {error}");
                failed.push(seed);
                break;
            }
        };
        println!("{}", report.summary());
        if let Err(error) = write(&report, &out) {
            eprintln!("{}: the report cannot be written: {error}", out.display());
            failed.push(seed);
        } else if !report.passed {
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
