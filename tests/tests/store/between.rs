//! An editor saves in the very moment that an order has no lock against: each moment by its fault point, at which the node is held up
//! for as long as the save takes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fednode_tests::{Arms, Keys, Node, Spec, eventually};
use serde_json::{Value, json};

use crate::{ADDRESS, WRITTEN, add, keys, leftovers, node};

/// Longer than a save takes on a slow machine.
const HELD_UP: &str = "sleep(2500)";

fn with(keys: &[&str]) -> String {
    let entries: String = keys
        .iter()
        .map(|key| format!("  - public_key: \"{key}\"\n    addresses: [\"{ADDRESS}\"]\n"))
        .collect();
    WRITTEN.replace("peers:\n", &format!("peers:\n{entries}"))
}

fn by_rename(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    fs::write(&beside, text).expect("it can be written");
    fs::rename(beside, path).expect("it can be renamed");
}

fn in_place(path: &Path, text: &str) {
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("it can be written");
}

/// Adds `key`, while `save` is done when the node stands at the point.
async fn add_while(node: &Node, arms: &Arms, point: &str, key: &str, save: impl FnOnce()) -> (u16, Value) {
    arms.clear();
    arms.arm(point, HELD_UP);
    let saved = async {
        eventually(point, async || arms.was_hit(point).then_some(())).await;
        save();
    };
    let (answer, ()) = futures::future::join(add(node, key), saved).await;
    arms.clear();
    answer
}

/// What runs and what the file says is this.
async fn assert_members(node: &Node, what: &str, wanted: &[&str]) {
    let bytes = fs::read(node.spec().peers_path()).expect("it is there");
    let mut written = keys(&bytes).expect("it is whole");
    let mut wanted: Vec<_> = wanted.iter().map(|key| (*key).to_owned()).collect();
    written.sort();
    wanted.sort();
    assert_eq!(written, wanted, "{what}: the file");
    let status = node.status().await;
    let members = status["members"].as_array().expect("a list").iter();
    let mut runs: Vec<_> =
        members.filter_map(|member| Some(member["public_key"].as_str()?.to_owned())).collect();
    runs.sort();
    assert_eq!(runs, wanted, "{what}: what runs");
    assert_eq!(leftovers(node.spec().folder()), Vec::<std::path::PathBuf>::new(), "{what}");
}

#[tokio::test]
async fn a_save_in_any_moment_of_an_order_stands_and_so_does_the_order() {
    let spec = Spec::new();
    let arms = Arms::beside(spec.folder());
    let node = node(spec.env(Arms::VARIABLE, &arms.folder().display().to_string())).await;
    let path = node.spec().peers_path();
    let first = Keys::generate().public_key;
    // Before the new text is written, between the last look and the exchange, after it, and before the reload reads the file.
    for point in ["peers_file::write", "peers_file::exchange", "peers_file::exchanged", "coordinator::judge"]
    {
        for (way, save) in [("by rename", by_rename as fn(&Path, &str)), ("in place", in_place)] {
            let what = format!("{point}, saved {way}");
            by_rename(&path, &with(&[&first]));
            let (edited, ordered) = (Keys::generate().public_key, Keys::generate().public_key);
            let (status, answer) =
                add_while(&node, &arms, point, &ordered, || save(&path, &with(&[&first, &edited]))).await;
            if point == "peers_file::exchanged" {
                // Saved over the order, when that was in place: the reload tells whose word was last.
                assert_eq!(status, 201, "{what}: {answer:#}");
            } else {
                assert_eq!((status, &answer["outcome"]), (201, &json!("committed")), "{what}: {answer:#}");
            }
            assert_members(&node, &what, &[&first, &edited, &ordered]).await;
        }
    }
}

#[tokio::test]
async fn whoever_had_the_file_open_before_it_was_replaced_has_not_written_in_vain() {
    let spec = Spec::new();
    let arms = Arms::beside(spec.folder());
    let node = node(spec.env(Arms::VARIABLE, &arms.folder().display().to_string())).await;
    let path = node.spec().peers_path();
    let (first, edited, ordered) =
        (Keys::generate().public_key, Keys::generate().public_key, Keys::generate().public_key);
    by_rename(&path, &with(&[&first]));
    // Opened without emptying it, as `>>` does and an editor that writes over what is there.
    let mut open = File::options().append(true).open(&path).expect("it can be opened");
    let line = format!("  - public_key: \"{edited}\"\n");
    let text = with(&[&first]).replace("# the end\n", "");
    in_place(&path, &text);
    let (status, answer) = add_while(&node, &arms, "peers_file::exchanged", &ordered, || {
        open.write_all(line.as_bytes()).expect("it can be written");
    })
    .await;
    assert_eq!((status, &answer["outcome"]), (201, &json!("committed")), "{answer:#}");
    assert_members(&node, "appended", &[&first, &edited, &ordered]).await;
}

#[tokio::test]
async fn a_reload_in_the_moment_in_which_vim_has_moved_the_file_away_removes_nobody() {
    let node = node(Spec::new()).await;
    let path = node.spec().peers_path();
    let key = Keys::generate().public_key;
    by_rename(&path, &with(&[&key]));
    assert_eq!(node.hangup().await["outcome"], "committed");
    // Gone and back, again and again.
    let vim = Arc::new(Vim::default());
    let editing = tokio::task::spawn_blocking({
        let (vim, backup) = (Arc::clone(&vim), path.with_extension("yaml~"));
        move || {
            while !vim.is_over.load(Ordering::SeqCst) {
                *vim.away() = Some(Instant::now());
                fs::rename(&path, &backup).expect("it can be moved");
                fs::rename(&backup, &path).expect("it can be moved back");
                let gone = vim.away().take().map_or(Duration::ZERO, |since| since.elapsed());
                vim.is_slow.fetch_or(gone >= LOOKED_FOR, Ordering::SeqCst);
            }
        }
    });
    let end = End(Arc::clone(&vim));
    for _ in 0..100 {
        let answer = node.client().post("/admin/reload", &[], vec![]).await.expect("the node answers");
        let outcome: Value = answer.json().expect("an outcome");
        // A machine that kept the file away for longer has shown another thing: a file that is gone.
        let gone = vim.away().map_or(Duration::ZERO, |since| since.elapsed());
        if gone >= LOOKED_FOR || vim.is_slow.load(Ordering::SeqCst) {
            break;
        }
        assert_eq!(outcome["outcome"], "unchanged", "{outcome:#}");
    }
    drop(end);
    editing.await.expect("it can be moved");
}

/// How long a reload looks for a file that was there.
const LOOKED_FOR: Duration = Duration::from_millis(50);

/// Somebody who moves the file away and back.
#[derive(Default)]
struct Vim {
    is_over: AtomicBool,
    /// Since when the file is away.
    away: Mutex<Option<Instant>>,
    /// Whether it ever was for longer than it is looked for.
    is_slow: AtomicBool,
}

/// Whatever ends the test ends him.
struct End(Arc<Vim>);

// === impl Vim ===

impl Vim {
    fn away(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}
