//! Every figure in one run, each beside its floor or its peer.

mod extract;
mod show;

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::baseline::{Baseline, Verdict};
use crate::figure::Figure;
use crate::options::{Options, Subject};
use crate::samples::round;
use crate::{changed::Changed, data, mesh, reload, rollback, start, store, tunnel};

/// Of what a run's length follows from.
struct Effort {
    reloads: usize,
    rollbacks: usize,
    starts: usize,
    turns: usize,
}

/// Where and when it was measured.
pub(crate) struct Scene {
    cores: usize,
    /// Of the last minute, before the run and after it; the run itself is part of the second.
    load: [String; 2],
    took_s: f64,
    quick: bool,
}

const FULL: Effort = Effort { reloads: 50, rollbacks: 20, starts: 20, turns: 5 };
const QUICK: Effort = Effort { reloads: 5, rollbacks: 4, starts: 4, turns: 1 };

/// Members of the federations that reload and start.
const RELOADS: [usize; 4] = [4, 64, 512, 10_000];
const STARTS: [usize; 3] = [4, 512, 10_000];
/// Entries of the files of the store.
const STORE: [usize; 3] = [8, 512, 10_000];

pub(crate) async fn run(options: &Options) -> (Value, String, bool) {
    let baseline = match options.baseline.as_deref().map(Baseline::read).transpose() {
        Ok(baseline) => baseline,
        Err(problem) => return (json!({"error": problem}), problem, false),
    };
    let (before, began) = (load(), Instant::now());
    let figures = measure(options).await;
    let scene = Scene {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load: [before, load()],
        took_s: round(began.elapsed().as_secs_f64()),
        quick: options.quick,
    };
    let verdict = baseline.map(|baseline| baseline.judge(&figures, options.quick));
    let mut table =
        if options.markdown { show::markdown(&figures, &scene) } else { show::table(&figures, &scene) };
    let mut is_good = match &verdict {
        Some(verdict) => {
            table += &format!("\n{verdict}");
            verdict.is_good()
        }
        None => !figures.iter().any(Figure::misses_its_goal),
    };
    if let Some(file) = &options.save_baseline
        && let Err(error) = Baseline::of(&figures).write(file)
    {
        table += &format!("\n{}: {error}", file.display());
        is_good = false;
    }
    let report = json!({
        "scene": scene.report(),
        "figures": figures.iter().map(Figure::report).collect::<Vec<_>>(),
        "baseline": verdict.as_ref().map(Verdict::report),
    });
    (report, table, is_good)
}

async fn measure(options: &Options) -> Vec<Figure> {
    let Effort { reloads, rollbacks, starts, turns } = if options.quick { QUICK } else { FULL };
    let mut figures = Vec::new();

    say("reloads");
    let mut of = options.of(Subject::Reloads, &RELOADS, reloads);
    of.changed = Changed::ALL.to_vec();
    figures.extend(extract::reloads(&reload::run(&of).await.0));

    say("rollbacks");
    let mut of = options.of(Subject::Rollback(rollbacks), &[64], rollbacks);
    // This one has its fault points.
    of.node = fednode_tests::process::binary();
    figures.extend(extract::rollbacks(&rollback::run(&of, rollbacks).await.0));

    say("starts");
    let of = options.of(Subject::Start(starts), &STARTS, starts);
    figures.extend(extract::starts(&start::run(&of, starts).await.0));

    say("the way of the data");
    figures.extend(extract::data(&data::run(options, turns).await.0));

    say("a tunnel");
    figures.extend(extract::tunnel(&tunnel::run(options, turns).await.0));

    say("memory of a connection");
    figures.extend(extract::memory(&mesh::run(options, &[]).await.0));

    say("the files of peers");
    figures.extend(extract::store(&store::run(&STORE).0));
    figures
}

/// A whole run takes minutes.
fn say(what: &str) {
    eprintln!("measuring: {what} ...");
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

// === impl Scene ===

impl Scene {
    fn report(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"), "cores": self.cores, "load_before": self.load[0],
            "load_after": self.load[1], "took_s": self.took_s, "quick": self.quick,
            "optimised": !cfg!(debug_assertions),
        })
    }
}

impl std::fmt::Display for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cores, load: [before, after], took_s, quick } = self;
        let build = if cfg!(debug_assertions) { "unoptimised" } else { "release" };
        let kind = if *quick { "a quick run" } else { "a run" };
        write!(
            f,
            "fednode {}, {build} build, {cores} cores, load {before} before and {after} after {kind} of {took_s} s",
            env!("CARGO_PKG_VERSION")
        )
    }
}
