//! A node that goes to and fro between two configurations that differ in something of every component, with faults on
//! command.

mod orders;
mod verdict;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use fednode::client::Client;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::arms::Arms;
use crate::port::Port;
use crate::process::{Node, Spec};
use crate::wait::eventually;

/// A key of nobody who runs: a public key from RFC 8032's test vectors.
pub const NOBODY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// So often a reload in which nothing is made to fail is tried on a machine that is too slow for the budget.
const TRIES: usize = 4;

/// Whether the machine had no time for a reload.
fn is_slow(outcome: &Value) -> bool {
    outcome["error"].as_str().is_some_and(|error| {
        error.contains("of the budget") || error.contains("was not read and judged within")
    })
}

/// One of the two configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that the node starts with.
    Old,
    /// The other.
    New,
}

/// The node, with what is around it.
#[derive(Debug)]
pub struct Stage {
    node: Option<Node>,
    spec: Option<Spec>,
    /// What runs.
    pub side: Side,
    /// Whether its data is in the other one of its two folders.
    pub moved: bool,
    /// Its fault points.
    pub arms: Arms,
    /// What is done now: told when a test fails.
    pub doing: String,
    second: Port,
    /// Where the API is on each of the sides.
    api: [Port; 2],
    secret: String,
    folder: PathBuf,
    /// `reload.budget`.
    pub budget: &'static str,
    /// So that no `peers.yaml` has the bytes of one before.
    writes: u32,
    supervisor: UnixDatagram,
}

// === impl Side ===

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }

    const fn socket(self) -> &'static str {
        match self {
            Self::Old => "admin.sock",
            Self::New => "new.sock",
        }
    }
}

// === impl Stage ===

impl Stage {
    /// A stage whose node does not run yet.
    ///
    /// # Panics
    /// If its folder cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let mut spec = Spec::new();
        let folder = spec.folder().to_owned();
        let arms = Arms::beside(&folder);
        let supervisor = UnixDatagram::bind(folder.join("notify.sock")).expect("a socket can be bound");
        supervisor.set_nonblocking(true).expect("a socket can be told");
        spec = spec
            .env("RUST_BACKTRACE", "0")
            .env(Arms::VARIABLE, &arms.folder().display().to_string())
            .env("NOTIFY_SOCKET", &folder.join("notify.sock").display().to_string());
        let secret = spec.keys.private_key.clone();
        fs::write(folder.join("node.key"), &secret).expect("the folder can be written");
        let mut stage = Self {
            node: None,
            spec: Some(spec),
            side: Side::Old,
            moved: false,
            arms,
            doing: "start".to_owned(),
            second: Port::free(),
            api: [Port::free(), Port::free()],
            secret,
            folder,
            budget: "2s",
            writes: 0,
            supervisor,
        };
        stage.write(Side::Old);
        stage
    }

    /// A stage whose node runs.
    pub async fn started() -> Self {
        let mut stage = Self::new();
        stage.start().await;
        stage
    }

    /// The node's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join(if self.moved { "moved" } else { "data" })
    }

    /// The one that it is not in.
    #[must_use]
    pub fn other_data_dir(&self) -> PathBuf {
        self.folder.join(if self.moved { "data" } else { "moved" })
    }

    /// The node, which runs.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("the node runs")
    }

    fn spec(&mut self) -> &mut Spec {
        match (&mut self.node, &mut self.spec) {
            (Some(node), _) => node.spec_mut(),
            (None, Some(spec)) => spec,
            (None, None) => unreachable!("one of the two is always there"),
        }
    }

    /// Changes `conf.yaml` of a node that does not run, for its next start.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let spec = self.spec();
        edit(&mut spec.conf);
        spec.write();
    }

    /// Writes both files so that they say this side, without telling the node.
    pub fn write(&mut self, side: Side) {
        self.writes += 1;
        let moved = self.moved;
        let (second, padding) = (self.second.loopback(), format!("{}{}", self.writes, "x".repeat(70_000)));
        let budget = self.budget;
        let api = self.api[usize::from(side == Side::New)].address();
        let spec = self.spec();
        let first = spec.port.loopback();
        let data_dir = if moved { "moved" } else { "data" };
        let is_new = side == Side::New;
        let conf = &mut spec.conf;
        conf["node"] = json!({"key_file": "node.key", "data_dir": data_dir, "worker_threads": if is_new { 2 } else { 1 }});
        conf["network"]["addresses"] = if is_new { json!([first, second]) } else { json!([first]) };
        conf["protocol"] = if is_new { json!({"max_message_size": "1KiB"}) } else { json!({}) };
        conf["logging"]["level"] = json!(if is_new { "debug" } else { "info" });
        conf["logging"]["file_output"] = json!(true);
        conf["logging"]["file_name"] = json!(if is_new { "new.log" } else { "old.log" });
        conf["logging"]["file_max_size"] = json!("2KiB");
        conf["logging"]["file_max_backups"] = json!(2);
        conf["admin"] = json!({"socket": side.socket(), "listen": api});
        conf["reload"] = json!({"budget": budget, "history": 3});
        let nobody = json!({"public_key": NOBODY, "addresses": []});
        // Large enough for a blob of its own in the history.
        spec.peers = json!({"peers": if is_new { json!([nobody]) } else { json!([]) }, "padding": padding});
        spec.write();
    }

    /// Fills the audit log of a node that does not run up, so that the start's own line fits and the next one does not.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn fill_audit(&self) {
        let filler = |length: usize| json!({"filler": "x".repeat(length)}).to_string() + "\n";
        let path = self.data_dir().join("audit.jsonl");
        let lines = fs::read_to_string(&path).expect("the log is there");
        let room = usize::try_from(storage::audit::ROTATE_AT).expect("it fits") - lines.len() - 2500;
        let filled: String = (0..room / (1 << 20)).map(|_| filler((1 << 20) - 16)).collect();
        fs::write(&path, filled + &filler(room % (1 << 20)) + &lines).expect("it can be written");
        fs::write(path.with_file_name("audit.jsonl.1"), filler(100)).expect("it can be written");
    }

    /// Starts the node, which is expected to serve on its side's socket.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(&mut self) {
        let ended = self.try_start().await;
        assert!(ended.is_none(), "the node ended with {ended:?}");
    }

    /// Starts the node; returns its exit code if it ends instead of serving.
    pub async fn try_start(&mut self) -> Option<i32> {
        let mut node = self.spec.take().expect("the node does not run").spawn_as_it_is();
        let clients = [self.client(Side::Old), self.client(Side::New)];
        let ended = eventually("the node serves or ends", async || {
            if let Some(status) = node.try_wait() {
                return Some(Some(status.code().unwrap_or(-1)));
            }
            for client in &clients {
                if client.get("/healthz").await.is_ok_and(|answer| answer.status.is_success()) {
                    return Some(None);
                }
            }
            None
        })
        .await;
        match ended {
            Some(code) => {
                self.spec = Some(node.into_spec());
                Some(code)
            }
            None => {
                self.node = Some(node);
                None
            }
        }
    }

    /// Starts the node without waiting for anything.
    ///
    /// # Panics
    /// If it runs.
    pub fn spawn(&mut self) {
        let spec = self.spec.take().expect("the node does not run");
        self.node = Some(spec.spawn_as_it_is());
    }

    /// The bytes of `conf.yaml` and `peers.yaml` now.
    #[must_use]
    pub fn files(&self) -> (Vec<u8>, Vec<u8>) {
        let read = |name| fs::read(self.folder.join(name)).unwrap_or_default();
        (read("conf.yaml"), read("peers.yaml"))
    }

    /// Stops the node gracefully; returns its exit code.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn stop(&mut self) -> i32 {
        let (status, spec) = self.node.take().expect("the node runs").stop().await;
        self.spec = Some(spec);
        status.code().unwrap_or(-1)
    }

    /// Kills the node.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill(&mut self) {
        self.spec = Some(self.node.take().expect("the node runs").kill().await);
    }

    /// A client of the socket of that side.
    #[must_use]
    pub fn client(&self, side: Side) -> Client {
        Client::new(self.data_dir().join(side.socket()))
    }

    /// `status`, on whichever socket is served.
    pub async fn status(&self) -> Value {
        eventually("status", async || {
            for side in [self.side, self.side.other()] {
                if let Ok(answer) = self.client(side).get("/admin/status").await {
                    return answer.json().ok();
                }
            }
            None
        })
        .await
    }

    /// Sends SIGHUP and returns the line of the audit log that tells what came of it.
    pub async fn hangup(&mut self) -> Value {
        // Whoever does not listen is not told.
        while self.supervisor.recv(&mut [0; 4096]).is_ok() {}
        // In either folder: a move copies the line that is the last now.
        let before = self.last_lines();
        self.node().signal(Signal::HUP);
        eventually("the reload's audit line", async || {
            let is_new = |line: &Value| {
                line["id"].is_string() && before.iter().all(|before| before["id"] != line["id"])
            };
            self.last_lines().into_iter().find(is_new)
        })
        .await
    }

    /// Moves the data to the other folder, as SIGHUP does.
    pub async fn move_over(&mut self) -> Value {
        let side = self.side;
        self.moved = !self.moved;
        self.write(side);
        self.moved = !self.moved;
        let outcome = self.hangup().await;
        if outcome["outcome"] == "committed" {
            self.moved = !self.moved;
        }
        outcome
    }

    /// Changes to this side, as SIGHUP does.
    pub async fn change(&mut self, side: Side) -> Value {
        self.write(side);
        let outcome = self.hangup().await;
        self.take_note(side, &outcome);
        outcome
    }

    /// A change in which nothing is made to fail. A machine under load may need more than the budget, which is not what is looked
    /// at where this is called: then it is tried again.
    ///
    /// # Panics
    /// If the last of a few tries is not committed.
    pub async fn change_well(&mut self, side: Side) -> Value {
        let mut outcome = self.change(side).await;
        for _ in 1..TRIES {
            if !is_slow(&outcome) {
                break;
            }
            outcome = self.change(side).await;
        }
        assert_eq!(outcome["outcome"], "committed", "after {}: {outcome:#}", self.doing);
        outcome
    }

    /// Asks for something that brings the node to this side, and returns the answer's status and body.
    pub async fn post(&mut self, path: &str, brings: Side) -> (u16, Value) {
        let answer = self.client(self.side).post(path, &[], vec![]).await;
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        let outcome: Value = answer.json().unwrap_or_default();
        self.take_note(brings, &outcome);
        (answer.status.as_u16(), outcome)
    }

    /// The last of what the node said, for whoever looks for the reason of a failure.
    #[must_use]
    pub fn tail(&self) -> String {
        let said = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let (log, errors) = (said("stdout.log"), said("stderr.log"));
        let is_noise = |line: &&str| line.contains("libp2p") || line.contains("reload state");
        let last: Vec<_> = log.lines().rev().filter(|line| !is_noise(line)).take(12).collect();
        format!("{}\n{errors}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    fn take_note(&mut self, side: Side, outcome: &Value) {
        if outcome["outcome"] == "committed" {
            self.side = side;
        }
    }

    /// The last lines of both folders' audit logs.
    fn last_lines(&self) -> [Value; 2] {
        [self.data_dir(), self.other_data_dir()].map(|folder| {
            let text = fs::read_to_string(folder.join("audit.jsonl")).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().next_back().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
        })
    }

    /// Waits until nothing is under way, and returns `status`.
    pub async fn settled(&self) -> Value {
        eventually("rest", async || {
            let status = self.status().await;
            let at_rest = status["running_reload"].is_null();
            (at_rest && ["idle", "failed"].contains(&status["state"].as_str()?)).then_some(status)
        })
        .await
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- while at: {}", self.doing);
        }
    }
}
