//! What a case is made of: a random service, and what is done to it.

use proptest::collection::vec;
use proptest::prelude::*;

/// The most components that a service has.
pub const MOST: usize = 6;

/// The names, in an order that no dependency follows.
pub const NAMES: [&str; MOST] = ["cedar", "amber", "flint", "birch", "ember", "delta"];

#[derive(Clone, Debug)]
pub struct Case {
    pub parts: Vec<Part>,
    pub budget_ms: u64,
    pub ops: Vec<Op>,
    /// Before the last so many operations the service is asked to stop.
    pub stop_before: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Part {
    /// A component depends only on such of a lower rank, so that no circle can come about.
    pub rank: u8,
    pub needs: u8,
    pub replaceable: bool,
    pub minimal: bool,
    /// What it changes is not guarded against a predecessor (`reload::Live` would be the guard).
    pub unguarded: bool,
}

#[derive(Clone, Debug)]
pub enum Op {
    Edit(Edit),
    Inject(Injected),
    /// So many readings fail for the machine's sake.
    Unreadable(u32),
    DiskFull(bool),
    /// The next reading (or writing) hangs for this share of the budget.
    Hang(Io, Share),
    /// A component's thread stands still from now on.
    Block(usize, Share),
    /// Edits, faults and a request that meets them.
    Reload {
        edits: Vec<Edit>,
        faults: Vec<Injected>,
        ask: Ask,
        then: Then,
    },
    /// Several at once.
    Burst(Vec<Ask>),
    Confirm(Expect),
    DryRun,
    Wait(Share),
}

#[derive(Clone, Debug)]
pub enum Edit {
    Section(usize, u8),
    HealthGate(bool),
    Budget(u64),
    Wrong(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Read,
    Write,
}

#[derive(Clone, Debug)]
pub struct Injected {
    pub part: usize,
    pub point: Point,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    Prepare,
    Commit,
    Probe,
    Finish,
    Rollback,
    /// A successor's first probe.
    Health,
}

/// Percent of the case's budget.
pub type Share = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error before anything is done.
    Refuse,
    /// The machine fails it, so many times.
    Unavailable(u32),
    /// A panic before anything is done.
    Panic,
    /// An error after it is done.
    FailAfter { system: bool },
    /// A panic after it is done.
    PanicLater,
    /// Done, and never answered.
    Hang,
    /// Done, and answered late.
    Late(Share),
    /// Done late.
    Slow(Share),
    /// The thread stands still before the step is looked at.
    Blocked(Share),
    /// The thread stands still once it is done.
    Stuck(Share),
    /// Done, and the same message comes once more, so much later.
    Repeated(Share),
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub expect: Expect,
    /// Which of the generations that there are; the files if none.
    pub aim: Option<u8>,
    pub confirm: Option<Share>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Current,
    Another,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Await,
    Yield(u8),
    Wait(Share),
}

// === impl Part ===

impl Part {
    /// One that depends on nothing.
    pub const fn alone() -> Self {
        Self { rank: 0, needs: 0, replaceable: false, minimal: false, unguarded: false }
    }
}

// === impl Case ===

impl Case {
    /// What a component depends on, by index.
    pub fn needs(&self, part: usize) -> impl Iterator<Item = usize> {
        let of = &self.parts[part];
        (0..self.parts.len())
            .filter(move |need| of.needs & (1 << need) != 0 && self.parts[*need].rank < of.rank)
    }

    /// Whether reading or writing hangs in it: then a person, as it were, turns the clock.
    pub fn hangs(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Hang(..)))
    }
}

// === strategies ===

/// Any case.
pub fn any_case() -> BoxedStrategy<Case> {
    let budget = prop_oneof![Just(200), Just(400), Just(2000)];
    let stop = prop_oneof![4 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    (vec(part(), 1..=MOST), budget, vec(op(), 1..8), stop)
        .prop_map(|(parts, budget_ms, ops, stop_before)| Case { parts, budget_ms, ops, stop_before })
        .boxed()
}

fn part() -> impl Strategy<Value = Part> {
    (0..4_u8, any::<u8>(), prop::bool::weighted(0.7), prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |(rank, needs, replaceable, minimal, unguarded)| Part {
            rank,
            needs,
            replaceable,
            minimal,
            unguarded,
        },
    )
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        12 => (vec(edit(), 0..5), vec(injected(), 0..4), ask(), then())
            .prop_map(|(edits, faults, ask, then)| Op::Reload { edits, faults, ask, then }),
        2 => vec(ask(), 1..5).prop_map(Op::Burst),
        2 => edit().prop_map(Op::Edit),
        1 => injected().prop_map(Op::Inject),
        1 => prop_oneof![3 => 1..6_u32, 1 => Just(u32::MAX)].prop_map(Op::Unreadable),
        1 => any::<bool>().prop_map(Op::DiskFull),
        1 => (index(), share()).prop_map(|(part, share)| Op::Block(part, share)),
        1 => expect().prop_map(Op::Confirm),
        1 => Just(Op::DryRun),
        2 => share().prop_map(Op::Wait),
    ]
    .boxed()
}

/// A case in which the disk hangs: rarer, because each takes longer.
pub fn any_case_with_a_disk_that_hangs() -> BoxedStrategy<Case> {
    let hang = (prop_oneof![Just(Io::Read), Just(Io::Write)], share(), any::<prop::sample::Index>());
    (any_case(), hang)
        .prop_map(|(mut case, (io, share, at))| {
            let at = at.index(case.ops.len());
            case.ops.insert(at, Op::Hang(io, share));
            case
        })
        .boxed()
}

fn index() -> impl Strategy<Value = usize> {
    0..MOST
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        16 => (index(), 1..5_u8).prop_map(|(part, value)| Edit::Section(part, value)),
        1 => any::<bool>().prop_map(Edit::HealthGate),
        1 => prop_oneof![Just(200), Just(1000)].prop_map(Edit::Budget),
        1 => any::<bool>().prop_map(Edit::Wrong),
    ]
}

fn injected() -> impl Strategy<Value = Injected> {
    let point = prop_oneof![
        3 => Just(Point::Prepare),
        4 => Just(Point::Commit),
        2 => Just(Point::Probe),
        2 => Just(Point::Finish),
        4 => Just(Point::Rollback),
        1 => Just(Point::Health),
    ];
    (index(), point, fault()).prop_map(|(part, point, fault)| Injected { part, point, fault })
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::Refuse),
        2 => prop_oneof![3 => 1..6_u32, 1 => Just(u32::MAX)].prop_map(Fault::Unavailable),
        1 => Just(Fault::Panic),
        2 => any::<bool>().prop_map(|system| Fault::FailAfter { system }),
        1 => Just(Fault::PanicLater),
        1 => Just(Fault::Hang),
        2 => share().prop_map(Fault::Late),
        3 => share().prop_map(Fault::Slow),
        1 => share().prop_map(Fault::Blocked),
        1 => share().prop_map(Fault::Stuck),
        1 => share().prop_map(Fault::Repeated),
    ]
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![4 => 0..30_u64, 3 => 30..130_u64, 1 => 130..900_u64]
}

fn ask() -> impl Strategy<Value = Ask> {
    let aim = prop_oneof![5 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let confirm = prop_oneof![5 => Just(None), 1 => (100..1500_u64).prop_map(Some)];
    (expect(), aim, confirm).prop_map(|(expect, aim, confirm)| Ask { expect, aim, confirm })
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![8 => Just(Expect::Anything), 1 => Just(Expect::Current), 1 => Just(Expect::Another)]
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        4 => Just(Then::Await),
        1 => (0..40_u8).prop_map(Then::Yield),
        2 => share().prop_map(Then::Wait),
    ]
}
