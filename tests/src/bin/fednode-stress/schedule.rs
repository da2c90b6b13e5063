//! What happens when: a pure function of the scenario and the seed.

use fednode::faults;
use fednode_tests::scene::{Scene, scene};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reload::fault::Takes;

use crate::action::{Action, Conflict, Edit, Entry, Spoil, Trigger, Wrong};
use crate::scenario::Scenario;

/// Faults begin after this and end so long before the end: what they do must be seen.
const QUIET: u64 = 3_000;

/// How long the members around a node that comes back may need until it can be taken away again.
const RECOVERY: u64 = 8_000;

/// Of how many nodes watch one does.
const WATCHERS: usize = 4;

/// Whether a node watches its files.
pub(crate) const fn watches(node: usize) -> bool {
    node.is_multiple_of(WATCHERS)
}

/// The schedule, in the order of time.
pub(crate) fn of(scenario: &Scenario, seed: u64) -> Vec<Entry> {
    // Each part draws from a stream of its own: a scenario with another rate of kills has the same reloads.
    let mut entries = reloads(scenario, &mut StdRng::seed_from_u64(seed));
    entries.extend(faults(scenario, &mut StdRng::seed_from_u64(seed ^ 0x6661_756c_7473)));
    entries.sort_by_key(|entry| (entry.at, entry.node));
    entries
}

fn millis(scenario: &Scenario) -> u64 {
    u64::try_from(scenario.duration.as_millis()).unwrap_or(u64::MAX)
}

fn reloads(scenario: &Scenario, random: &mut StdRng) -> Vec<Entry> {
    let mut entries = Vec::new();
    if scenario.reloads_per_second <= 0.0 {
        return entries;
    }
    let between = 1000.0 / scenario.reloads_per_second;
    let mut at = 0.0;
    while at < millis(scenario) as f64 {
        let node = random.random_range(0..scenario.nodes);
        let (edit, trigger) = (edit(scenario, node, random), trigger(scenario, node, random));
        let jitter = random.random_range(0.0..between);
        let action = Action::Reload { edit, trigger, seed: random.random() };
        entries.push(Entry { at: (at + jitter) as u64, node, action });
        at += between;
    }
    entries
}

/// The index of one of these, drawn by their weights.
fn draw(weights: &[u32], random: &mut StdRng) -> usize {
    let mut left = random.random_range(0..weights.iter().sum::<u32>().max(1));
    for (index, weight) in weights.iter().enumerate() {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return index,
        }
    }
    0
}

fn edit(scenario: &Scenario, node: usize, random: &mut StdRng) -> Edit {
    let of = &scenario.reloads;
    let weights = [of.valid, of.unchanged, of.invalid, of.conflicting, of.churn, of.rotation, of.rollback];
    match draw(&weights, random) {
        0 => Edit::Valid,
        1 => Edit::Unchanged,
        2 => {
            let kinds = [Wrong::Key, Wrong::Value, Wrong::Peers, Wrong::Empty];
            Edit::Invalid(kinds[random.random_range(0..kinds.len())])
        }
        3 => {
            let kinds = [Conflict::Port, Conflict::Generation, Conflict::Identity];
            Edit::Conflicting(kinds[random.random_range(0..kinds.len())])
        }
        4 => {
            let other = (node + random.random_range(1..scenario.nodes)) % scenario.nodes;
            Edit::Churn(other)
        }
        5 => Edit::Rotation,
        _ => Edit::Rollback,
    }
}

fn trigger(scenario: &Scenario, node: usize, random: &mut StdRng) -> Trigger {
    let of = &scenario.triggers;
    let watch = if watches(node) { of.watch } else { 0 };
    let all = [Trigger::Signal, Trigger::Storm, Trigger::Api, Trigger::Cli, Trigger::Watch];
    all[draw(&[of.signal, of.storm, of.api, of.cli, watch], random)]
}

fn faults(scenario: &Scenario, random: &mut StdRng) -> Vec<Entry> {
    let end = millis(scenario).saturating_sub(QUIET);
    let of = &scenario.faults;
    type Make = fn(&mut StdRng) -> (Action, u64);
    let kinds: [(f64, Make); 10] = [
        (of.kill, kill),
        (of.kill_in_reload, kill_in_reload),
        (of.pause, |random| stop(random.random_range(300..2_000))),
        (of.partition, |random| stop(random.random_range(13_000..17_000))),
        (of.component, |random| (fault(random, &steps()), 0)),
        (of.disk, |random| (fault(random, &disk()), 0)),
        (of.descriptors, descriptors),
        (of.memory, memory),
        (of.processor, |random| {
            let ms = random.random_range(1_000..4_000);
            (Action::Processor { ms }, 0)
        }),
        (of.corrupt, corrupt),
    ];
    let mut wanted = Vec::new();
    for (per_minute, make) in kinds {
        if per_minute <= 0.0 {
            continue;
        }
        let between = 60_000.0 / per_minute;
        // The first of a rare kind somewhere in its first interval.
        let mut at = QUIET as f64 + random.random_range(0.0..between.min(end as f64));
        while at < end as f64 {
            let (action, away) = make(random);
            wanted.push((at as u64, away, action));
            at += random.random_range(0.5 * between..1.5 * between);
        }
    }
    wanted.sort_by_key(|(at, ..)| *at);
    settle(scenario, wanted, end, random)
}

/// Gives each fault a node that is there, and leaves out what would take away more than a third of the federation at once, or
/// would not be over in time.
fn settle(scenario: &Scenario, wanted: Vec<(u64, u64, Action)>, end: u64, random: &mut StdRng) -> Vec<Entry> {
    let mut away_until = vec![0; scenario.nodes];
    let mut entries = Vec::new();
    for (at, away, action) in wanted {
        let node = random.random_range(0..scenario.nodes);
        let gone = away_until.iter().filter(|until| **until > at).count();
        let is_too_much = away > 0 && (gone + 1) * 3 > scenario.nodes + 1;
        if is_too_much || away_until[node] > at || at + away > end {
            continue;
        }
        if away > 0 {
            away_until[node] = at + away + RECOVERY;
        }
        entries.push(Entry { at, node, action });
    }
    entries
}

fn kill(random: &mut StdRng) -> (Action, u64) {
    let down = random.random_range(0..3_000);
    (Action::Kill { down, in_reload: None, spoil: None, seed: random.random() }, down + 1)
}

fn kill_in_reload(random: &mut StdRng) -> (Action, u64) {
    let (down, after) = (random.random_range(0..1_000), random.random_range(0..60));
    (Action::Kill { down, in_reload: Some(after), spoil: None, seed: random.random() }, down + 1)
}

fn corrupt(random: &mut StdRng) -> (Action, u64) {
    let seed = random.random();
    match random.random_range(0..4) {
        0 => (Action::Kill { down: 200, in_reload: None, spoil: Some(Spoil::Audit), seed }, 200),
        1 => (Action::Kill { down: 200, in_reload: None, spoil: Some(Spoil::Known), seed }, 200),
        2 => {
            let edit = Edit::Invalid(Wrong::Peers);
            (Action::Reload { edit, trigger: Trigger::Signal, seed }, 0)
        }
        _ => {
            let edit = Edit::Invalid(Wrong::CutOff);
            (Action::Reload { edit, trigger: Trigger::Signal, seed }, 0)
        }
    }
}

fn stop(ms: u64) -> (Action, u64) {
    (Action::Stop { ms }, ms)
}

fn descriptors(random: &mut StdRng) -> (Action, u64) {
    let (ms, spare) = (random.random_range(1_000..4_000), random.random_range(0..4));
    (Action::Descriptors { ms, spare, seed: random.random() }, 0)
}

fn memory(random: &mut StdRng) -> (Action, u64) {
    let ms = random.random_range(1_000..3_000);
    (Action::Memory { ms, spare: random.random_range(1..32), seed: random.random() }, ms)
}

fn fault(random: &mut StdRng, points: &[(String, Vec<&'static str>)]) -> Action {
    let (point, orders) = &points[random.random_range(0..points.len())];
    let order = orders[random.random_range(0..orders.len())].to_owned();
    Action::Fault { point: point.clone(), order, seed: random.random() }
}

/// The components' steps that a reload of all sections reaches, with what they can be told. What can only end in an emergency
/// that a restart alone leads out of is left out: the network cannot be replaced while its process lives.
fn steps() -> Vec<(String, Vec<&'static str>)> {
    let told = |name: &str| {
        let is_stuck = name.starts_with("network::") && !name.ends_with("::prepare");
        let mut orders = vec!["return(error)", "return(error_after)", "return(late:300)"];
        if !is_stuck {
            orders.extend(["return(hang)", "panic"]);
        }
        orders
    };
    let steps = faults::all().into_iter().filter(|(_, takes)| *takes == Takes::Step);
    let reached = steps.filter(|(name, _)| matches!(scene(name), Scene::Change | Scene::Back));
    reached.map(|(name, _)| (name.clone(), told(&name))).collect()
}

/// The steps of file work that a reload reaches.
fn disk() -> Vec<(String, Vec<&'static str>)> {
    let all = faults::all().into_iter().filter(|(_, takes)| *takes == Takes::Error);
    let reached = all.filter(|(name, _)| {
        let of = name.split("::").next().unwrap_or_default();
        let is_file_work = ["atomic", "generation", "generations", "blob", "audit", "log"].contains(&of);
        is_file_work && matches!(scene(name), Scene::Change | Scene::Back)
    });
    reached.map(|(name, _)| (name, vec!["return(error)", "return(full)"])).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn chaos() -> Scenario {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/chaos.yaml");
        Scenario::read(&path, None).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_another() {
        let scenario = chaos();
        assert_eq!(of(&scenario, 7), of(&scenario, 7));
        assert_ne!(of(&scenario, 7), of(&scenario, 8));
    }

    #[test]
    fn what_a_report_writes_down_is_read_as_it_was() {
        let entries = of(&chaos(), 3);
        let text = serde_json::to_string(&entries).expect("entries are JSON");
        assert_eq!(serde_json::from_str::<Vec<Entry>>(&text).expect("it was just written"), entries);
    }

    #[test]
    fn the_federation_keeps_most_of_its_nodes_and_faults_are_over_before_the_end() {
        let scenario = chaos();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut away: Vec<(u64, u64)> = Vec::new();
            for entry in of(&scenario, seed) {
                assert!(entry.at < 30_000 && entry.node < scenario.nodes, "{entry:?}");
                let ms = match entry.action {
                    Action::Kill { down, .. } => down + 1,
                    Action::Stop { ms } => ms,
                    _ => 0,
                };
                if ms > 0 {
                    let gone = away.iter().filter(|(from, to)| *from <= entry.at && *to > entry.at).count();
                    assert!((gone + 1) * 3 <= scenario.nodes + 1, "seed {seed}: {entry:?}");
                    away.push((entry.at, entry.at + ms));
                    assert!(entry.at + ms <= 27_000, "seed {seed}: {entry:?}");
                }
                kinds.insert(serde_json::to_value(&entry.action).expect("JSON")["do"].to_string());
            }
        }
        assert_eq!(kinds.len(), 7, "each kind is drawn: {kinds:?}");
    }

    #[test]
    fn only_nodes_that_watch_are_left_to_their_watching() {
        for entry in of(&chaos(), 5) {
            if let Action::Reload { trigger: Trigger::Watch, .. } = entry.action {
                assert!(watches(entry.node));
            }
        }
    }
}
