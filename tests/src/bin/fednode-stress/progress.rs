//! How it goes, on stderr, and over time.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::flow::direct::Direct;
use crate::flow::topic::Topic;
use crate::flow::tunnel::Tunnels;
use crate::report::Beat;
use crate::rest::Flows;
use crate::world::{Phase, World};

const BETWEEN: Duration = Duration::from_secs(1);

/// Where nobody watches a terminal, one line for so many beats.
const QUIETER: usize = 10;

/// Counts, and tells.
#[derive(Debug)]
pub(crate) struct Progress(JoinHandle<Vec<Beat>>);

// === impl Progress ===

impl Progress {
    pub(crate) fn start(world: &Arc<World>, flows: &Flows) -> Self {
        let world = Arc::clone(world);
        let flows = (Arc::clone(&flows.direct), Arc::clone(&flows.topic), Arc::clone(&flows.tunnels));
        Self(tokio::spawn(beat(world, flows)))
    }

    pub(crate) async fn end(self) -> Vec<Beat> {
        self.0.await.unwrap_or_default()
    }
}

async fn beat(world: Arc<World>, flows: (Arc<Direct>, Arc<Topic>, Arc<Tunnels>)) -> Vec<Beat> {
    let is_terminal = std::io::stderr().is_terminal();
    let (direct, topic, tunnels) = flows;
    let mut beats = Vec::new();
    while world.wait(BETWEEN, Phase::Over).await {
        let beat = Beat {
            at: world.now(),
            direct: direct.acknowledged(),
            topic: topic.acknowledged(),
            blocks: tunnels.tally().blocks,
        };
        beats.push(beat);
        let reloads: usize = world.places.iter().map(|place| place.book.len()).sum();
        let up = world.places.iter().filter(|place| place.serves()).count();
        let text = format!(
            "{:>4} s  {:7}  {up}/{} up  {reloads} reloads  {} + {} messages  {} blocks  {} findings",
            beat.at / 1000,
            format!("{:?}", world.phase()).to_lowercase(),
            world.places.len(),
            beat.direct,
            beat.topic,
            beat.blocks,
            world.findings.count(),
        );
        // If nobody reads it, nobody misses it.
        let mut stderr = std::io::stderr();
        if is_terminal {
            let _ = write!(stderr, "\r\u{1b}[K{text}");
        } else if beats.len() % QUIETER == 1 {
            let _ = writeln!(stderr, "{text}");
        }
    }
    if is_terminal {
        let _ = writeln!(std::io::stderr());
    }
    beats
}
