//! What runs against what the file says, as a unified diff of effective values: comments, order and spelled-out defaults do
//! not show, and secrets cannot, because the text is written from redacted values.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use reload::{Generation, Problem};
use similar::TextDiff;

use crate::config::{Config, LoadOptions};

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// Compares what runs with this file, or with its own, as it is now. Empty where both have the same effect.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn against_file(
    current: &Arc<Config>,
    generation: Generation,
    file: Option<&Path>,
) -> Result<String, Vec<Problem>> {
    let file = file.unwrap_or(&current.source.path);
    let loaded = Config::load(file, Some(current), LoadOptions::default());
    let loaded = loaded.map_err(|rejection| rejection.problems)?;
    let running = format!("running (generation {generation})");
    Ok(between(current, &running, &loaded.config, &file.display().to_string()))
}

/// The diff between two configurations.
#[must_use]
pub fn between(old: &Config, old_name: &str, new: &Config, new_name: &str) -> String {
    let mut text = unified(&old.canonical(), old_name, &new.canonical(), new_name);
    let (old_peers, new_peers) = (old.canonical_peers(), new.canonical_peers());
    text += &unified(&old_peers, &format!("{old_name}: peers"), &new_peers, &format!("{new_name}: peers"));
    for change in old.changes(new) {
        // A secret looks the same on both sides.
        if change.from == change.to {
            let _ = writeln!(text, "# {} changes; its value is not shown", change.path);
        }
    }
    text
}

/// The unified diff of two texts whose lines end in `\n` and hold no `\r`, as canonical ones do. Empty where they are equal.
#[must_use]
pub fn unified(old: &str, old_name: &str, new: &str, new_name: &str) -> String {
    TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(old_name, new_name)
        .to_string()
}

#[cfg(test)]
mod tests;
