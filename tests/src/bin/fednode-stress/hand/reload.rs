//! Asking for reloads, in every way, and what has to come of them.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::edit::write_secret;
use super::{Hand, PATIENCE};
use crate::action::{Conflict, Edit, Trigger};
use crate::book::{Allowed, Line};
use crate::finding::Rule;
use crate::schedule::watches;
use crate::trouble::{Kind, Who};

/// Signals of one storm.
const STORM: u64 = 30;

/// What has to come of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// `committed` or `unchanged`, or what a socket that is being closed makes of it for a few seconds.
    Good,
    Rejected,
    /// A fault may end it in any way that is allowed.
    Any,
}

// === impl Expected ===

impl Expected {
    fn is(self, line: &Line) -> bool {
        let outcome = line.outcome.as_str();
        match self {
            Self::Good => ["committed", "unchanged"].contains(&outcome),
            Self::Rejected => outcome == "rejected",
            Self::Any => true,
        }
    }
}

// === impl Hand ===

impl Hand {
    pub(super) async fn reload(&mut self, edit: Edit, trigger: Trigger, seed: u64) {
        let refused = Allowed { rejected: true, ..Allowed::default() };
        match edit {
            Edit::Valid if trigger == Trigger::Storm => self.storm(seed).await,
            Edit::Valid => {
                self.write_valid(seed);
                self.ask(trigger, Expected::Good).await;
            }
            Edit::Unchanged => {
                let written = self.write_in_other_words(seed);
                self.did(written);
                self.ask(trigger, Expected::Good).await;
            }
            Edit::Invalid(wrong) => {
                self.place().book.allow(refused);
                let written = self.write_wrong(wrong, seed);
                self.did(written);
                self.ask(trigger, Expected::Rejected).await;
                self.write();
                self.rests().await;
            }
            Edit::Conflicting(Conflict::Generation) => self.stale().await,
            Edit::Conflicting(conflict) => {
                self.place().book.allow(refused);
                let written = self.write_conflict(conflict, seed);
                self.did(written);
                self.ask(trigger, Expected::Rejected).await;
                self.write();
                self.rests().await;
            }
            Edit::Churn(other) => self.churn(other, trigger).await,
            Edit::Rotation => {
                self.rotations += 1;
                let secret = format!("stress-secret-{}-{}-{seed:016x}", self.index, self.rotations);
                self.place().keeps_secret(secret.clone());
                let folder = self.place().folder.clone();
                let written = write_secret(&folder, &secret).and_then(|()| self.certificates.renew(&folder));
                self.did(written);
                self.place().keeps_secret(self.certificates.secret());
                if self.ask(trigger, Expected::Good).await.is_some() {
                    self.shows_its_certificate().await;
                }
            }
            Edit::Rollback => self.roll_back().await,
        }
    }

    fn did(&self, written: std::io::Result<()>) {
        if let Err(error) = written {
            self.found(Rule::Outcomes, format!("the harness cannot write the node's files: {error}"));
        }
    }

    /// Asks, waits, and returns the line that says how it ended.
    pub(super) async fn ask(&mut self, trigger: Trigger, expected: Expected) -> Option<Line> {
        let from = self.place().book.len();
        let asked = self.world.now();
        let line = match trigger {
            Trigger::Api => self.by_api(from, expected).await,
            Trigger::Cli => self.by_cli(from, expected).await,
            Trigger::Signal | Trigger::Storm => {
                let count = if trigger == Trigger::Storm { STORM } else { 1 };
                for _ in 0..count {
                    self.signal(Signal::HUP);
                }
                self.place().book.line(from, self.deadline(), |line| expected.is(line)).await
            }
            Trigger::Watch => {
                self.place().book.line(from, self.deadline() + PATIENCE, |line| expected.is(line)).await
            }
        };
        if line.is_none() && self.runs() && expected != Expected::Any {
            let lines = self.place().book.lines();
            let told: Vec<String> =
                lines.iter().skip(from).map(|line| format!("{} by {}", line.outcome, line.trigger)).collect();
            let ms = self.world.now() - asked;
            let text =
                format!("{trigger:?}: after {ms} ms no outcome as expected ({expected:?}), but {told:?}");
            self.found(Rule::Budget, text);
        }
        self.rests().await;
        line
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(node) = &self.node {
            // A process that is gone is found by whoever looks for it.
            let _ = kill_process(node.pid(), signal);
        }
    }

    /// Whoever asks has an answer within two budgets: one that runs, one that waits. The rest is for the machine.
    fn deadline(&self) -> Duration {
        2 * self.world.scenario.budget + Duration::from_secs(15)
    }

    async fn by_api(&self, from: usize, expected: Expected) -> Option<Line> {
        let answer = self.place().client().post("/admin/reload", &[], Vec::new()).await.ok()?;
        let outcome: Value = answer.json().ok()?;
        self.same(from, expected, &outcome, Some(answer.status.as_u16())).await
    }

    async fn by_cli(&self, from: usize, expected: Expected) -> Option<Line> {
        let command = self.node.as_ref()?.spec().command(&["reload", "--json", "-m", "stress"]);
        let output = tokio::process::Command::from(command).output().await.ok()?;
        let outcome: Value = serde_json::from_slice(&output.stdout).ok()?;
        let code = match output.status.code() {
            Some(0) => 200,
            Some(1) => 400,
            Some(3) => 409,
            Some(4) => 500,
            _ => 0,
        };
        self.same(from, expected, &outcome, Some(code)).await
    }

    /// The line that tells what was answered: the same, on every path.
    async fn same(&self, from: usize, expected: Expected, answer: &Value, code: Option<u16>) -> Option<Line> {
        let id = answer["id"].as_str()?;
        // One that was joined may have begun before.
        let line = self.place().book.line(0, PATIENCE, |line| line.id == id).await;
        let Some(line) = line else {
            self.found(Rule::Outcomes, format!("answered, and not in the audit log: {answer}"));
            return None;
        };
        let right = match line.outcome.as_str() {
            "committed" | "unchanged" => 200,
            "rejected" => 400,
            "rolled_back" => 409,
            _ => 500,
        };
        if answer["outcome"] != line.outcome.as_str() || code.is_some_and(|code| code != right) {
            let text = format!("answered {code:?} {}, and the audit log says {line:?}", answer["outcome"]);
            self.found(Rule::Outcomes, text);
        }
        if expected.is(&line) {
            return Some(line);
        }
        self.place().book.line(from, Duration::ZERO, |line| expected.is(line)).await
    }

    /// Everything at once; what the files say in the end runs in the end.
    async fn storm(&mut self, seed: u64) {
        let client = self.place().client();
        let mut asked = Vec::new();
        for number in 0..STORM {
            self.write_valid(seed.wrapping_add(number));
            self.signal(Signal::HUP);
            if number % 10 == 3 {
                let client = client.clone();
                asked.push(tokio::spawn(async move { client.post("/admin/reload", &[], Vec::new()).await }));
            }
            // So that some come before, some during, some after a reload.
            tokio::time::sleep(Duration::from_millis(number % 7)).await;
        }
        let asked_at = self.world.now();
        for asked in asked {
            let answer = tokio::time::timeout(self.deadline(), asked).await;
            if answer.is_err() {
                let ms = self.world.now() - asked_at;
                self.found(Rule::Budget, format!("an API call in a storm has no answer after {ms} ms"));
            }
        }
        self.ask(Trigger::Api, Expected::Good).await;
        let status = self.status().await.unwrap_or_default();
        if status["in_sync"] == false && !watches(self.index) {
            self.found(Rule::Outcomes, "after a storm the files say other than what runs");
        }
    }

    /// Asks for a reload of a generation that is not current: nothing may happen.
    async fn stale(&mut self) {
        let headers = [("if-match", "\"999999\"")];
        let from = self.place().book.len();
        match self.place().client().post("/admin/reload", &headers, Vec::new()).await {
            Ok(answer) if answer.status.as_u16() == 412 => {}
            Ok(answer) => {
                let text = format!("If-Match of another generation was answered {}", answer.status);
                self.found(Rule::Outcomes, text);
            }
            Err(_) => return,
        }
        self.rests().await;
        let lines = self.place().book.lines();
        if let Some(line) = lines.iter().skip(from).find(|line| line.trigger == "api") {
            self.found(Rule::Outcomes, format!("refused by If-Match, and done all the same: {line:?}"));
        }
    }

    /// A member goes; or the one that has gone comes back: of a federation that is in pieces little is seen.
    async fn churn(&mut self, other: usize, trigger: Trigger) {
        let other = self.removed.keys().next().copied().unwrap_or(other);
        let key = self.world.places[other].key.clone();
        // A member at whom a service is reached goes with that, and so by the files.
        let by_api = matches!(trigger, Trigger::Api | Trigger::Cli) && !self.reaches_a_service_at(&key);
        if let Some(lasting) = self.removed.remove(&other) {
            let entry = self.entry_of(&key);
            if let Some(node) = &mut self.node
                && let Some(peers) = node.spec_mut().peers["peers"].as_array_mut()
            {
                peers.push(entry.clone());
            }
            if by_api {
                let body = json!({"public_key": key, "addresses": entry["addresses"]}).to_string();
                let headers = [("content-type", "application/json")];
                let answer = self.place().client().post("/admin/peers", &headers, body.into_bytes()).await;
                self.acknowledged("a member is added", answer.map(|answer| answer.status.as_u16()));
                self.rests().await;
            } else {
                self.write();
                self.ask(trigger, Expected::Good).await;
            }
            self.reunite(other, lasting);
            return;
        }
        let pair = Who::Pair(self.index, other);
        let lasting = self.world.troubles.begin(Kind::Removed, pair, self.world.now());
        self.removed.insert(other, lasting);
        self.parted.insert(other);
        if by_api {
            let path = format!("/admin/peers/{}", key.replace('+', "-").replace('/', "_"));
            let answer = self.place().client().delete(&path, &[]).await;
            self.acknowledged("a member is removed", answer.map(|answer| answer.status.as_u16()));
            if let Some(node) = &mut self.node
                && let Some(peers) = node.spec_mut().peers["peers"].as_array_mut()
            {
                peers.retain(|peer| peer["public_key"] != key.as_str());
            }
            self.rests().await;
        } else {
            self.write();
            self.ask(trigger, Expected::Good).await;
        }
    }

    fn acknowledged(&self, what: &str, answer: Result<u16, fednode::client::ClientError>) {
        match answer {
            Ok(200 | 201) => {}
            Ok(code) => self.found(Rule::Outcomes, format!("{what} by the API: answered {code}")),
            Err(error) => self.found(Rule::Outcomes, format!("{what} by the API: {error}")),
        }
    }

    fn reaches_a_service_at(&self, key: &str) -> bool {
        let services = self.conf().map(|conf| &conf["protocol"]["services"]["connect"]);
        let mut services = services.and_then(Value::as_array).into_iter().flatten();
        services.any(|service| service["peer"] == key)
    }

    /// The member as the first file had it.
    fn entry_of(&self, key: &str) -> Value {
        let all = self.author.members().as_array().into_iter().flatten();
        all.clone().find(|peer| peer["public_key"] == key).cloned().unwrap_or_default()
    }

    /// Back to the generation before, and forward again.
    async fn roll_back(&mut self) {
        let now = self.world.now();
        let part = |other: &usize| {
            let pair = Who::Pair(self.index, *other);
            (*other, self.world.troubles.begin(Kind::Removed, pair, now))
        };
        let parted: Vec<_> = self.parted.iter().map(part).collect();
        let from = self.place().book.len();
        match self.place().client().post("/admin/rollback", &[], Vec::new()).await {
            // There is none with other contents.
            Ok(answer) if answer.status.as_u16() == 404 => {}
            Ok(answer) => {
                let outcome: Value = answer.json().unwrap_or_default();
                let line = self.same(from, Expected::Good, &outcome, Some(answer.status.as_u16())).await;
                if line.is_none() {
                    let text = format!("a rollback was answered {}: {}", answer.status, outcome["error"]);
                    self.found(Rule::Outcomes, text);
                }
            }
            Err(error) => self.found(Rule::Outcomes, format!("a rollback was not answered: {error}")),
        }
        self.rests().await;
        self.write();
        self.ask(Trigger::Api, Expected::Good).await;
        for (other, lasting) in parted {
            self.reunite(other, lasting);
        }
    }
}
