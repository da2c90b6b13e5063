//! Who was told what, what a reader saw, and whether both agree in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fednode_tests::wait::PATIENCE;

use crate::keys;

/// What an order asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    There,
    Gone,
}

/// An editor's visit.
pub(super) struct Session {
    /// What it had read.
    pub(super) read: String,
    /// When its save began and had ended.
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// Whether the file is torn or gone meanwhile.
    pub(super) tears: bool,
}

struct Ordered {
    wish: Wish,
    started: Instant,
    is_told: bool,
}

/// One look of the reader that saw another text than the one before.
struct Look {
    began: Instant,
    ended: Instant,
    /// When it was looked at for the last time, and was still the same.
    again: Instant,
    /// The members; nothing where the file was torn or gone.
    keys: Option<BTreeSet<String>>,
}

/// Whoever has it may edit, with the entries that editors have in the file.
pub(super) type Desk<'a> = MutexGuard<'a, BTreeSet<String>>;

pub(super) struct Ledger {
    path: PathBuf,
    desk: Mutex<BTreeSet<String>>,
    orders: Mutex<BTreeMap<String, Vec<Ordered>>>,
    sessions: Mutex<Vec<Session>>,
    looks: Mutex<Vec<Look>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            desk: Mutex::default(),
            orders: Mutex::default(),
            sessions: Mutex::default(),
            looks: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn desk(&self) -> Desk<'_> {
        lock(&self.desk)
    }

    /// What an editor reads: with every entry of every editor in it, for none was ever acknowledged to be gone. The node may have
    /// the file in its hands for a moment, in which it finds a save that it did not expect, and gives it back.
    pub(super) fn open(&self, desk: &Desk<'_>) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            if text.ends_with("# the end\n") && desk.iter().all(|key| text.contains(key)) {
                return text;
            }
            assert!(Instant::now() < deadline, "an editor's save is lost: {text}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn saved(&self, desk: &mut Desk<'_>, session: Session, before: Option<String>, key: String) {
        if let Some(before) = before {
            desk.remove(&before);
        }
        desk.insert(key);
        lock(&self.sessions).push(session);
    }

    pub(super) fn ordered(&self, key: &str, wish: Wish, started: Instant, is_told: bool) {
        lock(&self.orders).entry(key.to_owned()).or_default().push(Ordered { wish, started, is_told });
    }

    /// Looks at the file all the time.
    pub(super) fn read_until(&self, is_over: &AtomicBool) {
        let mut last = None;
        while !is_over.load(Ordering::SeqCst) {
            let began = Instant::now();
            let bytes = fs::read(&self.path).ok();
            let ended = Instant::now();
            if last.as_ref() != Some(&bytes) {
                let is_whole =
                    |bytes: &&[u8]| bytes.starts_with(b"# Ours") && bytes.ends_with(b"# the end\n");
                let whole = bytes.as_deref().filter(is_whole);
                let keys = whole.and_then(keys).map(BTreeSet::from_iter);
                lock(&self.looks).push(Look { began, ended, again: began, keys });
                last = Some(bytes);
            } else if let Some(look) = lock(&self.looks).last_mut() {
                (look.again, look.ended) = (began, ended);
            }
            // So that the writers have the machine.
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Whether everything stands, in figures.
    pub(super) fn judge(&self) -> String {
        let text = fs::read_to_string(&self.path).expect("it is there");
        assert!(text.starts_with("# Ours") && text.ends_with("# the end\n"), "torn: {text}");
        let there: BTreeSet<_> = keys(text.as_bytes()).expect("it is whole").into_iter().collect();
        let (sessions, looks) = (lock(&self.sessions), lock(&self.looks));
        for key in lock(&self.desk).iter() {
            assert!(there.contains(key), "the save of an editor is lost: {key}");
        }
        for look in looks.iter().filter(|look| look.keys.is_none()) {
            let is_torn_by_an_editor = sessions
                .iter()
                .any(|session| session.tears && session.began <= look.ended && session.ended >= look.began);
            assert!(is_torn_by_an_editor, "a reader saw a torn file that no editor tore");
        }
        let (mut told, mut excused) = (0, 0);
        for (key, orders) in lock(&self.orders).iter() {
            told += orders.iter().filter(|order| order.is_told).count();
            let Some(last) = orders.last().filter(|order| order.is_told) else { continue };
            if there.contains(key) == (last.wish == Wish::There) {
                continue;
            }
            let since = not_before(&looks, key, last);
            let is_overwritten = |session: &Session| {
                session.read.contains(key) != (last.wish == Wish::There) && session.ended > since
            };
            assert!(
                sessions.iter().any(is_overwritten),
                "{:?} of {key} was acknowledged and is lost, and no editor saved over it",
                last.wish
            );
            excused += 1;
        }
        // What editors overwrite is the exception: a node that loses orders finds no shelter in it.
        assert!(
            excused * 4 <= told,
            "{excused} of {told} orders were overwritten by editors: that tests nothing"
        );
        format!(
            "{told} orders acknowledged, {} saves of editors, {} texts seen, {} of them while an editor tore them, {excused} orders \
             overwritten by an editor that had opened the file before",
            sessions.len(),
            looks.len(),
            looks.iter().filter(|look| look.keys.is_none()).count(),
        )
    }
}

/// Before this instant the file did not say what the order asks for: the last look at which it did not, before the first one at which
/// it did.
fn not_before(looks: &[Look], key: &str, order: &Ordered) -> Instant {
    let wanted = order.wish == Wish::There;
    let mut since = order.started;
    for look in looks.iter().filter(|look| look.ended > order.started) {
        match &look.keys {
            Some(keys) if keys.contains(key) == wanted => return since,
            Some(_) => since = since.max(look.again),
            None => {}
        }
    }
    order.started
}
