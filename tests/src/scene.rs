//! How each fault point is reached.

use std::fs;

use serde_json::Value;

use crate::stage::{Side, Stage};

/// How a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// A reload that changes something of every component.
    Change,
    /// The same, on the way back: a listener closes.
    Back,
    /// A reload in which another component fails.
    Fails,
    /// A reload of the same configuration in other words.
    SameWords,
    /// A reload after the log file was moved away.
    LogMoved,
    /// A reload whose audit line rotates the log.
    AuditFull,
    /// A reload that moves the data folder.
    Move,
    /// The same, in which another component fails.
    MoveFails,
    /// Rollbacks, until it is reached.
    Rollback,
    /// A reload that waits to be confirmed, and its confirmation.
    Confirm,
    /// An order that changes `peers.yaml`, and another one that takes that back.
    Order,
    /// The same, in which a component fails.
    OrderFails,
    /// A look at the history.
    Look,
    /// A start with another configuration than the one before.
    Start,
    /// A start with a key to be made, in `conf.yaml`.
    NewKey,
    /// The same, in a file of its own.
    NewKeyFile,
    /// A stop.
    Stop,
}

// === impl Scene ===

impl Scene {
    /// Whether it is played by a node that runs before and after; the others are about starts and stops.
    #[must_use]
    pub const fn is_of_a_running_node(self) -> bool {
        !matches!(self, Self::Start | Self::NewKey | Self::NewKeyFile | Self::Stop | Self::AuditFull)
    }
}

/// How the point of this name is reached.
///
/// # Panics
/// If it is no point's name.
#[must_use]
pub fn scene(point: &str) -> Scene {
    let (of, step) = point.split_once("::").expect("points have two names");
    match (of, step) {
        ("history", "rollback") | ("move", "remove") => Scene::MoveFails,
        ("signpost", "take_away") => Scene::Stop,
        ("history" | "move" | "signpost", _) => Scene::Move,
        ("peers_file", "put_back") => Scene::OrderFails,
        ("peers_file", _) => Scene::Order,
        ("known", _) => Scene::Stop,
        (_, "rollback") => Scene::Fails,
        ("listener", "close") | ("admin", "unlink" | "close") => Scene::Back,
        ("peers", "same") => Scene::SameWords,
        ("log", "reopen") => Scene::LogMoved,
        ("audit", "rotate" | "rotated") => Scene::AuditFull,
        ("restore", _) | ("standing", "write" | "written") | ("generation", "read") => Scene::Rollback,
        ("coordinator", "confirm") | ("atomic", "remove") => Scene::Confirm,
        ("audit", "read") => Scene::Look,
        ("key", "write_back" | "written") => Scene::NewKey,
        ("key", "create") | ("atomic", "link") => Scene::NewKeyFile,
        ("start" | "data_dir", _) | ("generations" | "audit", "open") => Scene::Start,
        ("standing", "read") | ("atomic", "sweep") => Scene::Start,
        ("stop", _) | ("audit", "sync") => Scene::Stop,
        _ => Scene::Change,
    }
}

/// Arms the point and does what reaches it, with a node that runs. Returns the outcome, if there is one.
///
/// # Panics
/// If the node does not answer as it must, whatever fails.
pub async fn act(stage: &mut Stage, point: &str, scene: Scene, fault: &str) -> Value {
    let other = stage.side.other();
    match scene {
        Scene::Change | Scene::Back => {
            stage.arms.arm(point, fault);
            stage.change(other).await
        }
        Scene::Fails => {
            stage.arms.arm(point, fault);
            let mut outcome = Value::Null;
            for _ in 0..6 {
                stage.arms.arm("admin::probe", "return(error)");
                outcome = stage.change(other).await;
                // Where the machine is too slow for the budget, another component ends it before it comes so far.
                if stage.arms.was_hit(point) || outcome["outcome"] != "rolled_back" {
                    break;
                }
            }
            outcome
        }
        Scene::Move => {
            stage.arms.arm(point, fault);
            stage.move_over().await
        }
        Scene::MoveFails => {
            stage.arms.arm(point, fault);
            let mut outcome = Value::Null;
            for _ in 0..6 {
                stage.arms.arm("admin::probe", "return(error)");
                // An earlier copy would stay; one that was made for this goes again.
                let _ = fs::remove_dir_all(stage.other_data_dir());
                outcome = stage.move_over().await;
                // A copy of before, which somebody sleeps over, has to end first.
                if stage.arms.was_hit(point) {
                    break;
                }
            }
            outcome
        }
        Scene::SameWords => {
            let side = stage.side;
            stage.arms.arm(point, fault);
            stage.change(side).await
        }
        Scene::LogMoved => {
            let folder = stage.data_dir();
            stage.arms.arm(point, fault);
            let mut outcome = Value::Null;
            for _ in 0..6 {
                let (name, other) = match stage.side {
                    Side::Old => ("old.log", Side::New),
                    Side::New => ("new.log", Side::Old),
                };
                let log = folder.with_file_name(name);
                // Between two names, if it is just being rotated; and a rotation notices by itself that it was moved.
                let _ = fs::rename(&log, log.with_file_name("moved.log"));
                outcome = stage.change(other).await;
                if stage.arms.was_hit(point) {
                    break;
                }
            }
            outcome
        }
        Scene::Rollback => {
            stage.arms.arm(point, fault);
            let mut outcome = Value::Null;
            for _ in 0..6 {
                let brings = stage.side.other();
                outcome = stage.post("/admin/rollback", brings).await.1;
                if stage.arms.was_hit(point) {
                    break;
                }
            }
            outcome
        }
        Scene::Confirm => {
            stage.arms.arm(point, fault);
            stage.write(other);
            let (code, outcome) = stage.post("/admin/reload?confirm=1h", other).await;
            if stage.arms.was_hit(point) {
                return outcome;
            }
            assert_eq!(code, 200, "{}: {outcome:#}", stage.doing);
            let side = stage.side;
            stage.post("/admin/confirm", side).await.1
        }
        Scene::Order => {
            // Its first change keeps the file as it was: once.
            let _ = fs::remove_file(stage.data_dir().with_file_name("peers.yaml.orig"));
            stage.arms.arm(point, fault);
            let mut outcome = stage.order().await;
            // Once more, where the first was what failed.
            for _ in 0..2 {
                let back = stage.take_back().await;
                outcome = if back.is_null() { outcome } else { back };
            }
            outcome
        }
        Scene::OrderFails => {
            stage.arms.arm(point, fault);
            let mut outcome = Value::Null;
            for _ in 0..6 {
                stage.arms.arm("peer_store::probe", "return(error)");
                outcome = stage.order().await;
                if stage.arms.was_hit(point) {
                    break;
                }
            }
            outcome
        }
        Scene::Look => {
            stage.arms.arm(point, fault);
            let side = stage.side;
            let answer = stage.client(side).get("/admin/history").await.expect("it answers");
            assert!([200, 500].contains(&answer.status.as_u16()), "{}: {answer:?}", stage.doing);
            Value::Null
        }
        Scene::Start | Scene::NewKey | Scene::NewKeyFile | Scene::Stop | Scene::AuditFull => {
            unreachable!("another test's")
        }
    }
}
