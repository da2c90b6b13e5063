//! How the allocator of the C library is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// So long after a reload what it has freed is given back to the system, and so often at most: it takes milliseconds, in which who
/// allocates may wait.
const AFTER: Duration = Duration::from_secs(30);

/// Gives memory back after reloads.
///
/// glibc keeps what is freed where it lies, for the next who wants as much: reloads, logs and messages leave holes between what stays,
/// and a process holds twice what is in use. Nothing leaks, and nobody can see that from outside.
#[derive(Debug)]
pub(crate) struct Tidy {
    is_due: Arc<AtomicBool>,
    work: fn(),
}

// === impl Tidy ===

impl Default for Tidy {
    fn default() -> Self {
        Self { is_due: Arc::default(), work: give_back }
    }
}

impl Tidy {
    /// A reload is over. To be called on a runtime; costs nothing there.
    pub(crate) fn reload_is_over(&self) {
        if self.is_due.swap(true, Ordering::SeqCst) {
            return;
        }
        let (is_due, work) = (Arc::clone(&self.is_due), self.work);
        tokio::spawn(async move {
            // Those that follow are tidied up after as well.
            tokio::time::sleep(AFTER).await;
            is_due.store(false, Ordering::SeqCst);
            // Whoever allocates on this thread need not wait for it.
            tokio::task::spawn_blocking(work);
        });
    }
}

/// What is as large as this is mapped for itself, and goes back to the system whole. Above a message of 1 MiB, the default bound, and
/// what lies around it; below the 2.9 MiB in which a QUIC socket receives.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 2 << 20;

/// So much that is free at the end of an arena waits for the next who wants it: what glibc would come to by itself, twice as much as is
/// mapped.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 2 * MAPPED;

/// Keeps what was freed from staying with the process; to be called before there are threads.
///
/// *Arenas:* glibc makes one for each thread that allocates, up to eight for each core, and what one thread frees stays in the arena
/// that it came from. Each change of `node.worker_threads` brings new threads, and connections move between them: in ten minutes of
/// reloads a node of 45 MiB stood at 150, nearly all of it free.
///
/// *Large pieces:* glibc maps them for themselves until one is freed; from then on it takes others of that size from an arena, where
/// they are filled with zeroes (mapped, they would cost what is written to), and what is allocated behind them keeps the arena from
/// shrinking when they are freed. Each QUIC listener that opens and closes does this with its buffer: after twenty of them 8.4 MiB
/// of a node's own memory stood where 2.7 do.
///
/// Other C libraries have neither.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn bound() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from(cores.max(2)).unwrap_or(i32::MAX);
    for (variable, parameter, value) in [
        ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, arenas),
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, MAPPED),
        ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, KEPT),
    ] {
        // Somebody who knows better has said so, in glibc's own way (mallopt(3)).
        if std::env::var_os(variable).is_none() {
            tune(parameter, value);
        }
    }
}

/// Gives free pages back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper in any crate that is kept well")]
fn give_back() {
    // SAFETY: malloc_trim takes an integer by value, keeps no pointer, takes the locks of the allocator itself, and touches only memory that
    // nobody has. It is documented as MT-Safe.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves, or not at all.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

/// Nothing is to be done here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn bound() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt(3) has no safe wrapper in any crate that is kept well")]
fn tune(parameter: i32, value: i32) {
    // SAFETY: mallopt takes two integers by value, keeps no pointer and takes the allocator's own lock. It is documented as MT-Unsafe only
    // against other threads that allocate while it initializes the allocator, which this very call's caller has done before by allocating.
    let is_taken = unsafe { libc::mallopt(parameter, value) } == 1;
    debug_assert!(is_taken, "glibc takes each of these in these bounds");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    static TIDIED: AtomicUsize = AtomicUsize::new(0);

    fn count() {
        TIDIED.fetch_add(1, Ordering::SeqCst);
    }

    #[tokio::test(start_paused = true)]
    async fn after_many_reloads_it_is_tidied_up_once_and_after_the_last_one_too() {
        let tidy = Tidy { work: count, ..Tidy::default() };
        for expected in 1..4 {
            for _ in 0..10 {
                tidy.reload_is_over();
                tokio::time::sleep(AFTER / 20).await;
            }
            assert_eq!(TIDIED.load(Ordering::SeqCst), expected - 1);
            while TIDIED.load(Ordering::SeqCst) < expected {
                tokio::time::sleep(AFTER / 20).await;
            }
        }
    }

    #[test]
    fn what_is_in_use_stays() {
        let kept: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte; 4000]).collect();
        drop(kept.iter().map(Clone::clone).collect::<Vec<_>>());
        give_back();
        assert!(kept.iter().zip(0..=u8::MAX).all(|(kept, byte)| kept.iter().all(|found| *found == byte)));
    }
}
