//! `fednode check`.

use std::path::Path;
use std::process::ExitCode;

use reload::Problem;
use serde_json::json;

use super::excerpt::Excerpts;
use super::probe::{Found, probe};
use super::{Common, REFUSED, ask, on_runtime_of, print, print_json, render};
use crate::config::{self, Config, LoadOptions, Loaded};
use crate::diff;
use crate::plural::count;

/// Judges the files, and what can be seen of the machine from here.
pub(super) fn check(common: &Common, with_probe: bool) -> ExitCode {
    match load(common, &common.config()) {
        Ok(mut loaded) => {
            let tried = try_out(&mut loaded, with_probe);
            report(common, &[], &loaded.warnings, tried);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            report(common, &problems, &[], None);
            ExitCode::from(REFUSED)
        }
    }
}

/// Shows what the file changes against another file.
pub(super) fn against_file(common: &Common, other: &Path, with_probe: bool) -> ExitCode {
    let base = match Config::load(other, None, LoadOptions::default()) {
        Ok(loaded) => loaded.config,
        Err(rejection) => {
            report(common, &rejection.problems, &[], None);
            return ExitCode::from(REFUSED);
        }
    };
    let mut loaded = match load(common, &common.config()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            report(common, &problems, &[], None);
            return ExitCode::from(REFUSED);
        }
    };
    let tried = try_out(&mut loaded, with_probe);
    let changes = base.changes(&loaded.config);
    if common.json {
        let mut said = json!({"valid": true, "errors": [], "warnings": loaded.warnings, "changes": changes});
        add_tried(&mut said, tried);
        print_json(&said);
    } else {
        show("warning: ", &loaded.warnings);
        print(&render::changes(&changes));
        let (a, b) = (other.display().to_string(), common.config().display().to_string());
        print(&diff::between(&base, &a, &loaded.config, &b));
    }
    ExitCode::SUCCESS
}

/// Shows what the file changes against what the node runs.
pub(super) async fn against_running(common: &Common, with_probe: bool) -> ExitCode {
    let path = match std::path::absolute(common.config()) {
        Ok(path) => path,
        Err(error) => {
            eprintln!("Error: {}: {error}", common.config().display());
            return ExitCode::from(REFUSED);
        }
    };
    // Judged by the node; tried from here, which is where it runs.
    let found = match Config::load(&common.config(), None, LoadOptions::default()) {
        Ok(loaded) if with_probe => probe(&loaded.config).await.warnings,
        _ => Vec::new(),
    };
    ask::plan(common, &path, found).await
}

/// Loads the file; a port that the node on the same data folder holds counts as free (contract).
fn load(common: &Common, path: &Path) -> Result<Loaded, Vec<Problem>> {
    let loaded = Config::load(path, None, LoadOptions::default()).map_err(|rejection| rejection.problems)?;
    let held = ask::held_by_running(common);
    let mut problems = config::resources(&loaded.config, None, &held);
    if problems.is_empty() {
        return Ok(loaded);
    }
    loaded.config.locate(&mut problems);
    Err(problems)
}

/// Adds what cannot be reached to the warnings; says how many were tried.
fn try_out(loaded: &mut Loaded, wanted: bool) -> Option<usize> {
    if !wanted {
        return None;
    }
    let Found { warnings, tried } = on_runtime_of(probe(&loaded.config))?;
    loaded.warnings.extend(warnings);
    Some(tried)
}

fn add_tried(said: &mut serde_json::Value, tried: Option<usize>) {
    if let Some(tried) = tried {
        said["probed"] = tried.into();
    }
}

fn report(common: &Common, problems: &[Problem], warnings: &[Problem], tried: Option<usize>) {
    if common.json {
        let mut said = json!({"valid": problems.is_empty(), "errors": problems, "warnings": warnings});
        add_tried(&mut said, tried);
        return print_json(&said);
    }
    show("warning: ", warnings);
    show("", problems);
    if problems.is_empty() {
        let tried = tried.map(|tried| format!(" ({tried} tried)"));
        print(&format!("{} is valid{}\n", common.config().display(), tried.unwrap_or_default()));
    } else {
        eprintln!("{} found", count(reload::error::count(problems), "problem"));
    }
}

/// Problems on stderr, one line each; on a terminal with the line of the file below.
fn show(kind: &str, problems: &[Problem]) {
    show_with(Excerpts::for_stderr(false), kind, problems);
}

/// The same, of problems that the node tells.
pub(super) fn show_told(kind: &str, problems: &[Problem]) {
    show_with(Excerpts::for_stderr(true), kind, problems);
}

fn show_with(mut excerpts: Option<Excerpts>, kind: &str, problems: &[Problem]) {
    for problem in problems {
        let excerpt = excerpts.as_mut().map(|excerpts| excerpts.of(problem)).unwrap_or_default();
        eprint!("{kind}{problem}\n{excerpt}");
    }
}
