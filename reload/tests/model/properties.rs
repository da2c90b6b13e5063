//! What must hold in every state, and what must be seen to happen.

use reload::graph::Set;
use reload::machine::{Action, End, Event, State};
use stateright::Property;

use super::component::Part;
use super::coordinator::Desk;
use super::seen::Wrong;
use super::world::{Model, World};

type Condition = fn(&Model, &World) -> bool;

/// Every one is checked in every state of every configuration. The numbers are those of DESIGN.md's invariants.
const ALWAYS: &[(&str, Condition)] = &[
    (
        "1: whoever is not being changed runs its section of the current generation",
        everybody_runs_the_current,
    ),
    ("1: an emergency is a broken component, shown as failed", broken_is_failed),
    ("1: whoever is called broken could not be brought back", |_, w| {
        w.desk.machine.broken().without(w.seen.gone).is_empty()
    }),
    ("1: a success is whole", |_, w| !w.seen.wrong.contains(&Wrong::SuccessThatIsNotWhole)),
    ("2: deadlines alone bring it to rest", deadlines_bring_rest),
    ("2: without another fault it comes to rest by itself, and nothing is held", comes_to_rest),
    ("3: whose section did not change hears nothing", |_, w| !w.seen.wrong.contains(&Wrong::ToldUnconcerned)),
    ("6: what was told to be durable is found at the next start", durable_is_found),
    ("6: history is unbroken, and what runs is the newest of it", history_is_unbroken),
    ("all have prepared before any commits", |_, w| !w.seen.wrong.contains(&Wrong::CommitBeforePrepared)),
    ("a component commits after those it depends on", |_, w| {
        !w.seen.wrong.contains(&Wrong::CommitBeforeDependency)
    }),
    ("a component goes back before those it depends on", |_, w| {
        !w.seen.wrong.contains(&Wrong::BackBeforeDependent)
    }),
    ("a request is answered once", |_, w| !w.seen.wrong.contains(&Wrong::NotAnswered)),
    ("at rest nobody waits, and the file was looked at after the last request", nobody_waits),
    ("nothing goes back without a cause", |_, w| !w.seen.wrong.contains(&Wrong::FailedWithoutCause)),
    ("a stop ends in a halt", |_, w| {
        !(w.desk.machine.at_rest() && w.desk.machine.stopping()) || w.desk.halted
    }),
];

/// Each must be found in the configurations that name it: a model in which it cannot happen shows nothing about it.
const SOMETIMES: &[(&str, Condition)] = &[
    ("commits", |_, w| w.seen.ended == Some((End::Committed, false))),
    ("commits without being durable", |_, w| {
        w.seen.ended == Some((End::Committed, false)) && !w.disk.unwritten.is_empty()
    }),
    ("is refused", |_, w| w.seen.ended == Some((End::Rejected, false))),
    ("finds nothing to do", |_, w| w.seen.ended == Some((End::Unchanged, false))),
    ("rolls back", |_, w| w.seen.ended == Some((End::RolledBack, false))),
    ("rolls back a commit", |_, w| {
        w.desk.machine.state() == State::RollingBack && !w.seen.committed.is_empty()
    }),
    ("falls into emergency", |_, w| w.seen.ended == Some((End::Failed, false))),
    ("is led out of emergency", |_, w| w.seen.ended == Some((End::Committed, true))),
    ("has a successor", |_, w| w.rests() && w.parts.iter().any(|part| part.term > 0)),
    ("leaves a commit behind", |_, w| w.rests() && w.parts.iter().any(|part| !part.left_behind.is_empty())),
    ("hears of the last transaction during the next", |_, w| w.has_leftovers()),
    ("works on a finish during the next transaction", |_, w| {
        let now = w.desk.running.map(|running| running.transaction);
        w.parts.iter().any(|part| part.actor.works.iter().any(|work| Some(work.step.transaction) < now))
    }),
    ("stops in the middle", |_, w| w.desk.machine.stopping() && !w.desk.machine.at_rest()),
    ("halts", |_, w| w.desk.halted),
    ("is started again", |model, w| w.fuel.kills < model.fuel.kills && w.disk.history.len() > 1),
];

/// The properties of a model that must see `sometimes` happen.
pub fn all(sometimes: &[&'static str]) -> Vec<Property<Model>> {
    let always = ALWAYS.iter().map(|(name, condition)| Property::always(name, *condition));
    let named = sometimes.iter().map(|name| {
        let (name, condition) = SOMETIMES.iter().find(|(known, _)| known == name).unwrap();
        Property::sometimes(name, *condition)
    });
    always.chain(named).collect()
}

/// In every state, not only at rest, but of those who were told to commit or have a successor: a message of a transaction that is over changes nothing during the next one either.
fn everybody_runs_the_current(model: &Model, world: &World) -> bool {
    let sections = &model.contents[world.desk.current].sections;
    let excused = world.desk.machine.broken().with(world.seen.touched);
    let runs = |(part, section): (&Part, &u8)| part.live == *section;
    world.parts.iter().zip(sections).enumerate().all(|(index, pair)| excused.contains(index) || runs(pair))
}

fn broken_is_failed(_: &Model, world: &World) -> bool {
    let machine = &world.desk.machine;
    !machine.at_rest() || (machine.state() == State::Failed) != machine.broken().is_empty()
}

/// Whatever components, disk and reader do from here on, which may be nothing: each wait has a deadline, and as many of them
/// as there are levels, and a few more, end the transaction and the one that waits behind it; after a stop, in a halt.
fn deadlines_bring_rest(model: &Model, world: &World) -> bool {
    let mut machine = world.desk.machine.clone();
    let Desk { mut armed, mut halted, .. } = world.desk;
    let everybody: Set = (0..world.parts.len()).collect();
    let levels = model.graph.levels(everybody).len();
    // The stage that runs, each level back, successors; or finish and record. Then the judgement of the one that waits.
    for _ in 0..levels + 3 {
        if machine.at_rest() {
            break;
        }
        let Some((transaction, stage)) = armed.take() else { return false };
        let mut actions = machine.on(Event::Expired(transaction, stage));
        while !actions.is_empty() {
            let mut more = Vec::new();
            for action in actions.drain(..) {
                match action {
                    Action::Arm(transaction, stage) => armed = Some((transaction, stage)),
                    Action::Conclude(..) => armed = None,
                    Action::Halt => halted = true,
                    Action::Replace(transaction, component) if !model.replaceable.contains(component) => {
                        more.extend(machine.on(Event::Replaced { transaction, component, done: false }));
                    }
                    _ => {}
                }
            }
            actions = more;
        }
    }
    machine.at_rest() && armed.is_none() && halted == machine.stopping()
}

/// Stated over the states in which nothing happens by itself any more: `eventually` is unsound on cycles.
fn comes_to_rest(model: &Model, world: &World) -> bool {
    let held = || world.parts.iter().any(|part| !part.is_quiet() || !part.actor.books.is_clear());
    if world.desk.halted || (world.rests() && !held()) {
        return true;
    }
    let mut happenings = Vec::new();
    model.by_itself(world, &mut happenings);
    !happenings.is_empty()
}

fn durable_is_found(_: &Model, world: &World) -> bool {
    let Some((generation, content)) = world.seen.durable else { return !world.disk.history.is_empty() };
    world.disk.history.get(usize::from(generation) - 1) == Some(&content)
}

/// On disk, or waiting to be written in its turn.
fn history_is_unbroken(model: &Model, world: &World) -> bool {
    let unwritten = world.disk.unwritten.iter().map(|(_, content, _)| content);
    let mut history = world.disk.history.iter().chain(unwritten);
    let newest = history.nth(usize::from(world.desk.generation) - 1);
    newest.is_some_and(|newest| model.contents[*newest] == model.contents[world.desk.current])
        && history.next().is_none()
}

/// The file was looked at after the last request for it, and everybody has been answered.
fn nobody_waits(_: &Model, world: &World) -> bool {
    let stopping = world.desk.machine.stopping();
    !world.desk.machine.at_rest() || (world.rests() && (stopping || !world.seen.unheard))
}
