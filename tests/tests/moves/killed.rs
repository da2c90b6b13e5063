//! A node is killed at each point of a move, and at some in the start after it.

use std::fs;

use fednode_tests::arms::Arms;
use fednode_tests::ground::Ground;
use fednode_tests::{Spec, eventually};
use rustix::process::Signal;

use super::{assert_lives_in, contents, name, started};

/// Longer than any test: the node stands still at the point until it is killed.
pub(super) const STAND_STILL: &str = "sleep(600000)";

/// Where a node that moves can be killed, and with them whether its generation is written by then.
const KILLED_AT: &[(&str, bool)] = &[
    ("coordinator::judge", false),
    ("history::prepare", false),
    ("signpost::put", false),
    ("signpost::stands", false),
    ("move::note", false),
    ("move::noted", false),
    ("move::copy", false),
    ("3 move::copy", false),
    ("move::copied", false),
    ("history::commit", false),
    ("admin::commit", false),
    ("history::probe", false),
    ("history::finish", false),
    ("move::settle", false),
    ("1 signpost::put", false),
    ("1 signpost::stands", false),
    ("move::settled", false),
    ("1 move::note", false),
    ("1 move::noted", false),
    ("move::ended", false),
    ("coordinator::write", false),
    ("generation::append", false),
    ("generation::appended", true),
    ("coordinator::audit", true),
];

/// The point without how often it is passed by.
fn point_of(point: &str) -> &str {
    point.split_once(' ').map_or(point, |(_, named)| named)
}

fn arm_to_stand_still(arms: &Arms, point: &str) {
    let passed_by = point.split_once(' ').map(|(passed_by, _)| format!("{passed_by} ")).unwrap_or_default();
    arms.arm(point_of(point), &format!("{passed_by}{STAND_STILL}"));
}

/// Starts a node, lets it move, and kills it when it comes to the point.
async fn killed(point: &str, way: &[&str]) -> (Spec, u64) {
    let (mut node, arms) = started().await;
    let mut number = 3;
    for folder in &way[..way.len() - 1] {
        let outcome = node.reload_with(|conf| name(conf, folder)).await;
        assert_eq!(outcome["outcome"], "committed", "{point}: {outcome:#}");
        number += 1;
    }
    arm_to_stand_still(&arms, point);
    node.edit(|conf| name(conf, way[way.len() - 1]));
    node.signal(Signal::HUP);
    eventually(point, async || arms.was_hit(point_of(point)).then_some(())).await;
    let spec = node.kill().await;
    arms.clear();
    (spec, number)
}

/// It goes on in the folder that the file names, whether or not it had come there, and in whichever it was before.
#[tokio::test]
async fn a_node_that_is_killed_in_a_move_goes_on_where_the_file_says() {
    for (index, (point, _)) in KILLED_AT.iter().enumerate() {
        // To a folder that is not there, or to one that was left before.
        let way: &[&str] = [&["elsewhere"][..], &["elsewhere", "data", "elsewhere"]][index % 2];
        let what = format!("{point} {way:?}");
        let (spec, before) = killed(point, way).await;
        let folder = spec.folder().to_owned();
        let mut node = spec.spawn_as_it_is();
        node.wait_until_it_serves().await;
        assert_lives_in(&node, &folder.join("elsewhere"), before + 1, &what).await;
        // Nothing is left to be taken up; and it goes on.
        assert!(!folder.join("elsewhere/moved.json").exists(), "{what}");
        let outcome = node.reload_with(|conf| name(conf, "data")).await;
        assert_eq!(outcome["outcome"], "committed", "{what}: {outcome:#}");
        assert_lives_in(&node, &folder.join("data"), before + 2, &what).await;
    }
}

/// And where somebody thinks better of it in between.
#[tokio::test]
async fn a_node_that_is_killed_in_a_move_goes_on_where_it_was_if_the_file_says_so_again() {
    for (index, (point, is_written)) in KILLED_AT.iter().enumerate() {
        let way: &[&str] = [&["elsewhere", "data", "elsewhere"][..], &["elsewhere"]][index % 2];
        let what = format!("{point} {way:?}");
        let (mut spec, before) = killed(point, way).await;
        let folder = spec.folder().to_owned();
        name(&mut spec.conf, "data");
        spec.write();
        let mut node = spec.spawn_as_it_is();
        node.wait_until_it_serves().await;
        let number = if *is_written { before + 2 } else { before };
        assert_lives_in(&node, &folder.join("data"), number, &what).await;
        assert!(!folder.join("data/moved.json").exists(), "{what}");
        // What was begun there is gone, or a whole copy that says where the history is.
        let elsewhere = folder.join("elsewhere");
        let left: Vec<_> = contents(&elsewhere).into_iter().map(|(path, _)| path).collect();
        if !left.is_empty() {
            let note = fs::read_to_string(elsewhere.join("moved.json"));
            let note = note.unwrap_or_else(|error| panic!("{what}: {left:?}: {error}"));
            assert!(note.contains("/data\""), "{what}: {note}");
            let copy = Ground::read(&elsewhere, &what);
            assert!(copy.newest().is_some(), "{what}");
        }
        let outcome = node.reload_with(|conf| name(conf, "elsewhere")).await;
        assert_eq!(outcome["outcome"], "committed", "{what}: {outcome:#}");
        assert_lives_in(&node, &elsewhere, number + 1, &what).await;
    }
}

/// Killed in a move, and again in the start that moves on from there: of neither life a pid or a socket stays behind.
#[tokio::test]
async fn a_node_that_is_killed_in_a_move_and_in_the_next_start_leaves_no_pid_behind() {
    for (first, second) in [
        ("move::ended", "signpost::stands"),
        ("move::ended", "move::copy"),
        ("move::ended", "1 signpost::stands"),
        ("move::ended", "move::ended"),
        ("move::settled", "signpost::stands"),
        ("1 move::noted", "move::copied"),
    ] {
        let what = format!("{first}, then {second}");
        let (mut spec, before) = killed(first, &["elsewhere"]).await;
        let folder = spec.folder().to_owned();
        assert!(folder.join("data/fednode.pid").exists(), "{what}: there is something to let go of");
        name(&mut spec.conf, "third");
        spec.write();
        let arms = Arms::beside(&folder);
        arm_to_stand_still(&arms, second);
        let node = spec.spawn_as_it_is();
        eventually(&what, async || arms.was_hit(point_of(second)).then_some(())).await;
        let spec = node.kill().await;
        arms.clear();
        let mut node = spec.spawn_as_it_is();
        node.wait_until_it_serves().await;
        assert_lives_in(&node, &folder.join("third"), before + 1, &what).await;
        for left in ["data", "elsewhere"] {
            for dead in ["fednode.pid", "admin.sock"] {
                assert!(!folder.join(left).join(dead).exists(), "{what}: {left}/{dead}");
            }
        }
    }
}
