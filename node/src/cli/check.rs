//! `fednode check`.

use std::path::Path;
use std::process::ExitCode;

use reload::Problem;
use serde_json::json;

use super::{Common, REFUSED, ask, print, print_json, render};
use crate::config::{self, Config, LoadOptions, Loaded};
use crate::diff;
use crate::plural::count;

/// Judges the files, and what can be seen of the machine from here.
pub(super) fn check(common: &Common) -> ExitCode {
    match load(common, &common.config()) {
        Ok(loaded) => {
            report(common, &[], &loaded.warnings);
            ExitCode::SUCCESS
        }
        Err(problems) => {
            report(common, &problems, &[]);
            ExitCode::from(REFUSED)
        }
    }
}

/// Shows what the file changes against another file.
pub(super) fn against_file(common: &Common, other: &Path) -> ExitCode {
    let base = match Config::load(other, None, LoadOptions::default()) {
        Ok(loaded) => loaded.config,
        Err(rejection) => {
            report(common, &rejection.problems, &[]);
            return ExitCode::from(REFUSED);
        }
    };
    let loaded = match load(common, &common.config()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            report(common, &problems, &[]);
            return ExitCode::from(REFUSED);
        }
    };
    let changes = base.changes(&loaded.config);
    if common.json {
        print_json(&json!({"valid": true, "errors": [], "warnings": loaded.warnings, "changes": changes}));
    } else {
        render::problems("warning", &loaded.warnings);
        print(&render::changes(&changes));
        let (a, b) = (other.display().to_string(), common.config().display().to_string());
        print(&diff::between(&base, &a, &loaded.config, &b));
    }
    ExitCode::SUCCESS
}

/// Shows what the file changes against what the node runs.
pub(super) async fn against_running(common: &Common) -> ExitCode {
    let path = match std::path::absolute(common.config()) {
        Ok(path) => path,
        Err(error) => {
            eprintln!("Error: {}: {error}", common.config().display());
            return ExitCode::from(REFUSED);
        }
    };
    ask::plan(common, &path).await
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

fn report(common: &Common, problems: &[Problem], warnings: &[Problem]) {
    if common.json {
        return print_json(&json!({"valid": problems.is_empty(), "errors": problems, "warnings": warnings}));
    }
    render::problems("warning", warnings);
    for problem in problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        print(&format!("{} is valid\n", common.config().display()));
    } else {
        eprintln!("{} found", count(problems.len(), "problem"));
    }
}
