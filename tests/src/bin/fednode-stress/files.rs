//! Looks at what the nodes leave on the disk and what they answer: whole at any instant, and no secret in it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fednode_tests::Ground;
use fednode_tests::ground::telltales;
use serde_json::Value;

use crate::finding::Rule;
use crate::world::{Phase, Place, World};

/// Between two looks at one node, in turn.
const BETWEEN: Duration = Duration::from_millis(150);

/// What the API says of the configuration and of itself.
const ANSWERS: [&str; 6] =
    ["/admin/config", "/admin/diff", "/admin/history", "/admin/status", "/admin/peers", "/metrics"];

/// The files that hold what must stand nowhere else.
const HOLD_SECRETS: [&str; 2] = ["jwt.secret", "admin.pem"];

/// Looks at one node after the other, to the end.
pub(crate) async fn watch(world: Arc<World>) {
    let mut turn = 0;
    while world.wait(BETWEEN, Phase::Rests).await {
        let index = turn % world.places.len();
        look(&world, index).await;
        let answer = ANSWERS[(turn / world.places.len()) % ANSWERS.len()];
        if world.places[index].serves() {
            ask(&world, index, answer).await;
        }
        turn += 1;
    }
}

/// What is on the disk, once; then all answers, and every file for secrets.
pub(crate) async fn look_closely(world: &Arc<World>, index: usize) {
    look(world, index).await;
    for answer in ANSWERS {
        ask(world, index, answer).await;
    }
    let place = &world.places[index];
    let (folder, secrets) = (place.folder.clone(), place.secrets());
    // Reads all that an hour has logged.
    let told = tokio::task::spawn_blocking(move || telltales(&folder, &secrets)).await;
    let told = told.expect("reading files does not panic");
    // These are there to hold them, and are named like no other files.
    let holds_them = |path: &Path| HOLD_SECRETS.iter().any(|name| path.ends_with(name));
    for path in told.into_iter().filter(|path| !holds_them(path)) {
        world.found(Rule::Secrets, Some(index), format!("a secret stands in {}", path.display()));
    }
}

async fn look(world: &Arc<World>, index: usize) {
    let shared = Arc::clone(world);
    let looked = tokio::task::spawn_blocking(move || ground(&shared.places[index])).await;
    if let Ok(Err(text)) = looked {
        world.found(Rule::Files, Some(index), text);
    }
}

/// What must be true of a data folder at any instant, also right after a kill.
fn ground(place: &Place) -> Result<(), String> {
    let data = place.data();
    if !data.exists() {
        return Ok(());
    }
    drop(Ground::examine(&data)?);
    known(&data.join("known.yaml"))
}

/// The last line of it is its checksum: one that is cut off lacks it.
fn known(path: &Path) -> Result<(), String> {
    let Ok(bytes) = fs::read(path) else { return Ok(()) };
    let text = String::from_utf8_lossy(&bytes);
    let is_whole = text.lines().next_back().is_some_and(|line| line.contains("sha256:"));
    if is_whole || text == SPOILT {
        return Ok(());
    }
    Err(format!("{} is torn: it ends in {:?}", path.display(), tail(&text)))
}

/// What the harness writes to it when it spoils it.
pub(crate) const SPOILT: &str = "peers: [{]]] \u{0}";

fn tail(text: &str) -> String {
    text.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect()
}

async fn ask(world: &World, index: usize, path: &str) {
    let place = &world.places[index];
    let before = place.book.generation();
    let Ok(answer) = place.client().get(path).await else { return };
    let text = String::from_utf8_lossy(&answer.body);
    for secret in place.secrets() {
        if text.contains(&secret) {
            world.found(Rule::Secrets, Some(index), format!("a secret stands in the answer to {path}"));
        }
    }
    if path == "/admin/status" {
        let generation = answer.json::<Value>().ok().and_then(|status| status["generation"].as_u64());
        // Status is true before the audit line can be read (contract).
        if generation.is_some_and(|generation| generation < before) && place.serves() {
            let text = format!("status says {generation:?}, and the audit log said {before} before");
            world.found(Rule::Generations, Some(index), text);
        }
    }
}
