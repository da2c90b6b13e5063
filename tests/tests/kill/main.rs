//! A node that is killed at any instant: each restart finds one whole generation (the one before or the one that was being made),
//! an unbroken history in which everything stands that was told to be durable, and nothing left behind.

mod instants;
mod points;
mod unconfirmed;

use fednode_tests::{Side, Stage};
use serde_json::Value;

/// Longer than any test: the node stands still at the point until it is killed.
const STAND_STILL: &str = "sleep(600000)";

/// `conf.yaml` and `peers.yaml`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Texts {
    conf: Vec<u8>,
    peers: Vec<u8>,
}

// === impl Texts ===

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

/// A stage whose node is given time on a slow machine: what is killed here has no time to run out.
async fn patient() -> Stage {
    let mut stage = Stage::new();
    stage.budget = "30s";
    stage.write(Side::Old);
    stage.start().await;
    stage
}
