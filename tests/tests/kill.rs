//! A node that is killed at any instant: each restart finds one whole generation (the one before or the one that was being made),
//! an unbroken history in which everything stands that was told to be durable, and nothing left behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fednode::faults;
use fednode_tests::ground::{Ground, Kept, leftovers};
use fednode_tests::scene::{Scene, act, scene};
use fednode_tests::{Node, Port, Side, Spec, Stage, eventually, process};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::{Value, json};

// --- at each fault point --------------------------------------------------------------------------------------------

/// Nodes side by side.
const LANES: usize = 4;

/// Longer than any test: the node stands still at the point until it is killed.
const STAND_STILL: &str = "sleep(600000)";

#[tokio::test]
async fn a_node_that_is_killed_at_any_point_finds_one_whole_generation() {
    let only = std::env::var("POINT").ok();
    let chosen = faults::all().into_iter().map(|(point, _)| point);
    let queue: VecDeque<_> =
        chosen.filter(|point| only.as_ref().is_none_or(|only| point.starts_with(only.as_str()))).collect();
    let queue = Mutex::new(queue);
    let lane = || async {
        // One folder for many kills, so that what one leaves meets the next.
        let mut stage = patient().await;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(point) = next else { return };
            let scene = scene(&point);
            stage.doing = format!("killed at {point} ({scene:?})");
            if matches!(scene, Scene::NewKey | Scene::NewKeyFile) {
                killed_with_a_new_key(&point, scene).await;
            } else {
                killed_at(&mut stage, &point, scene).await;
            }
        }
    };
    futures::future::join_all((0..LANES).map(|_| lane())).await;
}

/// A stage whose node is given time on a slow machine: what is killed here has no time to run out.
async fn patient() -> Stage {
    let mut stage = Stage::new();
    stage.budget = "30s";
    stage.write(Side::Old);
    stage.start().await;
    stage
}

async fn killed_at(stage: &mut Stage, point: &str, scene: Scene) {
    stage.arms.clear();
    // A change opens what the way back closes.
    let from = if matches!(scene, Scene::Back | Scene::Rollback) { Side::New } else { Side::Old };
    if stage.side != from {
        stage.change_well(from).await;
    }
    let before = Texts::of(stage);
    stand_still_at(stage, point, scene).await;
    let meanwhile = Texts::of(stage);
    stage.kill().await;
    let what = stage.doing.clone();
    let after_kill = Ground::read(&stage.data_dir(), &what);
    stage.arms.clear();
    let is_move = matches!(scene, Scene::Move | Scene::MoveFails);
    // The file names the other folder, and so does the start, whether or not the node had come there.
    stage.moved ^= is_move;
    stage.start().await;
    let status = stage.settled().await;
    stage.side = if status["worker_threads"] == 2 { Side::New } else { Side::Old };
    let ground = stage.assert_ground().await;
    let number = ground.newest().expect("there is one");
    let kept = &ground.generations[&number];
    let text_of = |kept: &Kept| {
        Texts { conf: kept.conf.clone(), peers: kept.peers.clone().unwrap_or_default() }.without_padding()
    };
    let runs = text_of(kept);
    // A rollback goes back to one of these.
    let whole = [&before, &meanwhile].iter().any(|texts| **texts == runs)
        || after_kill.generations.values().any(|old| text_of(old) == runs);
    assert!(whole, "{what}: generation {number} is none that there was");
    assert_eq!(Texts::of(stage), runs, "{what}: the files say what runs");
    let last = after_kill.newest().unwrap_or(0);
    assert!(number <= last + 1, "{what}: a gap before {number}");
    assert!(number >= last, "{what}: {number} was given twice");
    assert!(
        !stage.data_dir().join("moved.json").exists(),
        "{what}: the folder that counts is noted to be a copy"
    );
    stage.assert_in_force().await;
}

/// The node comes to the point, and waits there.
async fn stand_still_at(stage: &mut Stage, point: &str, scene: Scene) {
    let hit = stage.arms.folder().join(format!("{point}.hit"));
    let what = stage.doing.clone();
    let is_hit = eventually(&what, async || hit.exists().then_some(()));
    match scene {
        Scene::Start | Scene::AuditFull => {
            assert_eq!(stage.stop().await, 0, "{what}");
            let other = stage.side.other();
            stage.write(other);
            if scene == Scene::AuditFull {
                stage.fill_audit();
                stage.start().await;
                stage.side = other;
                stage.arms.arm(point, STAND_STILL);
                stage.write(other.other());
                stage.node().signal(Signal::HUP);
            } else {
                stage.arms.arm(point, STAND_STILL);
                stage.spawn();
            }
            is_hit.await;
        }
        Scene::Stop => {
            stage.arms.arm(point, STAND_STILL);
            stage.node().signal(Signal::TERM);
            is_hit.await;
        }
        _ => {
            tokio::select! {
                // A point after the answer may be reached a little later.
                () = async { let _ = act(stage, point, scene, STAND_STILL).await; std::future::pending().await } => {}
                () = is_hit => {}
            }
        }
    }
}

/// Killed while it makes its key, the node has the key that its file holds, or makes another; it never loses one that was told.
async fn killed_with_a_new_key(point: &str, scene: Scene) {
    let mut stage = Stage::new();
    stage.doing = format!("killed at {point} ({scene:?})");
    let what = stage.doing.clone();
    let key = stage.data_dir().with_file_name("node.key");
    fs::remove_file(&key).expect("it was there");
    let in_file = scene == Scene::NewKeyFile;
    stage.edit(|conf| {
        conf["node"] = if in_file { json!({"key_file": "node.key"}) } else { json!({"private_key": ""}) };
    });
    stage.arms.arm(point, STAND_STILL);
    stage.spawn();
    eventually(&what, async || stage.arms.was_hit(point).then_some(())).await;
    stage.kill().await;
    let (conf, _) = stage.files();
    let written = fs::read(&key).ok();
    stage.start().await;
    stage.assert_clean();
    let said: Value = serde_json::from_slice(&conf).expect("it is JSON");
    if written.is_some() || said["node"]["private_key"].as_str().is_some_and(|key| !key.is_empty()) {
        assert_eq!(stage.files().0, conf, "{what}: a key that was kept is the key");
    }
    if written.is_some() {
        assert_eq!(fs::read(&key).ok(), written, "{what}: a key that was kept is the key");
    }
    assert_eq!(stage.status().await["generation"], 1, "{what}");
}

// --- at any instant -------------------------------------------------------------------------------------------------

/// Kills in all, and the folders that they are spread over.
const KILLS: usize = 240;
const FOLDERS: usize = 3;

/// How many generations are kept.
const HISTORY: u64 = 12;

#[tokio::test]
async fn a_node_that_is_killed_at_any_instant_under_reloads_finds_one_whole_generation() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::try_from(
            SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() % (1 << 48),
        )
        .expect("48 bits")
    });
    println!("SEED={seed}");
    let folder = |number: usize| async move {
        let mut victim = Victim::new(seed.wrapping_add(number as u64), seed);
        for round in 0..KILLS / FOLDERS {
            victim.round = round;
            victim.live_and_die().await;
        }
        victim.ledger.told.len()
    };
    let told = futures::future::join_all((0..FOLDERS).map(folder)).await;
    // The stream of reloads was one.
    assert!(told.iter().sum::<usize>() > FOLDERS * 5, "{told:?}");
}

/// `conf.yaml` and `peers.yaml`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Texts {
    conf: Vec<u8>,
    peers: Vec<u8>,
}

impl Texts {
    /// What the files of a stage say: it writes the same members in ever other words.
    fn of(stage: &Stage) -> Self {
        let (conf, peers) = stage.files();
        Self { conf, peers }.without_padding()
    }

    fn without_padding(self) -> Self {
        let peers: Value = serde_json::from_slice(&self.peers).expect("a stage writes JSON");
        Self { peers: peers["peers"].to_string().into_bytes(), ..self }
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (conf, peers) = (String::from_utf8_lossy(&self.conf), String::from_utf8_lossy(&self.peers));
        write!(f, "{conf}\n{peers:.200}")
    }
}

/// What a caller was told, and what was asked for.
#[derive(Default)]
struct Ledger {
    /// Everything that a file of the node's was ever made to say.
    confs: BTreeSet<Vec<u8>>,
    peers: BTreeSet<Vec<u8>>,
    /// Generations that were told to be committed and durable: id and words.
    told: BTreeMap<u64, (String, Texts)>,
    /// What ran when the last answer came.
    current: Texts,
    /// What may run since.
    asked: Option<Texts>,
    /// The generation to go back to, if nobody confirms: what was told last, and whether it may have changed since.
    unconfirmed: Option<u64>,
    is_unsure: bool,
    /// The newest number that was seen.
    newest: u64,
    /// The files are not ones that a node starts on.
    is_bad: bool,
}

struct Victim {
    node: Option<Node>,
    spec: Option<Spec>,
    second: Port,
    random: SmallRng,
    seed: u64,
    round: usize,
    edits: u32,
    ledger: Ledger,
}

impl Victim {
    fn new(seed: u64, told_seed: u64) -> Self {
        let mut spec = Spec::new();
        spec.conf["reload"] = json!({"budget": "10s", "history": HISTORY});
        Self {
            node: None,
            spec: Some(spec),
            second: Port::free(),
            random: SmallRng::seed_from_u64(seed),
            seed: told_seed,
            round: 0,
            edits: 0,
            ledger: Ledger::default(),
        }
    }

    fn what(&self) -> String {
        format!("SEED={} round {}", self.seed, self.round)
    }

    fn folder(&self) -> PathBuf {
        let spec = self.node.as_ref().map(Node::spec).or(self.spec.as_ref()).expect("one of the two");
        spec.folder().to_owned()
    }

    /// One life: from a start, through reloads, to a kill at some instant, which may be in the start.
    async fn live_and_die(&mut self) {
        if self.edits == 0 {
            let texts = self.next_texts();
            self.write(&texts);
            self.ledger.asked = Some(texts);
        }
        let in_start = self.random.random_ratio(1, 8);
        let after =
            Duration::from_micros(self.random.random_range(0..if in_start { 60_000 } else { 200_000 }));
        self.start_on_something().await;
        if in_start {
            // Once more, to be killed before it serves.
            let spec = self.node.take().expect("it runs").kill().await;
            self.node = Some(spec.spawn_as_it_is());
            tokio::time::sleep(after).await;
        } else {
            self.assert_whole().await;
            tokio::select! {
                () = self.reload_for_ever() => {}
                () = tokio::time::sleep(after) => {}
            }
        }
        self.spec = Some(self.node.take().expect("it runs").kill().await);
        self.assert_remains();
    }

    /// Starts on the files as they are, if they are ones to start on.
    async fn start_on_something(&mut self) {
        if self.ledger.is_bad {
            let refused = self.spec.as_ref().expect("it does not run").cli(&["run"]);
            assert_eq!(refused.status.code(), Some(1), "{}: {refused:?}", self.what());
            let current = self.ledger.current.clone();
            self.write(&current);
            self.ledger.is_bad = false;
        }
        let mut node = self.spec.take().expect("it does not run").spawn_as_it_is();
        node.wait_until_it_serves().await;
        self.node = Some(node);
    }

    /// What a restart finds.
    async fn assert_whole(&mut self) {
        let what = self.what();
        let status = self.node.as_ref().expect("it runs").status().await;
        let folder = self.folder();
        let ground = Ground::read(&folder.join("data"), &what);
        ground.assert_unbroken(&what);
        let number = ground.newest().expect("there is one");
        assert_eq!(status["generation"], number, "{what}");
        assert_eq!((&status["state"], &status["degraded"]), (&json!("idle"), &json!(false)), "{what}");
        let kept = &ground.generations[&number];
        let runs =
            Texts { conf: kept.conf.clone(), peers: kept.peers.clone().expect("there always are some") };
        let may_run = [Some(&self.ledger.current), self.ledger.asked.as_ref()];
        assert!(
            may_run.contains(&Some(&runs)),
            "{what}: {number} is neither before nor after: {runs:?} {may_run:?}"
        );
        assert_eq!(self.files(), runs, "{what}: the files say what runs");
        assert_eq!(status["held"], json!([]), "{what}");
        assert_eq!(leftovers(&folder), Vec::<PathBuf>::new(), "{what}");
        // Without gaps, apart from the one that is kept to be gone back to.
        let numbers: Vec<_> = ground.generations.keys().copied().collect();
        let holes = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
        assert!(holes <= 1, "{what}: {numbers:?}");
        if !self.ledger.is_unsure {
            let told = self.ledger.unconfirmed;
            assert_eq!(status["confirm_target"].as_u64(), told, "{what}: {:#?}", ground.numbers());
        }
        self.ledger.unconfirmed = status["confirm_target"].as_u64();
        self.ledger.is_unsure = false;
        // The configuration in force is the one that is written down.
        let size =
            serde_json::from_slice::<Value>(&runs.conf).expect("it is JSON")["protocol"]["max_message_size"]
                .clone();
        let config =
            self.node.as_ref().expect("it runs").client().get("/admin/config").await.expect("it answers");
        let config = String::from_utf8_lossy(&config.body).into_owned();
        assert!(config.contains(&size.to_string().replace('"', "")), "{what}: {size} in {config}");
        self.ledger.current = runs;
        self.ledger.newest = number;
        self.ledger.asked = None;
    }

    /// What a kill leaves, before anybody mends it.
    fn assert_remains(&self) {
        let what = self.what();
        let ground = Ground::read(&self.folder().join("data"), &what);
        let newest = ground.newest().unwrap_or(0);
        for (number, kept) in &ground.generations {
            assert!(
                self.ledger.confs.contains(&kept.conf),
                "{what}: conf.yaml of {number} is none that was written"
            );
            let peers = kept.peers.as_ref().expect("there always are some");
            assert!(
                self.ledger.peers.contains(peers),
                "{what}: peers.yaml of {number} is none that was written"
            );
        }
        for (number, (id, texts)) in &self.ledger.told {
            assert!(
                ground.audit.iter().any(|line| line["id"] == id.as_str()),
                "{what}: {id} was told and is lost"
            );
            assert!(*number <= newest, "{what}: {number} was told to be durable and is lost");
            match ground.generations.get(number) {
                Some(kept) => {
                    assert_eq!(&kept.id, id, "{what}: {number} was told to be another");
                    assert_eq!(
                        (&kept.conf, kept.peers.as_ref()),
                        (&texts.conf, Some(&texts.peers)),
                        "{what}: {number}"
                    );
                }
                None => {
                    assert!(
                        *number + HISTORY <= newest,
                        "{what}: {number} was told to be durable and is lost"
                    )
                }
            }
        }
        let files = self.files();
        assert!(
            self.ledger.confs.contains(&files.conf),
            "{what}: conf.yaml is none that was written: {files:?}"
        );
        assert!(
            self.ledger.peers.contains(&files.peers),
            "{what}: peers.yaml is none that was written: {files:?}"
        );
    }

    // --- the reloads

    async fn reload_for_ever(&mut self) {
        loop {
            match self.random.random_range(0..20) {
                0..5 => self.hangup().await,
                5..8 => self.change(false, "/admin/reload").await,
                8..11 => self.change(true, "/admin/reload").await,
                11..13 => self.bad().await,
                13..17 => self.roll_back().await,
                17..19 => self.change(false, "/admin/reload?confirm=1h").await,
                _ => self.confirm().await,
            }
        }
    }

    fn next_texts(&mut self) -> Texts {
        self.edits += 1;
        let address = self.second.loopback();
        let with_second = self.random.random_bool(0.5);
        let spec = self.node.as_ref().map(Node::spec).or(self.spec.as_ref()).expect("one of the two");
        let mut conf = spec.conf.clone();
        conf["protocol"] = json!({"max_message_size": format!("{}KiB", self.edits)});
        conf["logging"]["level"] = json!(if self.edits.is_multiple_of(2) { "info" } else { "warn" });
        if with_second {
            conf["network"]["addresses"] = json!([spec.port.loopback(), address]);
        }
        Texts { conf: process::yaml(&conf).into_bytes(), peers: self.next_peers() }
    }

    fn next_peers(&self) -> Vec<u8> {
        let key = fednode_tests::stage::NOBODY;
        let peer = json!({"public_key": key, "addresses": [], "name": format!("peer {}", self.edits)});
        // Every other one is large enough for a file of its own in the history.
        let padding = "x".repeat(if self.edits.is_multiple_of(2) { 70_000 } else { 10 });
        process::yaml(&json!({"peers": [peer], "padding": padding})).into_bytes()
    }

    /// No step of this waits: a kill comes before or after.
    fn write(&mut self, texts: &Texts) {
        self.ledger.confs.insert(texts.conf.clone());
        self.ledger.peers.insert(texts.peers.clone());
        let folder = self.folder();
        for (name, bytes) in [("conf.yaml", &texts.conf), ("peers.yaml", &texts.peers)] {
            let beside = folder.join("edited");
            fs::write(&beside, bytes).expect("the folder can be written");
            fs::rename(&beside, folder.join(name)).expect("a file can be renamed");
        }
    }

    fn files(&self) -> Texts {
        let read = |name| fs::read(self.folder().join(name)).unwrap_or_default();
        Texts { conf: read("conf.yaml"), peers: read("peers.yaml") }
    }

    async fn hangup(&mut self) {
        let texts = self.next_texts();
        self.write(&texts);
        self.ledger.asked = Some(texts.clone());
        let outcome = self.node.as_ref().expect("it runs").hangup().await;
        self.told(&outcome, &texts);
    }

    async fn change(&mut self, only_peers: bool, path: &str) {
        let mut texts = self.next_texts();
        if only_peers {
            texts.conf = self.ledger.current.conf.clone();
        }
        self.write(&texts);
        let begins = path.contains("confirm") && self.ledger.unconfirmed.is_none();
        self.ledger.is_unsure |= begins;
        self.ledger.asked = Some(texts.clone());
        let outcome = self.post(path, vec![]).await;
        self.told(&outcome, &texts);
        if begins {
            self.ledger.unconfirmed = outcome["from_generation"].as_u64();
            self.ledger.is_unsure = false;
        }
    }

    /// A file that was cut off in the middle.
    async fn bad(&mut self) {
        let current = self.ledger.current.clone();
        let mut bad = current.clone();
        bad.conf.truncate(self.random.random_range(1..bad.conf.len() - 3));
        self.ledger.is_bad = true;
        self.write(&bad);
        let outcome = self.post("/admin/reload", vec![]).await;
        assert_eq!(outcome["outcome"], "rejected", "{}: {outcome:#}", self.what());
        self.write(&current);
        self.ledger.is_bad = false;
    }

    async fn roll_back(&mut self) {
        // Only those that are surely kept still.
        let oldest = self.ledger.newest.saturating_sub(HISTORY - 2);
        let numbers: Vec<_> = self.ledger.told.range(oldest..).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return;
        }
        let target = numbers[self.random.random_range(0..numbers.len())];
        let texts = self.ledger.told[&target].1.clone();
        self.ledger.is_unsure |= self.ledger.unconfirmed == Some(target);
        self.ledger.asked = Some(texts.clone());
        let outcome =
            self.post("/admin/rollback", json!({"generation": target}).to_string().into_bytes()).await;
        assert!(outcome["outcome"].is_string(), "{}: {outcome:#}", self.what());
        self.told(&outcome, &texts);
        if self.ledger.unconfirmed == Some(target) {
            self.ledger.unconfirmed = None;
        }
        self.ledger.is_unsure = false;
    }

    async fn confirm(&mut self) {
        if self.ledger.unconfirmed.is_none() {
            return;
        }
        self.ledger.is_unsure = true;
        let outcome = self.post("/admin/confirm", vec![]).await;
        assert_eq!(outcome["durable"], true, "{}: {outcome:#}", self.what());
        self.ledger.unconfirmed = None;
        self.ledger.is_unsure = false;
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Value {
        let answer = self.node.as_ref().expect("it runs").client().post(path, &[], body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {path}: {error}", self.what()));
        answer.json().unwrap_or_else(|error| panic!("{}: {path}: {error}: {answer:?}", self.what()))
    }

    fn told(&mut self, outcome: &Value, texts: &Texts) {
        let what = self.what();
        match outcome["outcome"].as_str() {
            Some("committed") => {
                assert_eq!(outcome["durable"], true, "{what}: {outcome:#}");
                let number = outcome["config_generation"].as_u64().expect("a number");
                let id = outcome["id"].as_str().expect("an id").to_owned();
                let before = self.ledger.told.insert(number, (id, texts.clone()));
                assert!(before.is_none(), "{what}: {number} was given twice");
                self.ledger.newest = number;
            }
            Some("unchanged") => {}
            _ => panic!("{what}: {outcome:#}"),
        }
        self.ledger.current = texts.clone();
        self.ledger.asked = None;
    }
}

// --- a confirmation that nobody gave --------------------------------------------------------------------------------

#[tokio::test]
async fn what_nobody_confirmed_goes_back_at_the_start_after_a_kill() {
    let mut stage = patient().await;
    for point in
        ["", "restore::keep", "restore::write", "restore::written", "generation::append", "atomic::rename"]
    {
        stage.doing = format!("not confirmed, and killed at {point}");
        let what = stage.doing.clone();
        let before = Texts::of(&stage);
        stage.write(Side::New);
        let (code, outcome) = stage.post("/admin/reload?confirm=1s", Side::New).await;
        assert_eq!((code, &outcome["outcome"]), (200, &json!("committed")), "{what}: {outcome:#}");
        stage.kill().await;
        // The time is over while no node runs.
        eventually("the deadline passes", async || {
            let standing = fs::read(stage.data_dir().join("standing.json")).expect("it is awaited");
            let standing: Value = serde_json::from_slice(&standing).expect("it is JSON");
            let by = standing["unconfirmed"]["by_unix_ms"].as_u64().expect("a deadline");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            (now.as_millis() > by.into()).then_some(())
        })
        .await;
        if !point.is_empty() {
            // And the start that goes back is killed, too.
            stage.arms.arm(point, STAND_STILL);
            stage.spawn();
            eventually(&what, async || stage.arms.was_hit(point).then_some(())).await;
            stage.kill().await;
            stage.arms.clear();
        }
        stage.side = Side::Old;
        stage.start().await;
        let status = stage.settled().await;
        assert!(status["confirm_target"].is_null(), "{what}: {status:#}");
        assert_eq!(Texts::of(&stage), before, "{what}: the files say what runs");
        stage.assert_ground().await;
        stage.assert_in_force().await;
        // As bytes: the next round begins with them.
        stage.change_well(Side::New).await;
        stage.change_well(Side::Old).await;
    }
}
