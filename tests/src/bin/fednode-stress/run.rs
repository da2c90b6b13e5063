//! One run, from the first process to the verdict.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fednode_tests::hum::HUM;
use fednode_tests::{Arms, Node, Spec};
use futures::future::{join, join_all};
use serde_json::json;
use tokio::sync::watch;

use crate::Stop;
use crate::action::Entry;
use crate::connections;
use crate::files;
use crate::finding::Rule;
use crate::flow::tunnel::Tunnels;
use crate::flow::{direct, topic};
use crate::growth;
use crate::hand::{Certificates, Done, Hand, PATIENCE, Taken, tune, write_secret};
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

/// How long the end of a run may take until all is well, in all: what is wrong by then is found.
const REST: Duration = Duration::from_secs(10 * 60);

/// Plays it, and ends it early if somebody wants that.
///
/// # Errors
/// If the federation does not come to be.
pub(crate) async fn run(plan: Plan, stop: watch::Receiver<Stop>) -> Result<Report, String> {
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
    let (ending, mut stopped) = (Arc::clone(&world), stop.clone());
    let interrupted = tokio::spawn(async move {
        tokio::select! {
            true = wanted(&mut stopped, Stop::Well) => {
                ending.enter(Phase::Rests);
                true
            }
            () = ending.reaches(Phase::Rests) => false,
        }
    });

    let (mut stop, mut given_up) = (stop.clone(), stop);
    let begun = tokio::select! {
        begun = begin(&world, specs, certificates) => begun,
        true = wanted(&mut given_up, Stop::Now) => Err("it was ended before all nodes served".to_owned()),
    };
    let hands = begun?;
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
    let mut hands = play(&world, hands, &plan.schedule, began).await;
    let played = world.now() - began;
    world.enter(Phase::Rests);
    let mut done = Done::default();
    for hand in &hands {
        done.add(hand.done);
    }
    let mut rested = Box::pin(rest(&world, &mut hands, &mut flows));
    let unfinished = tokio::select! {
        () = &mut rested => None,
        true = wanted(&mut stop, Stop::Now) => Some("was not waited for: what was on its way counts as lost"),
        () = tokio::time::sleep(REST) => Some("did not come within ten minutes"),
    };
    drop(rested);
    // Before the nodes end: what that does is nobody's fault.
    world.enter(Phase::Over);
    if let Some(what) = unfinished {
        world.found(Rule::Outcomes, None, format!("rest {what}"));
    }
    for task in watchers.into_iter().chain(tails) {
        // One that panicked has told so; the others' findings stand.
        if let Err(error) = task.await {
            world.found(Rule::Files, None, format!("a part of the harness ended: {error}"));
        }
    }
    growth::judge(&world);
    let interrupted = interrupted.await.unwrap_or(true);
    let beats: Vec<Beat> = progress.end().await;
    let parts = Parts { flows: &flows, done, beats, began, played, interrupted };
    let mut report = Report::of(&plan, &world, parts);
    report.keep_folders(&world, &plan.out);
    if unfinished.is_none() {
        for hand in hands {
            hand.end().await;
        }
    }
    // An end may fail, too.
    report.take_findings(&world);
    Ok(report)
}

/// Whether it is wanted, in the end; `false` when nobody can want it any more.
async fn wanted(stop: &mut watch::Receiver<Stop>, this: Stop) -> bool {
    stop.wait_for(|now| *now >= this).await.is_ok()
}

/// Nothing is done any more; all comes to rest, and what is on its way arrives.
async fn rest(world: &World, hands: &mut [Hand], flows: &mut Flows) {
    join_all(hands.iter_mut().map(Hand::conclude)).await;
    all_is_well(world, flows).await;
    world.enter(Phase::Ends);
    all_arrives(world, flows).await;
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
async fn begin(
    world: &Arc<World>,
    specs: Vec<Spec>,
    certificates: Vec<Certificates>,
) -> Result<Vec<Hand>, String> {
    let taken = Arc::new(Taken::new());
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for (place, node) in world.places.iter().zip(&mut nodes) {
        place.begins(node.pid().as_raw_nonzero().get());
        serves(place, node).await?;
        place.serves_now();
    }
    let hands = nodes.into_iter().zip(certificates).enumerate();
    let hand = |(index, (node, certificates))| Hand::new(world, index, node, certificates, &taken);
    Ok(hands.map(hand).collect())
}

/// Waits until a node serves for the first time.
async fn serves(place: &Place, node: &mut Node) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !place.client().get("/healthz").await.is_ok_and(|answer| answer.status.is_success()) {
        let ended = node.try_wait();
        if ended.is_some() || tokio::time::Instant::now() > deadline {
            let (said, index) = (node.stderr(), place.index);
            let last = said.lines().next_back().unwrap_or("it said nothing");
            let what = ended.map_or(format!("does not serve within {PATIENCE:?}"), |status| {
                format!("ended with {status} instead of serving")
            });
            return Err(format!("node {index} {what}: {last}"));
        }
        // Its socket tells nobody when it is there.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
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
