//! A confirmation that nobody gave.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use fednode_tests::{Side, eventually};
use serde_json::{Value, json};

use crate::{STAND_STILL, Texts, patient};

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
