//! One run, from the first process to the verdict.

use std::path::PathBuf;
use std::sync::Arc;

use fednode_tests::hum::HUM;
use fednode_tests::{Arms, Node, Spec};
use futures::future::{join, join_all};
use serde_json::json;

use crate::action::Entry;
use crate::connections;
use crate::files;
use crate::flow::tunnel::Tunnels;
use crate::flow::{direct, topic};
use crate::growth;
use crate::hand::{Certificates, Done, Hand, Taken, tune, write_secret};
use crate::progress::Progress;
use crate::report::{Beat, Parts, Report};
use crate::rest::{Flows, all_arrives, all_is_well};
use crate::scenario::Scenario;
use crate::tail;
use crate::world::{Phase, Place, World};

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) schedule: Vec<Entry>,
    /// The node; without it, the one that was built beside this program.
    pub(crate) node: Option<PathBuf>,
    /// Where the files of nodes are kept in which something was found.
    pub(crate) out: PathBuf,
}

/// Plays it. `interrupt` ends it early, and well.
pub(crate) async fn run(plan: Plan, interrupt: impl Future<Output = ()> + Send + 'static) -> Report {
    let mut specs = specs(&plan);
    let tunnels = Tunnels::lay(&mut specs, plan.scenario.traffic.tunnels).await;
    let places = specs.iter().enumerate().map(|(index, spec)| {
        let secret = spec.keys.private_key.clone();
        Place::new(index, spec.keys.public_key.clone(), spec.folder().to_owned(), secret)
    });
    let world = Arc::new(World::new(plan.scenario.clone(), places.collect()));
    let mut certificates = Vec::new();
    for (index, spec) in specs.iter_mut().enumerate() {
        spec.conf["admin"] = json!({});
        tune(&mut spec.conf, &world, index);
        let secret = format!("stress-secret-{index}-0-{:016x}", plan.seed);
        world.places[index].keeps_secret(secret.clone());
        write_secret(spec.folder(), &secret).expect("the temporary folder can be written");
        let signed = Certificates::begin(spec.folder()).expect("the temporary folder can be written");
        world.places[index].keeps_secret(signed.secret());
        certificates.push(signed);
    }
    let ending = Arc::clone(&world);
    let interrupted = tokio::spawn(async move {
        tokio::select! {
            () = interrupt => {
                ending.enter(Phase::Rests);
                true
            }
            () = ending.reaches(Phase::Rests) => false,
        }
    });

    let hands = begin(&world, specs, certificates).await;
    connections::start(&world);
    let tails: Vec<_> =
        (0..hands.len()).map(|index| tokio::spawn(tail::follow(Arc::clone(&world), index))).collect();
    let ((direct, mut senders), (topic, authors)) = (direct::start(&world), topic::start(&world));
    senders.extend(authors);
    let mut flows = Flows { direct, topic, tunnels: tunnels.start(&world), senders };
    let progress = Progress::start(&world, &flows);
    let is_ready = all_is_well(&world, &flows).await;
    let began = world.now();
    let mut watchers = vec![tokio::spawn(files::watch(Arc::clone(&world)))];
    watchers.extend((0..hands.len()).map(|index| tokio::spawn(growth::watch(Arc::clone(&world), index))));
    if is_ready {
        world.enter(Phase::Plays);
    } else {
        world.enter(Phase::Rests);
    }
    let hands = play(&world, hands, &plan.schedule, began).await;
    let played = world.now() - began;
    world.enter(Phase::Rests);
    let hands = conclude(hands).await;
    all_is_well(&world, &flows).await;
    world.enter(Phase::Ends);
    all_arrives(&world, &mut flows).await;
    world.enter(Phase::Over);
    for task in watchers.into_iter().chain(tails) {
        // One that panicked has told so; the others' findings stand.
        if let Err(error) = task.await {
            world.found(crate::finding::Rule::Files, None, format!("a part of the harness ended: {error}"));
        }
    }
    growth::judge(&world);
    let interrupted = interrupted.await.unwrap_or(true);
    let beats: Vec<Beat> = progress.end().await;
    let mut done = Done::default();
    for hand in &hands {
        done.add(hand.done);
    }
    let parts = Parts { flows: &flows, done, beats, began, played, interrupted };
    let mut report = Report::of(&plan, &world, parts);
    report.keep_folders(&world, &plan.out);
    for hand in hands {
        hand.end().await;
    }
    // An end may fail, too.
    report.take_findings(&world);
    report
}

/// The nodes' files before anything is random.
fn specs(plan: &Plan) -> Vec<Spec> {
    let specs = Spec::federation(plan.scenario.nodes).into_iter().map(|mut spec| {
        spec.conf["protocol"] = json!({
            "rate_limit": {"messages_per_second": 1e6, "burst": 1_000_000},
            "topics": [{"name": HUM}],
            "services": {"expose": [], "connect": []},
        });
        let arms = Arms::beside(spec.folder());
        let spec = spec.env("RUST_BACKTRACE", "0").env(Arms::VARIABLE, &arms.folder().display().to_string());
        match &plan.node {
            Some(node) => spec.binary(node),
            None => spec,
        }
    });
    specs.collect()
}

/// Starts all processes.
async fn begin(world: &Arc<World>, specs: Vec<Spec>, certificates: Vec<Certificates>) -> Vec<Hand> {
    let taken = Arc::new(Taken::new());
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for (place, node) in world.places.iter().zip(&mut nodes) {
        place.begins(node.pid().as_raw_nonzero().get());
        node.wait_until_it_serves().await;
        place.serves_now();
    }
    let hands = nodes.into_iter().zip(certificates).enumerate();
    hands.map(|(index, (node, certificates))| Hand::new(world, index, node, certificates, &taken)).collect()
}

/// Every hand plays its part.
async fn play(world: &Arc<World>, hands: Vec<Hand>, schedule: &[Entry], began: u64) -> Vec<Hand> {
    let parts = hands.into_iter().map(|hand| {
        let entries = schedule.iter().filter(|entry| entry.node == hand.index()).cloned().collect();
        hand.play(entries, began)
    });
    let end = async {
        world.wait(world.scenario.duration, Phase::Rests).await;
        world.enter(Phase::Rests);
    };
    join(join_all(parts), end).await.0
}

async fn conclude(hands: Vec<Hand>) -> Vec<Hand> {
    join_all(hands.into_iter().map(async |mut hand| {
        hand.conclude().await;
        hand
    }))
    .await
}
