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
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use futures::FutureExt as _;
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
    if let Err(error) = prepare(&options) {
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
    // Its panic has told what. The nodes are gone with what held them.
    let played = runtime.block_on(AssertUnwindSafe(play(plans)).catch_unwind());
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) => {
            eprintln!("Error: the run could not go on; there is no verdict");
            ExitCode::FAILURE
        }
    }
}

/// Says a line to whoever listens. Nobody may, or his disk may be full: the report is in its files.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn print(schedule: &[Entry]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, schedule)?;
    writeln!(stdout)
}

/// What a run would find out after its hour: a node that is none, a place where nothing can be written.
fn prepare(options: &Options) -> Result<(), String> {
    let node = options.node.clone().unwrap_or_else(fednode_tests::process::binary);
    let is_program = fs::metadata(&node).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    if !is_program {
        return Err(format!(
            "--node {}: is no program (`cargo build -p fednode-tests --bins`)",
            node.display()
        ));
    }
    let mark = options.out.join(".writable");
    fs::create_dir_all(&options.out)
        .and_then(|()| fs::write(&mark, ""))
        .and_then(|()| fs::remove_file(&mark))
        .map_err(|error| format!("--out {}: no report can be written there: {error}", options.out.display()))
}

/// What is to be run.
fn plans(options: &Options) -> Result<Vec<Plan>, String> {
    // The nodes run in folders of their own.
    let node = options.node.as_ref().map(std::path::absolute).transpose();
    let node = node.map_err(|error| format!("--node: {error}"))?;
    if let Some(path) = &options.replay {
        return replay(options, path, node).map(|plan| vec![plan]);
    }
    let scenario = Scenario::read(&options.scenario, options.duration).map_err(|error| error.to_string())?;
    let name = options.scenario.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let plan = |seed| Plan {
        name: name.clone(),
        scenario: scenario.clone(),
        seed,
        schedule: schedule::of(&scenario, seed),
        node: node.clone(),
        out: options.out.join(format!("{name}-{seed}")),
    };
    Ok(match options.seeds {
        Some(range) => (range.first..=range.last).map(plan).collect(),
        None => vec![plan(options.seed.unwrap_or(scenario.seed))],
    })
}

/// The schedule that a report has written down, also if this program would make another one of its seed.
fn replay(options: &Options, path: &Path, node: Option<PathBuf>) -> Result<Plan, String> {
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
    Ok(Plan { name, scenario, seed, schedule, node, out })
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
    // One Ctrl-C, SIGTERM, or terminal that closes ends the run that is under way, and those behind it; another one does not wait until all is well.
    let stop = Arc::new(watch::Sender::new(Stop::No));
    let stopping = Arc::clone(&stop);
    tokio::spawn(async move {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
        let (Ok(mut term), Ok(mut closed)) = signals else { return };
        for wanted in [Stop::Well, Stop::Now] {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
                _ = closed.recv() => {}
            }
            stopping.send_replace(wanted);
            if wanted == Stop::Well {
                eprintln!(
                    "ends: all comes to rest first, which may take minutes; once more, and it ends now"
                );
            }
        }
    });
    let (count, mut ran, mut failed) = (plans.len(), 0, Vec::new());
    for plan in plans {
        if *stop.borrow() != Stop::No {
            break;
        }
        let (out, seed) = (plan.out.clone(), plan.seed);
        eprintln!("{}: {} nodes, seed {seed}", plan.name, plan.scenario.nodes);
        ran += 1;
        if let Err(error) = report::clear(&out) {
            eprintln!("{}: an earlier report stays: {error}", out.display());
        }
        let report = match run::run(plan, stop.subscribe()).await {
            Ok(report) => report,
            Err(error) => {
                eprintln!("Error: {error}");
                failed.push(seed);
                break;
            }
        };
        let written = write(&report, &out);
        say(&report.summary());
        match &written {
            Ok(()) => say(&format!("  {}", out.join("report.html").display())),
            Err(error) => eprintln!("{}: the report cannot be written: {error}", out.display()),
        }
        if written.is_err() || !report.passed {
            failed.push(seed);
        }
    }
    if count > 1 {
        say(&format!("{} of {ran} runs failed: {failed:?}", failed.len()));
    }
    if ran < count {
        say(&format!("{} of {count} were not run", count - ran));
    }
    failed.is_empty() && ran == count
}

fn write(report: &Report, out: &Path) -> std::io::Result<()> {
    fs::create_dir_all(out)?;
    fs::write(out.join("report.json"), serde_json::to_vec(report)?)?;
    fs::write(out.join("report.html"), page::of(report))?;
    for chart in page::charts(report) {
        fs::write(out.join(chart.name).with_extension("svg"), chart.svg())?;
    }
    Ok(())
}
