//! Killed at any instant under a stream of reloads.

mod reloads;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fednode_tests::ground::{Ground, leftovers};
use fednode_tests::{Node, Port, Spec};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::Texts;

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

// === impl Victim ===

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
}
