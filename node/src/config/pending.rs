//! Keys that are read and judged, and have no effect in this version: said as warnings, because a setting that silently does
//! nothing is worse than one that is refused.

use reload::Problem;

use super::Config;

/// The keys of this configuration that ask for what this version does not do.
pub(super) fn not_in_effect(config: &Config) -> Vec<Problem> {
    let asked = [(config.admin.listen.is_some(), "admin.listen", "the admin API on a TCP address")];
    asked
        .into_iter()
        .filter(|(asked, ..)| *asked)
        .map(|(_, path, what)| {
            Problem::at(path, format!("has no effect: this version does not have {what} yet"))
                .hint("the rest of the configuration is in force")
                .file(config.source.name.clone())
        })
        .collect()
}
