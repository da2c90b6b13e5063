//! How the allocator of the C library is used.

/// Keeps memory from being spread over more arenas than the machine has cores; to be called before there are threads.
///
/// glibc makes an arena for each thread that allocates, up to eight for each core, and what one thread frees stays in the arena that
/// it came from. Each change of `node.worker_threads` brings new threads, and connections move between them: in ten minutes of
/// reloads a node of 45 MiB stood at 150, nearly all of it free. Other C libraries have no such arenas.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn bound_arenas() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Somebody who knows better has said so, in glibc's own way (mallopt(3)).
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        limit(i32::try_from(cores.max(2)).unwrap_or(i32::MAX));
    }
}

/// Keeps memory from being spread; nothing is to be done here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn bound_arenas() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt(3) has no safe wrapper in any crate that is kept well")]
fn limit(arenas: i32) {
    // SAFETY: mallopt takes two integers by value, keeps no pointer and takes the allocator's own lock. It is documented as MT-Unsafe only
    // against other threads that allocate while it initializes the allocator, which this very call's caller has done before by allocating.
    let is_taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) } == 1;
    debug_assert!(is_taken, "glibc takes every positive number of arenas");
}
