//! Waiting for what has to happen.

use std::time::Duration;

/// How long anything may take on a machine under load. A test that reaches it fails; no test passes because of it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `seen` finds what it looks for.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut seen: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = seen().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "it did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
