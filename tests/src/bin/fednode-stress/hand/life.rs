//! Ends and beginnings of a node's process.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use fednode_tests::Spec;
use rustix::process::Signal;
use serde_json::Value;

use super::{Hand, PATIENCE};
use crate::action::Spoil;
use crate::files::SPOILT;
use crate::finding::Rule;
use crate::trouble::{Kind, Who};
use crate::world::Phase;

// === impl Hand ===

impl Hand {
    /// SIGKILL, some time, and a start on what is there.
    pub(super) async fn kill(&mut self, down: u64, in_reload: Option<u64>, spoil: Option<Spoil>, seed: u64) {
        if let Some(after) = in_reload {
            self.write_valid(seed);
            self.signal(Signal::HUP);
            // The very instant is what is drawn by lot.
            tokio::time::sleep(Duration::from_millis(after)).await;
        }
        let trouble = self.world.troubles.begin(Kind::Down, Who::Node(self.index), self.world.now());
        self.place().ends();
        let Some(node) = self.node.take() else { return };
        let spec = node.kill().await;
        self.arms.clear();
        if let Some(spoil) = spoil {
            self.spoil(spoil);
        }
        self.world.wait(Duration::from_millis(down), Phase::Rests).await;
        self.start(spec).await;
        self.world.troubles.end(trouble, self.world.now());
        self.knows_its_members().await;
        self.rests().await;
    }

    fn spoil(&self, spoil: Spoil) {
        let data = self.place().data();
        let spoilt = match spoil {
            Spoil::Audit => {
                let file = fs::File::options().append(true).open(data.join("audit.jsonl"));
                file.and_then(|mut file| file.write_all(b"{\"id\": \"torn in the mid"))
            }
            Spoil::Known => fs::write(data.join("known.yaml"), SPOILT),
        };
        if let Err(error) = spoilt {
            self.found(Rule::Files, format!("{spoil:?}: what was to be spoilt is not there: {error}"));
        }
    }

    /// Starts it, and waits until it serves.
    pub(super) async fn start(&mut self, spec: Spec) {
        let from = self.place().book.len();
        let mut node = spec.spawn_as_it_is();
        self.place().begins(node.pid().as_raw_nonzero().get());
        let client = self.place().client();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if client.get("/healthz").await.is_ok_and(|answer| answer.status.is_success()) {
                self.place().serves_now();
                self.node = Some(node);
                break;
            }
            let ended = node.try_wait();
            if ended.is_some() || tokio::time::Instant::now() > deadline {
                let said = node.stderr();
                let last = said.lines().next_back().unwrap_or_default();
                let text = format!("it does not start again ({ended:?}): {last}");
                self.found(Rule::Files, text);
                self.place().ends();
                self.node = Some(node);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its own line is there before the socket answers (contract).
        let line = self.place().book.line(from, PATIENCE, |line| line.trigger == "startup").await;
        let status = self.status().await.unwrap_or_default();
        match line {
            Some(line) if status["generation"].as_u64() < Some(line.generation) => {
                let text = format!("started with {line:?}, and runs {}", status["generation"]);
                self.found(Rule::Generations, text);
            }
            Some(_) => {}
            None => self.found(Rule::Files, "started again without a line in the audit log"),
        }
    }

    /// After a kill: the members that the file names, those that were acknowledged and none else.
    async fn knows_its_members(&mut self) {
        let Some(node) = &self.node else { return };
        let key = |peer: &Value| peer["public_key"].as_str().unwrap_or_default().to_owned();
        let keys = |list: &Value| -> Vec<String> {
            let all = list.as_array().into_iter().flatten().map(key);
            let mut keys: Vec<String> = all.filter(|key| *key != self.place().key).collect();
            keys.sort();
            keys
        };
        let expected = keys(&node.spec().peers["peers"]);
        let Some(status) = self.status().await else { return };
        let members = keys(&status["members"]);
        if members != expected {
            let text = format!("came back with {} members, and {} are due", members.len(), expected.len());
            self.found(Rule::Files, text);
        }
    }

    /// SIGSTOP, some time, SIGCONT.
    pub(super) async fn stop(&mut self, ms: u64) {
        let trouble = self.world.troubles.begin(Kind::Stopped, Who::Node(self.index), self.world.now());
        self.signal(Signal::STOP);
        self.world.wait(Duration::from_millis(ms), Phase::Rests).await;
        self.signal(Signal::CONT);
        self.world.troubles.end(trouble, self.world.now());
        self.rests().await;
    }
}
