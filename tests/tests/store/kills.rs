//! Writers of `peers.yaml` that are killed, at every step of a write and at any instant: what was acknowledged is there, the file is
//! whole, and the next one clears up.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fednode_tests::{Arms, Keys, Node, Spec, eventually};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::{ADDRESS, WRITTEN, add, code, keys, leftovers, sleeper};

/// Kills in all, and the folders that they are spread over.
const KILLS: usize = 200;
const FOLDERS: usize = 4;

/// Members in the file at once.
const HELD: usize = 12;

/// The steps of a write of the command line, which no node does for it.
const STEPS: [&str; 12] = [
    "peers_file::lock",
    "peers_file::keep",
    "peers_file::write",
    "peers_file::exchange",
    "peers_file::exchanged",
    "atomic::sweep",
    "atomic::create",
    "atomic::write",
    "atomic::sync",
    "atomic::link",
    "atomic::sync_folder",
    "file::read",
];

fn members(spec: &Spec, what: &str) -> Vec<String> {
    let bytes = fs::read(spec.peers_path()).expect("it is there");
    assert!(bytes.starts_with(b"# Ours") && bytes.ends_with(b"# the end\n"), "{what}: torn: {bytes:?}");
    keys(&bytes).unwrap_or_else(|| panic!("{what}: not whole: {}", String::from_utf8_lossy(&bytes)))
}

fn assert_clean(spec: &Spec, what: &str) {
    assert_eq!(leftovers(spec.folder()), Vec::<std::path::PathBuf>::new(), "{what}");
}

#[tokio::test]
async fn a_command_that_is_killed_at_any_step_loses_nothing_and_holds_up_nobody() {
    for step in STEPS {
        // `.orig` is made once: each has a folder of its own.
        let spec = Spec::new();
        spec.write();
        let first = Keys::generate().public_key;
        let written = WRITTEN.replace("peers:\n", &format!("peers:\n  - public_key: \"{first}\"\n"));
        fs::write(spec.peers_path(), &written).expect("the folder can be written");
        let arms = Arms::beside(spec.folder());
        arms.arm(step, "sleep(600000)");
        let spec = spec.env(Arms::VARIABLE, &arms.folder().display().to_string());
        let key = Keys::generate().public_key;
        let mut child = order(&spec, &["peers", "add", &key, ADDRESS]);
        eventually(step, async || arms.was_hit(step).then_some(())).await;
        child.kill().expect("it lives");
        child.wait().expect("it ends");
        let left = members(&spec, step);
        assert!(left.contains(&first), "{step}: {left:?}");
        // The lock went with the process, and what it left goes with the next order.
        arms.clear();
        let done = spec.cli(&["peers", "add", &key, ADDRESS]);
        assert_eq!(code(&done), Some(0), "{step}: {done:?}");
        assert!(members(&spec, step).contains(&key), "{step}");
        assert_clean(&spec, step);
        if let Ok(original) = fs::read_to_string(spec.folder().join("peers.yaml.orig")) {
            assert!(original == written || original.contains(&key), "{step}: {original}");
        }
    }
}

#[tokio::test]
async fn writers_that_are_killed_at_any_instant_lose_nothing_that_was_acknowledged() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::try_from(now % (1 << 48)).expect("48 bits"));
    println!("SEED={seed}");
    let folders = (0..FOLDERS).map(|number| async move {
        let mut victim = Victim::new(seed.wrapping_add(number as u64), seed);
        for round in 0..KILLS / FOLDERS {
            victim.what = format!("SEED={seed} folder {number} round {round}");
            victim.live_and_die().await;
        }
        victim.acknowledged
    });
    let acknowledged: usize = futures::future::join_all(folders).await.into_iter().sum();
    println!("{acknowledged} orders were acknowledged");
    assert!(acknowledged > KILLS / 4, "{acknowledged}: that was no stream of orders");
}

/// A node and a command of another configuration in one file. In turns one of the two is killed.
struct Victim {
    spec: Option<Spec>,
    sleeper: Spec,
    random: SmallRng,
    what: String,
    /// What must be there; what may be there; what must not.
    there: Vec<String>,
    unsure: Vec<String>,
    gone: Vec<String>,
    acknowledged: usize,
    /// How long an order takes on this machine now: kills come within a few of them.
    pace: Duration,
}

// === impl Victim ===

impl Victim {
    fn new(seed: u64, told: u64) -> Self {
        let mut spec = Spec::new();
        spec.conf["reload"] = json!({"budget": "20s", "history": 3});
        spec.write();
        fs::write(spec.peers_path(), WRITTEN).expect("the folder can be written");
        let sleeper = sleeper(&spec);
        Self {
            spec: Some(spec),
            sleeper,
            random: SmallRng::seed_from_u64(seed),
            what: format!("SEED={told}"),
            there: Vec::new(),
            unsure: Vec::new(),
            gone: Vec::new(),
            acknowledged: 0,
            pace: Duration::from_millis(20),
        }
    }

    async fn live_and_die(&mut self) {
        let mut node = self.spec.take().expect("it does not run").spawn_as_it_is();
        node.wait_until_it_serves().await;
        assert_clean(node.spec(), &self.what);
        self.judge(node.spec());
        let after = self.pace.mul_f64(self.random.random_range(0.0..6.0));
        if self.random.random_bool(0.5) {
            tokio::select! {
                () = self.order_for_ever(&node) => {}
                () = tokio::time::sleep(after) => {}
            }
        } else {
            let key = Keys::generate().public_key;
            self.unsure.push(key.clone());
            let mut command = order(&self.sleeper, &["peers", "add", &key, ADDRESS]);
            tokio::select! {
                () = self.order_for_ever(&node) => {}
                () = tokio::time::sleep(after / 3) => {}
            }
            let ended = command.try_wait().expect("it can be asked");
            let _ = command.kill();
            command.wait().expect("it ends");
            if ended.is_some_and(|status| status.success()) {
                self.unsure.retain(|other| *other != key);
                self.there.push(key);
                self.acknowledged += 1;
            }
            // The node goes on with what the dead one held.
            let key = Keys::generate().public_key;
            let began = Instant::now();
            let (status, answer) = add(&node, &key).await;
            assert_eq!(status, 201, "{}: {answer:#}", self.what);
            self.pace = began.elapsed();
            self.there.push(key);
            self.acknowledged += 1;
        }
        let spec = node.kill().await;
        self.judge(&spec);
        self.spec = Some(spec);
    }

    async fn order_for_ever(&mut self, node: &Node) {
        loop {
            if self.there.len() < HELD {
                let key = Keys::generate().public_key;
                // Until it is acknowledged.
                self.unsure.push(key.clone());
                let (status, answer) = add(node, &key).await;
                assert_eq!(status, 201, "{}: {answer:#}", self.what);
                self.unsure.retain(|other| *other != key);
                self.there.push(key);
            } else {
                let key = self.there.remove(0);
                self.unsure.push(key.clone());
                let answer = node.client().delete(&format!("/admin/peers/{key}"), &[]).await;
                let status = answer.expect("the node answers").status.as_u16();
                assert_eq!(status, 200, "{}", self.what);
                self.unsure.retain(|other| *other != key);
                self.gone.push(key);
            }
            self.acknowledged += 1;
        }
    }

    fn judge(&mut self, spec: &Spec) {
        let found = members(spec, &self.what);
        for key in &self.there {
            assert!(found.contains(key), "{}: {key} was acknowledged and is lost", self.what);
        }
        for key in &self.gone {
            assert!(!found.contains(key), "{}: {key} was removed and is back", self.what);
        }
        for key in &found {
            let is_known = self.there.contains(key) || self.unsure.contains(key);
            assert!(is_known, "{}: nobody has asked for {key}", self.what);
        }
        // What a kill left open is settled by the file.
        for key in self.unsure.drain(..) {
            if found.contains(&key) { self.there.push(key) } else { self.gone.push(key) }
        }
    }
}

/// A command that is not waited for.
fn order(spec: &Spec, arguments: &[&str]) -> Child {
    let mut command = spec.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}
