//! What must be true of the stage at rest.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::json;

use super::{NOBODY, Side, Stage, TRIES, is_slow};
use crate::ground::{self, Ground};
use crate::wait::eventually;

// === impl Stage ===

impl Stage {
    /// Makes the files say what runs, and asserts that every component runs it: what can be seen from outside.
    ///
    /// # Panics
    /// If one does not.
    pub async fn assert_in_force(&mut self) {
        let (side, what) = (self.side, self.doing.clone());
        let is_new = side == Side::New;
        self.write(side);
        let logged = self.node().log().len();
        let client = self.client(side);
        let mut answer = json!(null);
        for _ in 0..TRIES {
            let given = client.post("/admin/reload", &[], vec![]).await;
            answer = given.unwrap_or_else(|e| panic!("{what}: {e}")).json().unwrap_or_default();
            if !is_slow(&answer) {
                break;
            }
        }
        assert_eq!(answer["outcome"], "unchanged", "{what}: the files say what runs: {answer:#}");
        // A console that was slow writes late, and in order.
        let lines = eventually(&format!("{what}: the log tells of it"), async || {
            of_the_last_reload(&self.node().log()[logged..], "\"outcome\":\"unchanged\"")
        })
        .await;
        assert_eq!(lines.contains("\"DEBUG\""), is_new, "{what}: the level: {lines}");
        let status = self.settled().await;
        let gone = self.data_dir().join(side.other().socket());
        // A node that was killed leaves the file of a socket behind, and nobody behind it.
        eventually(&format!("{what}: {} is served by nobody", gone.display()), async || {
            UnixStream::connect(&gone).is_err().then_some(())
        })
        .await;
        eventually(&format!("{what}: the second port is as it should"), async || {
            (self.second.accepts() == is_new).then_some(())
        })
        .await;
        assert!(self.spec().port.accepts(), "{what}: the first port");
        let members = status["members"].as_array().cloned().unwrap_or_default();
        assert_eq!(members.len(), usize::from(is_new), "{what}: {members:#?}");
        assert_eq!(status["worker_threads"], if is_new { 2 } else { 1 }, "{what}");
        let path = format!("/v1/peers/{}/messages", NOBODY.replace('+', "-").replace('/', "_"));
        let sent = client.post(&path, &[], vec![b'x'; 2000]).await.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(sent.status.as_u16() == 413, is_new, "{what}: {sent:?}");
        assert_eq!((&status["state"], &status["degraded"]), (&json!("idle"), &json!(false)), "{what}");
        assert_eq!(status["held"], json!([]), "{what}");
    }

    /// Asserts what must be true of the disk at rest: the history says what runs, and nothing was left or let slip.
    ///
    /// # Panics
    /// If it is not.
    pub async fn assert_ground(&self) -> Ground {
        let what = &self.doing;
        // What a fault kept back is written as soon as it can be, without another reload.
        let status = self.settled().await;
        let generation = status["generation"].as_u64();
        let data_dir = self.data_dir();
        let ground = eventually(&format!("{what}: the history says what runs: {generation:?}"), async || {
            let ground = Ground::read(&data_dir, what);
            (ground.newest() == generation).then_some(ground)
        })
        .await;
        ground.assert_unbroken(what);
        // One that was left behind in the middle of a step cleans up when it wakes.
        eventually(&format!("{what}: no leftovers"), async || {
            ground::leftovers(&self.folder).is_empty().then_some(())
        })
        .await;
        self.assert_clean();
        ground
    }

    /// Asserts that no temporary file is left, and that no secret stands where it should not.
    ///
    /// # Panics
    /// If one is.
    pub fn assert_clean(&self) {
        let what = &self.doing;
        assert_eq!(ground::leftovers(&self.folder), Vec::<PathBuf>::new(), "{what}");
        assert_eq!(ground::telltales(&self.folder, &[self.secret.trim()]), Vec::<PathBuf>::new(), "{what}");
    }
}

/// What the log says of the last reload that it tells the end of, if that was such an end.
fn of_the_last_reload(log: &str, end: &str) -> Option<String> {
    let (before, rest) = log.rsplit_once("configuration reload finished")?;
    let last = rest.lines().next()?;
    let lines = before.rsplit_once("configuration reload finished").map_or(before, |(_, lines)| lines);
    last.contains(end).then(|| format!("{lines}{last}"))
}
