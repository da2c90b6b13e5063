//! A node that is not started yet.

use std::fs;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Node, binary, replace, yaml};
use crate::port::Port;

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
        // Ctrl-C on a terminal is for whoever started it: a terminal signals a whole group.
        command.process_group(0);
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
