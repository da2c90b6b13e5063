//! Work of a request that blocks for files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDone {
    /// It panicked, or the server stops.
    #[error("the work on files ended")]
    Ended,
    /// The machine has no thread for it.
    #[error("there is no thread for it now (raise the limit of processes and threads, or try again)")]
    NoThread,
}

/// Does it on a thread where it may block.
///
/// # Errors
/// If it was not done. Of the pool itself, whoever asks would hear nothing: it panics where the machine has no thread for it.
pub(super) async fn block<T, F>(work: F) -> Result<T, NotDone>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    // A pool that has no thread has taken the work in all the same, for whenever it has one.
    let is_wanted = Arc::new(AtomicBool::new(true));
    let is_still_wanted = Arc::clone(&is_wanted);
    let work = move || is_still_wanted.load(Ordering::SeqCst).then(work);
    let Ok(begun) = catch_unwind(AssertUnwindSafe(|| web::block(work))) else {
        is_wanted.store(false, Ordering::SeqCst);
        return Err(NotDone::NoThread);
    };
    begun.await.ok().flatten().ok_or(NotDone::Ended)
}
