//! A node as a process.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use fednode::client::{Answer, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::port::Port;
use crate::wait::eventually;

/// Who a node is.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For `conf.yaml`.
    pub private_key: String,
    /// For `peers.yaml` of the others.
    pub public_key: String,
}

/// A node that is not started yet: its folder and its files.
#[derive(Debug)]
pub struct Spec {
    /// Who it is.
    pub keys: Keys,
    /// The port of its first listener.
    pub port: Port,
    /// `conf.yaml`.
    pub conf: Value,
    /// `peers.yaml`.
    pub peers: Value,
    folder: TempDir,
    binary: PathBuf,
    environment: Vec<(String, String)>,
    /// What the binary is run by, if not directly.
    wrapper: Vec<String>,
}

/// A node that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    spec: Spec,
    child: Child,
}

// === impl Keys ===

impl Keys {
    /// A new key pair.
    #[must_use]
    pub fn generate() -> Self {
        let identity = net::Identity::generate();
        Self { private_key: identity.to_text(), public_key: identity.public_key().to_string() }
    }
}

// === impl Spec ===

impl Spec {
    /// A node on one loopback port, without peers, with a budget that a machine under load does not exceed by itself.
    ///
    /// # Panics
    /// If its folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let (keys, port) = (Keys::generate(), Port::free());
        let conf = json!({
            "node": {"private_key": keys.private_key},
            "network": {"addresses": [port.loopback()]},
            "peers": {"connection_timeout": "10s", "reconnect_min": "100ms", "reconnect_max": "2s"},
            "logging": {"level": "info", "format": "json", "console_color": false},
            "reload": {"budget": "10s"},
        });
        let folder = tempfile::Builder::new().prefix("fednode-test-").tempdir().expect("a temporary folder");
        Self {
            keys,
            port,
            conf,
            peers: json!({"peers": []}),
            folder,
            binary: binary(),
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Several nodes that know each other, as one file for all of them has it: everybody dials everybody.
    #[must_use]
    pub fn mesh(size: usize) -> Vec<Self> {
        let mut specs: Vec<Self> = (0..size).map(|_| Self::new()).collect();
        let peers: Vec<Value> = specs.iter().map(Self::entry).collect();
        for spec in &mut specs {
            spec.peers = json!({"peers": peers});
        }
        specs
    }

    /// Several nodes that know each other, of which each dials only those after it. No two dials cross, so that the connections
    /// that are there when all are connected are the ones that stay: what a test of "kept its connection" begins with.
    #[must_use]
    pub fn federation(size: usize) -> Vec<Self> {
        let mut specs = Self::mesh(size);
        for (index, spec) in specs.iter_mut().enumerate() {
            for earlier in 0..index {
                spec.peers["peers"][earlier]["addresses"] = json!([]);
            }
        }
        specs
    }

    /// This node in the others' `peers.yaml`.
    #[must_use]
    pub fn entry(&self) -> Value {
        json!({"public_key": self.keys.public_key, "addresses": [self.port.loopback()]})
    }

    /// The node's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folders in it that hold a node's history.
    #[must_use]
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| !path.is_symlink() && path.join("audit.jsonl").exists()).collect()
    }

    /// Its `conf.yaml`.
    #[must_use]
    pub fn conf_path(&self) -> PathBuf {
        self.folder().join("conf.yaml")
    }

    /// Its `peers.yaml`.
    #[must_use]
    pub fn peers_path(&self) -> PathBuf {
        self.folder().join("peers.yaml")
    }

    /// Runs another binary than the one under test.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = path.to_owned();
        self
    }

    /// Sets an environment variable of the process.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the binary by another program, which must become it (as `ip netns exec` does): the process is signalled by its id.
    #[must_use]
    pub fn wrapped(mut self, program: &[&str]) -> Self {
        self.wrapper = program.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Writes both files, in the way of an editor: beside, then over.
    ///
    /// # Panics
    /// If it cannot.
    pub fn write(&self) {
        replace(&self.conf_path(), yaml(&self.conf).as_bytes());
        replace(&self.peers_path(), yaml(&self.peers).as_bytes());
    }

    /// A command of this node's binary, in its folder, with its configuration.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.binary),
            Some((program, before)) => {
                let mut command = Command::new(program);
                command.args(before).arg(&self.binary);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_remove("FEDNODE_CONFIG")
            .env_remove("FEDNODE_SOCKET");
        command.env("FEDNODE_CONFIG", self.conf_path()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the command runs")
    }

    /// Writes the files and starts the process, without waiting for it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn(self) -> Node {
        self.write();
        self.spawn_as_it_is()
    }

    /// Starts the process on whatever stands in the folder.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn_as_it_is(self) -> Node {
        let log = File::options().create(true).append(true).open(self.folder().join("stdout.log"));
        let errors = File::options().create(true).append(true).open(self.folder().join("stderr.log"));
        let mut command = self.command(&["run"]);
        command.stdout(log.expect("a log file")).stderr(errors.expect("a log file"));
        let child = command.spawn().expect("the node starts");
        Node { spec: self, child }
    }

    /// Writes the files, starts the process and waits until it serves.
    pub async fn start(self) -> Node {
        let mut node = self.spawn();
        node.wait_until_it_serves().await;
        node
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Node ===

impl Node {
    /// Starts a federation and waits until everybody is connected to everybody.
    pub async fn federation(size: usize) -> Vec<Self> {
        let mut nodes: Vec<Self> = Spec::federation(size).into_iter().map(Spec::spawn).collect();
        for node in &mut nodes {
            node.wait_until_it_serves().await;
        }
        for node in &nodes {
            node.wait_for_connections(size - 1).await;
        }
        nodes
    }

    /// Its files.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Who it is.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.spec.keys.public_key
    }

    /// A client of its admin socket.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.data_dir().join("admin.sock"))
    }

    /// The data folder that it uses now: of those that there are, the one whose socket is served.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let mut folders = self.spec.data_dirs();
        if folders.len() > 1
            && let Some(served) =
                folders.iter().position(|folder| UnixStream::connect(folder.join("admin.sock")).is_ok())
        {
            return folders.swap_remove(served);
        }
        folders.pop().unwrap_or_else(|| self.spec.folder().join("data"))
    }

    /// Waits until it answers on its socket.
    ///
    /// # Panics
    /// If it ends instead.
    pub async fn wait_until_it_serves(&mut self) {
        let what = format!("{} serves", self.spec.folder().display());
        eventually(&what, async || {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                panic!("the node ended with {status}:\n{}\n{}", self.stderr(), self.log());
            }
            // Which folder that is in may be told by the node only.
            self.client().get("/healthz").await.ok().filter(|answer| answer.status.is_success())
        })
        .await;
    }

    /// `status`.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn status(&self) -> Value {
        let answer = self.client().get("/admin/status").await;
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log())).json().expect("status is JSON")
    }

    /// The connections as (id, public key of the other end), in the order of their ids.
    pub async fn connections(&self) -> Vec<(String, String)> {
        let status = self.status().await;
        let list = status["connections"].as_array().cloned().unwrap_or_default();
        let mut connections: Vec<_> = list
            .iter()
            .map(|connection| {
                let text = |key: &str| connection[key].as_str().unwrap_or_default().to_owned();
                (text("id"), text("public_key"))
            })
            .collect();
        connections.sort();
        connections
    }

    /// Waits until exactly so many connections are open, and returns them.
    pub async fn wait_for_connections(&self, count: usize) -> Vec<(String, String)> {
        eventually(&format!("{count} connections at {}", self.key()), async || {
            let connections = self.connections().await;
            (connections.len() == count).then_some(connections)
        })
        .await
    }

    /// Changes `conf.yaml`, without telling the node.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        edit(&mut self.spec.conf);
        self.spec.write();
    }

    /// Changes `peers.yaml`, without telling the node.
    pub fn edit_peers(&mut self, edit: impl FnOnce(&mut Vec<Value>)) {
        if let Some(peers) = self.spec.peers["peers"].as_array_mut() {
            edit(peers);
        }
        self.spec.write();
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process can be signalled");
    }

    /// The process.
    ///
    /// # Panics
    /// Never: a child has a pid.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("pids are positive")).expect("pids are positive")
    }

    /// Sends SIGHUP and returns the line of the audit log that tells what came of it.
    pub async fn hangup(&self) -> Value {
        let before = self.audit().len();
        self.signal(Signal::HUP);
        eventually("the reload's audit line", async || self.audit().into_iter().nth(before)).await
    }

    /// Changes `conf.yaml` and sends SIGHUP.
    pub async fn reload_with(&mut self, edit: impl FnOnce(&mut Value)) -> Value {
        self.edit(edit);
        self.hangup().await
    }

    /// The audit log's whole lines.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let logs = self.spec.data_dirs().into_iter().map(|folder| audit(&folder));
        // One that was left behind by a move has fewer lines.
        logs.max_by_key(Vec::len).unwrap_or_default()
    }

    /// Sends a direct message.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn send(&self, to: &str, data: &str) -> Result<Answer, fednode::client::ClientError> {
        let key = to.replace('+', "-").replace('/', "_");
        let headers = [("content-type", "text/plain")];
        self.client().post(&format!("/v1/peers/{key}/messages"), &headers, data.as_bytes().to_vec()).await
    }

    /// What it printed to stdout: its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.spec.folder().join("stdout.log")).unwrap_or_default()
    }

    /// What it printed to stderr.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.spec.folder().join("stderr.log")).unwrap_or_default()
    }

    /// Waits until a line of the log has this text.
    pub async fn wait_for_log(&self, text: &str) -> String {
        eventually(&format!("a log line with '{text}'"), async || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn wait_for_end(&mut self) -> ExitStatus {
        eventually("the process ends", async || self.child.try_wait().expect("the process can be asked"))
            .await
    }

    /// Stops it gracefully, and gives its folder back for another start.
    pub async fn stop(mut self) -> (ExitStatus, Spec) {
        self.signal(Signal::TERM);
        let status = self.wait_for_end().await;
        (status, self.into_spec())
    }

    /// Kills it, and gives its folder back for another start.
    pub async fn kill(mut self) -> Spec {
        self.signal(Signal::KILL);
        self.wait_for_end().await;
        self.into_spec()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If it cannot be asked.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process can be asked")
    }

    /// Its files, to be changed.
    pub const fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Gives its folder back for another start. If it still runs, it is killed.
    #[must_use]
    pub fn into_spec(mut self) -> Spec {
        std::mem::take(&mut self.spec)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(25).collect();
            eprintln!("--- log of {} (last lines)", self.spec.folder().display());
            for line in tail.into_iter().rev() {
                eprintln!("{line}");
            }
            eprintln!("{}", self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole lines of the audit log in a data folder.
#[must_use]
pub fn audit(data_dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(data_dir.join("audit.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The binary under test.
///
/// # Panics
/// Never: cargo sets the variable for tests of this package.
#[must_use]
pub fn binary() -> PathBuf {
    // Tests are in `deps`, the binary beside it; `CARGO_BIN_EXE_…` is only there when an integration test is compiled.
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("fednode-under-test")
}

/// A value as YAML.
///
/// # Panics
/// Never: JSON is YAML.
#[must_use]
pub fn yaml(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value is JSON")
}

fn replace(path: &Path, contents: &[u8]) {
    let beside = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let written = file
        .as_mut()
        .map_err(|error| error.kind())
        .and_then(|file| file.write_all(contents).map_err(|error| error.kind()));
    written.expect("the folder can be written");
    fs::rename(&beside, path).expect("a file can be renamed");
}

/// Reads a file whole.
///
/// # Panics
/// If it cannot.
#[must_use]
pub fn read(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("the file can be read");
    text
}
