//! Numbers of things, as people write them.

/// `1 problem`, `2 problems`.
pub(crate) fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
