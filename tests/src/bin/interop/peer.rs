//! A foreign peer as a process that is told what to do, and tells what happens, in lines of JSON.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use fednode_tests::process::read;
use fednode_tests::wait::PATIENCE;
use fednode_tests::{Keys, Node, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

/// How a peer is started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) command: String,
    pub(crate) arguments: Vec<String>,
}

/// A peer that runs. Dropped, it is killed.
pub(crate) struct Peer {
    pub(crate) keys: Keys,
    /// Its peer id.
    pub(crate) id: String,
    /// Where it listens.
    pub(crate) address: String,
    child: Child,
    /// Its library's complaints: shown when a test fails.
    stderr: NamedTempFile,
    stdin: tokio::sync::Mutex<ChildStdin>,
    heard: Arc<Heard>,
}

/// What it has said.
#[derive(Default)]
struct Heard {
    /// By the numbers of commands that are not answered yet.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    events: Mutex<Vec<Value>>,
}

// === impl Peer ===

impl Peer {
    /// A peer with a new key, which listens and is connected to nobody.
    pub(crate) async fn start(program: &Program) -> Self {
        let stderr = NamedTempFile::new().expect("a temporary file");
        let complaints = stderr.reopen().expect("a temporary file");
        let mut child = Command::new(&program.command)
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.command));
        let stdin = tokio::sync::Mutex::new(child.stdin.take().expect("it is piped"));
        let heard = Arc::new(Heard::default());
        tokio::spawn(listen(child.stdout.take().expect("it is piped"), Arc::clone(&heard)));
        let (keys, id, address) = (Keys::generate(), String::new(), String::new());
        let mut peer = Self { keys, id, address, child, stderr, stdin, heard };
        let started = peer.ask(json!({"do": "start", "private_key": peer.keys.private_key})).await;
        let text = |key: &str| started[key].as_str().expect("a peer tells who and where it is").to_owned();
        (peer.id, peer.address) = (text("peer"), text("address"));
        peer
    }

    /// This peer in a node's `peers.yaml`: to be dialled, or only to be let in.
    pub(crate) fn entry(&self, dialled: bool) -> Value {
        let addresses = if dialled { vec![self.address.as_str()] } else { Vec::new() };
        json!({"public_key": self.keys.public_key, "addresses": addresses})
    }

    /// Does something, successfully.
    pub(crate) async fn ask(&self, command: Value) -> Value {
        let answer = self.try_ask(command.clone()).await;
        assert_eq!(answer["event"], "done", "{command}: {answer}");
        answer
    }

    /// Tries to do something.
    pub(crate) async fn try_ask(&self, mut command: Value) -> Value {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut stdin = self.stdin.lock().await;
            let id = self.heard.expect(answer);
            command["id"] = json!(id);
            stdin.write_all(format!("{command}\n").as_bytes()).await.expect("the peer reads");
            id
        };
        let answer = tokio::time::timeout(PATIENCE, answered).await;
        answer
            .unwrap_or_else(|_late| panic!("command {id} is not answered: {command}"))
            .expect("the peer runs")
    }

    /// Connects to the node's first listener.
    pub(crate) async fn dial(&self, node: &Node, node_id: &str) -> Value {
        let address = format!("{}/p2p/{node_id}", node.spec().port.loopback());
        self.try_ask(json!({"do": "dial", "address": address})).await
    }

    /// The events of this name so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let events = self.heard.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Waits until so many events of this name have happened.
    pub(crate) async fn wait_for(&self, name: &str, count: usize) {
        let what = format!("{count} times '{name}' at the peer");
        eventually(&what, async || (self.events(name).len() >= count).then_some(())).await;
    }

    /// Stops it in its tracks, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(pid.expect("it runs"), signal).expect("it can be signalled");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- stderr of the peer {}\n{}", self.id, read(self.stderr.path()));
        }
    }
}

// === impl Heard ===

impl Heard {
    fn expect(&self, answer: oneshot::Sender<Value>) -> u64 {
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let id = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        id
    }

    fn take(&self, event: Value) {
        let id = event["id"].as_u64();
        let answer =
            id.and_then(|id| self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id));
        match answer {
            // Whoever asked may have stopped waiting; then the test has failed already.
            Some(answer) => drop(answer.send(event)),
            None => self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event),
        }
    }
}

/// Hears what the peer says until it ends; then nobody waits any more.
async fn listen(stdout: ChildStdout, heard: Arc<Heard>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        heard.take(serde_json::from_str(&line).unwrap_or_else(|_| panic!("the peer said {line}")));
    }
    heard.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
