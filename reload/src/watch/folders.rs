//! The folders whose events are asked of the kernel. Events are a hint and never the truth: whatever fails here is only polled.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{Error, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::inbox::Inbox;

/// How long after the kernel had no events to give it is asked again.
const RETRY: Duration = Duration::from_secs(60);

/// The folders that are watched now.
pub(super) struct Folders {
    inbox: Arc<Inbox>,
    events: Events,
    /// Each with what it was when its watch was set: another folder in its place needs another watch.
    watched: HashMap<PathBuf, Option<Id>>,
}

enum Events {
    /// Not wanted.
    Off,
    /// Not asked for yet, or not before.
    Not {
        before: Option<Instant>,
    },
    On(RecommendedWatcher),
}

/// Device and inode.
type Id = (u64, u64);

// === impl Folders ===

impl Folders {
    pub(super) fn new(events: bool, inbox: Arc<Inbox>) -> Self {
        inbox.set_only_polls(!events);
        let events = if events { Events::Not { before: None } } else { Events::Off };
        Self { inbox, events, watched: HashMap::new() }
    }

    /// Watches these folders and no others; `true` if a watch was set, so that what happened before it has to be looked at.
    pub(super) fn follow<'p>(&mut self, wanted: impl Iterator<Item = &'p Path>, now: Instant) -> bool {
        let wanted: HashMap<&Path, Option<Id>> = wanted.map(|folder| (folder, id(folder))).collect();
        if wanted.is_empty() {
            self.stop();
            return false;
        }
        let Some(mut watcher) = self.watcher(now) else { return false };
        match self.set(&mut watcher, &wanted) {
            Ok(set) => {
                self.events = Events::On(watcher);
                set
            }
            Err(why) => {
                // Its end panics, too, where its thread is gone.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(watcher)));
                self.give_up(&why, now);
                false
            }
        }
    }

    /// Sets the watches that are wanted and takes back the others; whether one was set.
    fn set(
        &mut self,
        watcher: &mut RecommendedWatcher,
        wanted: &HashMap<&Path, Option<Id>>,
    ) -> Result<bool, Exhausted> {
        let unwanted = |path: &&PathBuf| !wanted.contains_key(path.as_path());
        let old: Vec<_> = self.watched.keys().filter(unwanted).cloned().collect();
        for folder in old {
            self.watched.remove(&folder);
            // One that is gone has no watch any more.
            let _ = call(|| watcher.unwatch(&folder))?;
        }
        let mut any = false;
        for (folder, id) in wanted {
            if self.watched.get(*folder) == Some(id) {
                continue;
            }
            let set = call(|| {
                // Under its name there may be a watch on another folder, which is gone.
                let _ = watcher.unwatch(folder);
                watcher.watch(folder, RecursiveMode::NonRecursive)
            })?;
            any |= set.is_ok();
            // One that cannot be watched is tried again with each look.
            let known = self.watched.insert((*folder).to_owned(), id.filter(|_| set.is_ok()));
            if let (Err(error), true) = (set, known != Some(None)) {
                tracing::debug!(folder = %folder.display(), %error, "a folder sends no events");
            }
        }
        Ok(any)
    }

    /// Something happened to the folder itself: the library may have dropped its watch, so it is set again.
    pub(super) fn doubt(&mut self, path: &Path) {
        if let Some(id) = self.watched.get_mut(path) {
            *id = None;
        }
    }

    fn watcher(&mut self, now: Instant) -> Option<RecommendedWatcher> {
        match std::mem::replace(&mut self.events, Events::Not { before: None }) {
            Events::On(watcher) => Some(watcher),
            Events::Off => {
                self.events = Events::Off;
                None
            }
            Events::Not { before: Some(before) } if now < before => {
                self.events = Events::Not { before: Some(before) };
                None
            }
            Events::Not { .. } => {
                let inbox = Arc::clone(&self.inbox);
                match notify::recommended_watcher(move |event| hear(&inbox, event)) {
                    Ok(watcher) => {
                        if self.inbox.only_polls() {
                            tracing::info!("files are watched with the kernel's events again");
                        }
                        self.inbox.set_only_polls(false);
                        Some(watcher)
                    }
                    Err(error) => {
                        self.give_up(&Exhausted(error), now);
                        None
                    }
                }
            }
        }
    }

    /// Only polls, until it is tried again. Said once.
    fn give_up(&mut self, why: &Exhausted, now: Instant) {
        self.watched.clear();
        self.events = Events::Not { before: Some(now + RETRY) };
        if !self.inbox.only_polls() {
            let Exhausted(error) = why;
            tracing::warn!(
                %error,
                "the kernel has no events to give; files are only polled (raise fs.inotify.max_user_instances \
                 and fs.inotify.max_user_watches, or the limit of open files)"
            );
        }
        self.inbox.set_only_polls(true);
    }

    fn stop(&mut self) {
        self.watched.clear();
        if matches!(self.events, Events::On(_)) {
            self.events = Events::Not { before: None };
        }
    }
}

/// Why there are no events.
struct Exhausted(Error);

/// Calls the library, which panics where its thread is gone. An error that concerns one folder only (not there any more, not
/// readable, on a file system without events) is handed back.
fn call(act: impl FnOnce() -> notify::Result<()>) -> Result<notify::Result<()>, Exhausted> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Err(error)) if is_exhausted(&error) => Err(Exhausted(error)),
        Ok(done) => Ok(done),
        Err(_) => Err(Exhausted(Error::generic("the watching thread of the library is gone"))),
    }
}

/// No more watches (`ENOSPC`), or descriptors (`EMFILE`, `ENFILE`), or memory.
fn is_exhausted(error: &Error) -> bool {
    match &error.kind {
        ErrorKind::MaxFilesWatch => true,
        #[cfg(unix)]
        ErrorKind::Io(error) => {
            use rustix::io::Errno;
            let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::NOMEM];
            exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        }
        _ => false,
    }
}

/// On the library's thread: the names that something happened to, or that nobody knows.
fn hear(inbox: &Inbox, event: notify::Result<Event>) {
    match event {
        Ok(event) if event.need_rescan() => inbox.lose(),
        Ok(event) if matters(&event.kind) => inbox.touch(event.paths),
        Ok(_) => {}
        Err(_) => inbox.lose(),
    }
}

/// Reading is no event: it would be caused by ourselves.
const fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => matches!(access, AccessKind::Close(AccessMode::Write)),
        _ => true,
    }
}

fn id(folder: &Path) -> Option<Id> {
    let metadata: Metadata = fs::symlink_metadata(folder).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    metadata.is_dir().then_some((0, 0))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn without_events_there_is_the_poll_and_another_try() {
        let folder = tempfile::tempdir().unwrap();
        let inbox = Arc::new(Inbox::default());
        let mut folders = Folders::new(true, Arc::clone(&inbox));
        let now = Instant::now();
        let follow = |folders: &mut Folders, now| folders.follow([folder.path()].into_iter(), now);
        assert!(follow(&mut folders, now), "a watch is set");
        assert!(!follow(&mut folders, now), "and not set again");
        folders.doubt(folder.path());
        assert!(follow(&mut folders, now), "unless its folder may be another one");
        for (round, error) in [
            Error::new(ErrorKind::MaxFilesWatch),
            Error::io(rustix::io::Errno::MFILE.into()),
            Error::io(rustix::io::Errno::NOSPC.into()),
        ]
        .into_iter()
        .enumerate()
        {
            let now = now + RETRY * 2 * u32::try_from(round).unwrap();
            let Err(why) = call(|| Err(error)) else { panic!("exhausted") };
            folders.give_up(&why, now);
            assert!(inbox.only_polls());
            assert!(!follow(&mut folders, now + RETRY / 2));
            assert!(follow(&mut folders, now + RETRY));
            assert!(!inbox.only_polls());
        }
        let gone = folder.path().join("gone");
        folders.follow([gone.as_path()].into_iter(), now);
        assert!(!inbox.only_polls(), "one folder without events is not the end of all");
    }
}
