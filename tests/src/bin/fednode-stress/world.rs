//! What everybody who takes part in a run shares: the time, the nodes' places, what was done to them and what was found.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fednode::client::Client;
use tokio::sync::watch;

use crate::book::Book;
use crate::connections::Connections;
use crate::finding::{Findings, Rule};
use crate::growth::Sample;
use crate::scenario::Scenario;
use crate::trouble::Troubles;

/// How far a run is. It only goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nodes start, connections are made.
    Begins,
    /// The schedule is played.
    Plays,
    /// Nothing is done to the nodes any more; what flows goes on.
    Rests,
    /// Nothing flows any more; what is on its way arrives.
    Ends,
    /// Nobody looks any more.
    Over,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) places: Vec<Place>,
    pub(crate) connections: Connections,
    pub(crate) troubles: Troubles,
    pub(crate) findings: Findings,
    began: Instant,
    began_at: SystemTime,
    phase: watch::Sender<Phase>,
}

/// A node, from outside, whether or not it runs.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) key: String,
    pub(crate) folder: PathBuf,
    /// What its audit log has told.
    pub(crate) book: Book,
    /// What it costs.
    pub(crate) samples: Mutex<Vec<Sample>>,
    /// What must not be found outside of the files that hold it.
    secrets: Mutex<Vec<String>>,
    /// 0 while there is none.
    pid: AtomicI32,
    /// Counts its starts.
    life: AtomicU32,
    serves: AtomicBool,
}

/// What a lock guards, also after somebody has panicked: what is told then is still true.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that nobody has waited for yet is a zombie: see proc_pid_stat(5).
fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| "ZX".contains(state))
}

// === impl World ===

impl World {
    pub(crate) fn new(scenario: Scenario, places: Vec<Place>) -> Self {
        Self {
            scenario,
            connections: Connections::new(places.len()),
            places,
            troubles: Troubles::default(),
            findings: Findings::default(),
            began: Instant::now(),
            began_at: SystemTime::now(),
            phase: watch::Sender::new(Phase::Begins),
        }
    }

    /// Milliseconds from the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// That moment by the clock on the wall.
    pub(crate) fn wall(&self, at: u64) -> SystemTime {
        self.began_at + Duration::from_millis(at)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        });
    }

    /// Returns when the phase is this one or a later one.
    pub(crate) async fn reaches(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // The sender is our own field: it cannot be gone.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// Waits that long, unless the phase is reached before. Returns whether it waited to the end.
    pub(crate) async fn wait(&self, time: Duration, unless: Phase) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.reaches(unless) => false,
        }
    }

    /// Whether the process of a node has ended, and nobody here has ended it: that is what is wrong then, whoever notices it by
    /// what follows from it.
    pub(crate) fn has_ended(&self, index: usize) -> bool {
        let has_ended = self.places[index].pid().is_some_and(is_gone);
        if has_ended {
            let life = self.places[index].life();
            self.found(Rule::Alive, Some(index), format!("its process is gone (life {life})"));
        }
        has_ended
    }

    /// Something is wrong, as seen now.
    pub(crate) fn found(&self, rule: Rule, node: Option<usize>, text: impl Into<String>) {
        self.findings.add(self.now(), rule, node, text.into());
    }

    /// Who has this key.
    pub(crate) fn who(&self, key: &str) -> Option<usize> {
        self.places.iter().position(|place| place.key == key)
    }
}

// === impl Place ===

impl Place {
    pub(crate) fn new(index: usize, key: String, folder: PathBuf, secret: String) -> Self {
        Self {
            index,
            key,
            folder,
            book: Book::default(),
            samples: Mutex::default(),
            secrets: Mutex::new(vec![secret]),
            pid: AtomicI32::new(0),
            life: AtomicU32::new(0),
            serves: AtomicBool::new(false),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.data().join("admin.sock"))
    }

    /// A process begins.
    pub(crate) fn begins(&self, pid: i32) {
        self.life.fetch_add(1, Ordering::SeqCst);
        self.pid.store(pid, Ordering::SeqCst);
    }

    pub(crate) fn serves_now(&self) {
        self.serves.store(true, Ordering::SeqCst);
    }

    /// The process is about to be ended, or has ended.
    pub(crate) fn ends(&self) {
        self.serves.store(false, Ordering::SeqCst);
        self.pid.store(0, Ordering::SeqCst);
    }

    pub(crate) fn serves(&self) -> bool {
        self.serves.load(Ordering::SeqCst)
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
    }

    pub(crate) fn life(&self) -> u32 {
        self.life.load(Ordering::SeqCst)
    }

    pub(crate) fn secrets(&self) -> Vec<String> {
        locked(&self.secrets).clone()
    }

    /// One more thing that must not be told.
    pub(crate) fn keeps_secret(&self, secret: String) {
        locked(&self.secrets).push(secret);
    }
}
