//! Arbiters, and a system, for actors that let files be read and written.
//!
//! Where the machine has no thread left (the pid limit of a container, no memory for a stack), tokio's pool for blocking work panics
//! unless it has a thread already, and an ordinary runtime's lets its last one go after ten seconds of rest. To the actor that
//! coordinates reloads such a panic would be the end, for want of a thread that was there before. These runtimes keep theirs.

use std::io;
use std::time::Duration;

use actix::{Arbiter, System, SystemRunner};
use tokio::runtime::{Builder, Runtime};

/// Longer than any process lives. Not the longest duration that there is: it is added to moments.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An arbiter that keeps a thread for `spawn_blocking`, from now on.
///
/// # Panics
/// As [`Arbiter::new`] does: if there is no thread for it, or no actix system.
#[must_use]
pub fn arbiter() -> Arbiter {
    Arbiter::try_with_tokio_rt(runtime).unwrap_or_else(|error| panic!("no arbiter: {error}"))
}

/// The same of the system that a program runs in.
///
/// # Panics
/// As [`actix::System::new`] does: if there is no thread or descriptor for it.
pub fn system() -> SystemRunner {
    System::with_tokio_rt(|| runtime().unwrap_or_else(|error| panic!("no runtime: {error}")))
}

fn runtime() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().thread_keep_alive(FOR_GOOD).build()?;
    // It stays.
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_blocks_is_done_on_it_and_its_thread_stays_for_a_time_that_can_be_told() {
        assert!(std::time::Instant::now().checked_add(FOR_GOOD).is_some());
        let system = system();
        let (tell, told) = tokio::sync::oneshot::channel();
        system.block_on(async {
            let arbiter = arbiter();
            arbiter.spawn(async move {
                let here = std::thread::current().id();
                let elsewhere = tokio::task::spawn_blocking(move || std::thread::current().id() != here);
                tell.send(elsewhere.await.unwrap()).unwrap();
            });
            assert!(told.await.unwrap());
            arbiter.stop();
        });
    }
}
