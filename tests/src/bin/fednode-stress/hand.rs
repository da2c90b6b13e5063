//! The hand that does things to one node, one after the other, and says after each whether it ended as it must.

mod certificate;
mod edit;
mod fault;
mod life;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use fednode_tests::{Arms, Author, Node, Port};
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::certificate::Certificates;
pub(crate) use self::edit::{tune, write_secret};
use self::reload::Expected;
use crate::action::{Action, Entry, Trigger};
use crate::book::Allowed;
use crate::finding::Rule;
use crate::trouble::{Kind, Lasting, Who};
use crate::world::{Phase, Place, World};

/// A reload that is later than this was overtaken by others of the same node, and is left out.
const LATE: u64 = 5_000;

/// How long a node may need to start, and to come to rest: a deadline, no measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Until members that were parted must hold a connection again.
const REUNION: u64 = 60_000;

/// Does things to one node.
#[derive(Debug)]
pub(crate) struct Hand {
    world: Arc<World>,
    index: usize,
    /// `None` while it is down.
    node: Option<Node>,
    author: Author,
    arms: Arms,
    /// A port that somebody else listens on.
    taken: Arc<Taken>,
    /// Members that it was told to forget, and what that excuses.
    removed: BTreeMap<usize, Lasting>,
    /// Members that it ever forgot: an older generation may know or forget them again.
    parted: BTreeSet<usize>,
    rotations: u64,
    certificates: Certificates,
    pub(crate) done: Done,
}

/// A port on which the harness itself listens.
#[derive(Debug)]
pub(crate) struct Taken {
    port: Port,
    _listener: TcpListener,
}

/// How much of the schedule was done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Done {
    pub(crate) actions: u64,
    /// Too late.
    pub(crate) left_out: u64,
    /// Fault points that were armed and reached.
    pub(crate) points_reached: u64,
    pub(crate) points_armed: u64,
}

// === impl Done ===

impl Done {
    pub(crate) const fn add(&mut self, other: Self) {
        self.actions += other.actions;
        self.left_out += other.left_out;
        self.points_reached += other.points_reached;
        self.points_armed += other.points_armed;
    }
}

// === impl Taken ===

impl Taken {
    /// # Panics
    /// If the port that was just free cannot be bound.
    pub(crate) fn new() -> Self {
        let port = Port::free();
        let listener = TcpListener::bind(port.address()).expect("a free port can be bound");
        Self { port, _listener: listener }
    }
}

// === impl Hand ===

impl Hand {
    pub(crate) fn new(
        world: &Arc<World>,
        index: usize,
        node: Node,
        certificates: Certificates,
        taken: &Arc<Taken>,
    ) -> Self {
        let author = Author::of(node.spec());
        let arms = Arms::beside(node.spec().folder());
        Self {
            world: Arc::clone(world),
            index,
            node: Some(node),
            author,
            arms,
            taken: Arc::clone(taken),
            removed: BTreeMap::new(),
            parted: BTreeSet::new(),
            rotations: 0,
            certificates,
            done: Done::default(),
        }
    }

    /// Does what the schedule says, until it is over or somebody has had enough. `began` is when its time began.
    pub(crate) async fn play(mut self, entries: Vec<Entry>, began: u64) -> Self {
        for entry in entries {
            let at = began + entry.at;
            let early = at.saturating_sub(self.world.now());
            if !self.world.wait(Duration::from_millis(early), Phase::Rests).await {
                break;
            }
            let is_late = self.world.now() > at + LATE;
            if is_late && matches!(entry.action, Action::Reload { .. }) {
                self.done.left_out += 1;
                continue;
            }
            self.perform(entry.action).await;
            self.done.actions += 1;
        }
        self
    }

    async fn perform(&mut self, action: Action) {
        if !self.runs() && !matches!(action, Action::Kill { .. }) {
            self.revive().await;
        }
        match action {
            Action::Reload { edit, trigger, seed } => self.reload(edit, trigger, seed).await,
            Action::Kill { down, in_reload, spoil, seed } => self.kill(down, in_reload, spoil, seed).await,
            Action::Stop { ms } => self.stop(ms).await,
            Action::Fault { point, order, seed } => self.fault(&point, &order, seed).await,
            Action::Descriptors { ms, spare, seed } => self.descriptors(ms, spare, seed).await,
            Action::Memory { ms, spare, seed } => self.memory(ms, spare, seed).await,
            Action::Processor { ms } => self.processor(ms).await,
        }
        self.place().book.allow(Allowed::default());
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// `conf.yaml`, as it was written last.
    pub(crate) fn conf(&self) -> Option<&Value> {
        self.node.as_ref().map(|node| &node.spec().conf)
    }

    pub(crate) async fn status_now(&self) -> Option<Value> {
        self.status().await
    }

    /// All members, valid files, nothing armed, and a process.
    pub(crate) async fn restore(&mut self) {
        self.arms.clear();
        if !self.runs() {
            self.revive().await;
        }
        let removed = std::mem::take(&mut self.removed);
        self.write_valid(0);
        self.ask(Trigger::Signal, Expected::Good).await;
        for (other, lasting) in removed {
            self.reunite(other, lasting);
        }
    }

    /// Ends the process as an operator does.
    pub(crate) async fn end(mut self) {
        let runs = self.runs();
        self.place().ends();
        let Some(mut node) = self.node.take().filter(|_| runs) else { return };
        node.signal(rustix::process::Signal::TERM);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match node.try_wait() {
                Some(status) if status.success() => return,
                Some(status) => {
                    self.found(Rule::Alive, format!("SIGTERM ended it with {status}"));
                    return;
                }
                None if tokio::time::Instant::now() > deadline => {
                    self.found(Rule::Alive, format!("SIGTERM did not end it within {PATIENCE:?}"));
                    return;
                }
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn place(&self) -> &Place {
        &self.world.places[self.index]
    }

    fn found(&self, rule: Rule, text: impl Into<String>) {
        self.world.found(rule, Some(self.index), text);
    }

    /// Whether its process is there. Tells when it is not and nobody has ended it.
    fn runs(&mut self) -> bool {
        let Some(node) = &mut self.node else { return false };
        let Some(status) = node.try_wait() else { return true };
        let said = node.stderr();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join(" | ");
        self.found(Rule::Alive, format!("the process ended with {status}: {tail}"));
        self.place().ends();
        false
    }

    /// Starts it again after it ended by itself.
    async fn revive(&mut self) {
        let down = self.world.troubles.begin(Kind::Down, Who::Node(self.index), self.world.now());
        if let Some(node) = self.node.take() {
            self.start(node.into_spec()).await;
        }
        self.world.troubles.end(down, self.world.now());
    }

    async fn status(&self) -> Option<Value> {
        self.place().client().get("/admin/status").await.ok()?.json().ok()
    }

    /// Waits until no reload runs, and everything that was said of the last one was heard.
    async fn rests(&mut self) {
        let deadline = self.world.now() + u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        loop {
            let status = self.status().await.unwrap_or_default();
            let is_at_rest = ["idle", "failed"].contains(&status["state"].as_str().unwrap_or_default());
            if is_at_rest && status["running_reload"].is_null() {
                break;
            }
            if !self.runs() {
                return;
            }
            if self.world.now() > deadline {
                self.found(Rule::Outcomes, format!("not at rest within {PATIENCE:?}: {}", status["state"]));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.place().book.is_up_to_date(PATIENCE).await;
    }

    /// Ends what excuses a pair, when the two have found each other again, or should have.
    fn reunite(&self, other: usize, lasting: Lasting) {
        let (world, index) = (Arc::clone(&self.world), self.index);
        tokio::spawn(async move {
            let deadline = world.now() + REUNION;
            while world.wait(Duration::from_millis(50), Phase::Over).await {
                let now = world.now();
                if now > deadline || world.connections.are_joined_now(index, other, now) {
                    break;
                }
            }
            world.troubles.end(lasting, world.now());
        });
    }
}
