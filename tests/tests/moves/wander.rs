//! Nodes that move on and on are killed at any instant.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fednode_tests::Spec;
use fednode_tests::ground::{Ground, leftovers};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::name;

/// Lives of each node, and the nodes.
const LIVES: u32 = 40;
const NODES: u64 = 3;

/// The folders that a node wanders through.
const FOLDERS: [&str; 3] = ["data", "elsewhere", "third"];

/// How many generations are kept.
const HISTORY: u64 = 8;

#[tokio::test]
async fn a_node_that_is_killed_at_any_instant_of_many_moves_goes_on_where_the_file_says() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos().into()
    });
    println!("SEED={seed}");
    let moves = futures::future::join_all((0..NODES).map(|number| wander(seed, number))).await;
    // Some came to their end between the kills, also on a slow machine.
    assert!(moves.iter().sum::<u64>() >= NODES, "{moves:?}");
}

/// Returns how many moves were told to be committed.
async fn wander(seed: u64, number: u64) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number));
    let mut spec = Spec::new();
    spec.conf["reload"] = json!({"budget": "10s", "history": HISTORY});
    name(&mut spec.conf, FOLDERS[0]);
    // The newest generation that is known to be there, the folder that it names, and that which the file names since.
    let (mut newest, mut lived_in, mut named, mut moves) = (0, 0, 0, 0);
    for life in 0..LIVES {
        if random.random_ratio(1, 4) {
            // Somebody thinks of another one while the node does not run.
            named = random.random_range(0..FOLDERS.len());
            name(&mut spec.conf, FOLDERS[named]);
        }
        let what = format!("SEED={seed} node {number} life {life}: {lived_in} -> {named}");
        spec.write();
        if random.random_ratio(1, 4) {
            // Killed in the start, too.
            let node = spec.spawn_as_it_is();
            tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
            spec = node.kill().await;
        }
        let mut node = spec.spawn_as_it_is();
        node.wait_until_it_serves().await;
        let generation = node.status().await["generation"].as_u64().expect("a number");
        // What was under way may have been committed, and the file may name yet another folder since.
        assert!((newest..=newest + 2).contains(&generation), "{what}: {generation} after {newest}");
        let home = node.spec().folder().join(FOLDERS[named]);
        assert_eq!(node.data_dir(), home, "{what}");
        let ground = Ground::read(&home, &what);
        ground.assert_unbroken(&what);
        assert_eq!(ground.newest(), Some(generation), "{what}");
        let numbers: Vec<_> = ground.generations.keys().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{what}: {numbers:?}");
        assert_eq!(leftovers(node.spec().folder()), Vec::<PathBuf>::new(), "{what}");
        assert!(!home.join("moved.json").exists(), "{what}");
        // Of a killed one nothing is left where the node is not.
        for other in
            FOLDERS.map(|folder| node.spec().folder().join(folder)).iter().filter(|&other| *other != home)
        {
            for dead in ["fednode.pid", "admin.sock"] {
                assert!(!other.join(dead).exists(), "{what}: {}", other.join(dead).display());
            }
        }
        (newest, lived_in) = (generation, named);
        let after = Duration::from_micros(random.random_range(0..150_000));
        let wandering = async {
            loop {
                named = (named + random.random_range(1..FOLDERS.len())) % FOLDERS.len();
                let outcome = node.reload_with(|conf| name(conf, FOLDERS[named])).await;
                assert_eq!(outcome["outcome"], "committed", "{what}: {outcome:#}");
                (newest, moves) = (newest + 1, moves + 1);
                assert_eq!(outcome["config_generation"], newest, "{what}: {outcome:#}");
                lived_in = named;
            }
        };
        tokio::select! {
            () = wandering => {}
            () = tokio::time::sleep(after) => {}
        }
        spec = node.kill().await;
    }
    moves
}
