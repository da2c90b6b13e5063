//! The thread that looks: woken by events, by the poll and by what has to settle.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::folders::Folders;
use super::inbox::{Inbox, Mail};
use super::look::{self, Way};
use super::{Options, Watched};

/// The shortest time between two looks: a file that is written to a million times a second costs no more than this.
const PACE: Duration = Duration::from_millis(5);

/// How long files that are at rest wait for others of the set that are not. Together with the poll and a `settle` of seconds
/// this stays below the 30 seconds of R24.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often the chains of symlinks are walked again because watches were set on the way. What moves faster is left to
/// the poll.
const MAX_WALKS: usize = 8;

pub(super) struct Worker {
    options: Options,
    inbox: Arc<Inbox>,
    settle: Duration,
    entries: Vec<Entry>,
    /// Which names on the way belong to which entries.
    names: HashMap<PathBuf, Vec<usize>>,
    folders: Folders,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(options: Options, inbox: Arc<Inbox>) -> Self {
        let folders = Folders::new(options.events, Arc::clone(&inbox));
        let settle = options.settle;
        Self { options, inbox, settle, entries: Vec::new(), names: HashMap::new(), folders }
    }

    /// Looks, tells and waits, until nobody listens.
    pub(super) fn run(mut self) {
        let _end = End(Arc::clone(&self.inbox));
        let mut looked = Instant::now();
        let mut next = None;
        loop {
            let mail = self.inbox.wait(looked + PACE, next);
            if mail.closed {
                return;
            }
            self.take(mail);
            looked = Instant::now();
            next = self.look(looked);
        }
    }

    fn take(&mut self, mail: Mail) {
        let now = Instant::now();
        for path in &mail.touched {
            self.folders.doubt(path);
            for index in self.names.get(path).into_iter().flatten() {
                if let Some(entry) = self.entries.get_mut(*index) {
                    entry.touch(now);
                }
            }
        }
        if mail.lost {
            self.entries.iter_mut().for_each(|entry| entry.touch(now));
        }
        if let Some((files, settle)) = mail.order {
            self.settle = settle;
            self.set(files, now);
        }
    }

    fn set(&mut self, files: Vec<Watched>, now: Instant) {
        let mut before: HashMap<PathBuf, Entry> =
            self.entries.drain(..).map(|entry| (entry.path.clone(), entry)).collect();
        let mut listed = HashSet::new();
        for mut file in files {
            // Only fails where there is no working directory any more.
            file.path = std::path::absolute(&file.path).unwrap_or(file.path);
            if !listed.insert(file.path.clone()) {
                continue;
            }
            self.entries.push(match before.remove(&file.path) {
                Some(mut entry) => {
                    entry.is_seen(file.seen, now);
                    entry
                }
                None => Entry::new(file, now),
            });
        }
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        self.names.clear();
        self.inbox.forget_all_but(|path| listed.contains(path));
    }

    /// Looks at everything, tells what is to be told, and says when to look again at the latest.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        if self.entries.is_empty() {
            self.follow(&[], now);
            return None;
        }
        for _ in 0..MAX_WALKS {
            let ways: Vec<Way> = self.entries.iter().map(|entry| look::follow(&entry.path)).collect();
            let set = self.follow(&ways, now);
            for (entry, way) in self.entries.iter_mut().zip(ways) {
                entry.looks(way.look, now);
            }
            if !set {
                break;
            }
        }
        self.compare(now);
        self.tell(now);
        let due = self.entries.iter().filter_map(|entry| entry.due(self.settle));
        let patience = self.entries.iter().filter_map(Entry::news_since).map(|since| since + PATIENCE);
        due.chain(patience).chain([now + self.options.poll]).min()
    }

    /// Watches the folders of all names on the ways, and listens for the names and the folders themselves.
    fn follow(&mut self, ways: &[Way], now: Instant) -> bool {
        let mut names: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for (index, way) in ways.iter().enumerate() {
            for name in &way.names {
                let entries = names.entry(name.clone()).or_default();
                if entries.last() != Some(&index) {
                    entries.push(index);
                }
            }
        }
        let folder_of = |name: &PathBuf| name.parent().unwrap_or(name).to_owned();
        let folders: HashSet<PathBuf> = names.keys().map(folder_of).collect();
        if names != self.names {
            // Before the watches are set: no event of theirs is to be dropped.
            self.inbox.listen_for(names.keys().chain(&folders).cloned().collect());
            self.names = names;
        }
        self.folders.follow(folders.iter().map(PathBuf::as_path), now)
    }

    /// Reads what stands still and has not been compared.
    fn compare(&mut self, now: Instant) {
        for entry in &mut self.entries {
            let Some(look) = entry.wants_comparison(self.settle, now) else { continue };
            match state(&entry.path, look, &self.options) {
                Some(state) => entry.rests(state, now, self.options.coarse),
                // It changed while it was read.
                None => entry.touch(now),
            }
        }
    }

    /// Tells what is at rest, if all is, or if that has been waited for.
    fn tell(&mut self, now: Instant) {
        let Some(since) = self.entries.iter().filter_map(Entry::news_since).min() else { return };
        if self.entries.iter().any(Entry::is_open) && now < since + PATIENCE {
            return;
        }
        let news: Vec<_> = self.entries.iter_mut().filter_map(Entry::tell).collect();
        self.inbox.tell(news);
    }
}

fn state(path: &Path, look: &look::Look, options: &Options) -> Option<look::State> {
    look::state(path, look, options.digest)
}

/// However the thread ends, the reader is told.
struct End(Arc<Inbox>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn what_rests_waits_for_what_does_not_but_not_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        let inbox = Arc::new(Inbox::default());
        let options = Options { events: false, ..Options::default() };
        let mut worker = Worker::new(options, Arc::clone(&inbox));
        let start = Instant::now();
        fs::write(&a, "0").unwrap();
        fs::write(&b, "0").unwrap();
        worker.set(vec![Watched::new(&a), Watched::new(&b)], start);
        worker.look(start);
        fs::write(&a, "1").unwrap();
        let told = || poll_fn(|cx| Poll::Ready(inbox.poll_told(cx)));
        let mut waited = Duration::ZERO;
        // The second file gets longer twice in each second.
        while waited < PATIENCE + options.settle {
            assert!(told().await.is_pending(), "told after {waited:?}");
            fs::write(&b, vec![b'x'; usize::try_from(waited.as_millis()).unwrap()]).unwrap();
            let next = worker.look(start + waited).unwrap();
            assert!(next <= start + waited + options.poll);
            waited += options.settle / 2;
        }
        worker.look(start + waited);
        assert_eq!(told().await, Poll::Ready(Some([a].into())));
        // At last it rests, and is told as it is then.
        worker.look(start + waited + options.settle * 2);
        assert_eq!(told().await, Poll::Ready(Some([b].into())));
    }
}
