//! What the victim is told to do until it is killed, and what it answered.

use std::fs;

use fednode_tests::{Node, process};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{HISTORY, Victim};
use crate::Texts;

impl Victim {
    pub(super) async fn reload_for_ever(&mut self) {
        loop {
            match self.random.random_range(0..20) {
                0..5 => self.hangup().await,
                5..8 => self.change(false, "/admin/reload").await,
                8..11 => self.change(true, "/admin/reload").await,
                11..13 => self.bad().await,
                13..17 => self.roll_back().await,
                17..19 => self.change(false, "/admin/reload?confirm=1h").await,
                _ => self.confirm().await,
            }
        }
    }

    pub(super) fn next_texts(&mut self) -> Texts {
        self.edits += 1;
        let address = self.second.loopback();
        let with_second = self.random.random_bool(0.5);
        let spec = self.node.as_ref().map(Node::spec).or(self.spec.as_ref()).expect("one of the two");
        let mut conf = spec.conf.clone();
        conf["protocol"] = json!({"max_message_size": format!("{}KiB", self.edits)});
        conf["logging"]["level"] = json!(if self.edits.is_multiple_of(2) { "info" } else { "warn" });
        if with_second {
            conf["network"]["addresses"] = json!([spec.port.loopback(), address]);
        }
        Texts { conf: process::yaml(&conf).into_bytes(), peers: self.next_peers() }
    }

    fn next_peers(&self) -> Vec<u8> {
        let key = fednode_tests::stage::NOBODY;
        let peer = json!({"public_key": key, "addresses": [], "name": format!("peer {}", self.edits)});
        // Every other one is large enough for a file of its own in the history.
        let padding = "x".repeat(if self.edits.is_multiple_of(2) { 70_000 } else { 10 });
        process::yaml(&json!({"peers": [peer], "padding": padding})).into_bytes()
    }

    /// No step of this waits: a kill comes before or after.
    pub(super) fn write(&mut self, texts: &Texts) {
        self.ledger.confs.insert(texts.conf.clone());
        self.ledger.peers.insert(texts.peers.clone());
        let folder = self.folder();
        for (name, bytes) in [("conf.yaml", &texts.conf), ("peers.yaml", &texts.peers)] {
            let beside = folder.join("edited");
            fs::write(&beside, bytes).expect("the folder can be written");
            fs::rename(&beside, folder.join(name)).expect("a file can be renamed");
        }
    }

    pub(super) fn files(&self) -> Texts {
        let read = |name| fs::read(self.folder().join(name)).unwrap_or_default();
        Texts { conf: read("conf.yaml"), peers: read("peers.yaml") }
    }

    async fn hangup(&mut self) {
        let texts = self.next_texts();
        self.write(&texts);
        self.ledger.asked = Some(texts.clone());
        let outcome = self.node.as_ref().expect("it runs").hangup().await;
        self.told(&outcome, &texts);
    }

    async fn change(&mut self, only_peers: bool, path: &str) {
        let mut texts = self.next_texts();
        if only_peers {
            texts.conf = self.ledger.current.conf.clone();
        }
        self.write(&texts);
        let begins = path.contains("confirm") && self.ledger.unconfirmed.is_none();
        self.ledger.is_unsure |= begins;
        self.ledger.asked = Some(texts.clone());
        let outcome = self.post(path, vec![]).await;
        self.told(&outcome, &texts);
        if begins {
            self.ledger.unconfirmed = outcome["from_generation"].as_u64();
            self.ledger.is_unsure = false;
        }
    }

    /// A file that was cut off in the middle.
    async fn bad(&mut self) {
        let current = self.ledger.current.clone();
        let mut bad = current.clone();
        bad.conf.truncate(self.random.random_range(1..bad.conf.len() - 3));
        self.ledger.is_bad = true;
        self.write(&bad);
        let outcome = self.post("/admin/reload", vec![]).await;
        assert_eq!(outcome["outcome"], "rejected", "{}: {outcome:#}", self.what());
        self.write(&current);
        self.ledger.is_bad = false;
    }

    async fn roll_back(&mut self) {
        // Only those that are surely kept still.
        let oldest = self.ledger.newest.saturating_sub(HISTORY - 2);
        let numbers: Vec<_> = self.ledger.told.range(oldest..).map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return;
        }
        let target = numbers[self.random.random_range(0..numbers.len())];
        let texts = self.ledger.told[&target].1.clone();
        self.ledger.is_unsure |= self.ledger.unconfirmed == Some(target);
        self.ledger.asked = Some(texts.clone());
        let outcome =
            self.post("/admin/rollback", json!({"generation": target}).to_string().into_bytes()).await;
        assert!(outcome["outcome"].is_string(), "{}: {outcome:#}", self.what());
        self.told(&outcome, &texts);
        if self.ledger.unconfirmed == Some(target) {
            self.ledger.unconfirmed = None;
        }
        self.ledger.is_unsure = false;
    }

    async fn confirm(&mut self) {
        if self.ledger.unconfirmed.is_none() {
            return;
        }
        self.ledger.is_unsure = true;
        let outcome = self.post("/admin/confirm", vec![]).await;
        assert_eq!(outcome["durable"], true, "{}: {outcome:#}", self.what());
        self.ledger.unconfirmed = None;
        self.ledger.is_unsure = false;
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Value {
        let answer = self.node.as_ref().expect("it runs").client().post(path, &[], body).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {path}: {error}", self.what()));
        answer.json().unwrap_or_else(|error| panic!("{}: {path}: {error}: {answer:?}", self.what()))
    }

    fn told(&mut self, outcome: &Value, texts: &Texts) {
        let what = self.what();
        match outcome["outcome"].as_str() {
            Some("committed") => {
                assert_eq!(outcome["durable"], true, "{what}: {outcome:#}");
                let number = outcome["config_generation"].as_u64().expect("a number");
                let id = outcome["id"].as_str().expect("an id").to_owned();
                let before = self.ledger.told.insert(number, (id, texts.clone()));
                assert!(before.is_none(), "{what}: {number} was given twice");
                self.ledger.newest = number;
            }
            Some("unchanged") => {}
            _ => panic!("{what}: {outcome:#}"),
        }
        self.ledger.current = texts.clone();
        self.ledger.asked = None;
    }
}
