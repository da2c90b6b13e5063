//! One member of the demo: a folder, a process, a way to ask it.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use net::Identity;
use reload::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Failure, PATIENCE};
use crate::client::Client;

/// Between two looks at a node.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) struct Member {
    folder: PathBuf,
    identity: Identity,
    key: String,
    port: u16,
    pub(super) peers: Vec<Value>,
    conf: Value,
    before: Option<Value>,
    process: Option<Child>,
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

// === impl Member ===

impl Member {
    pub(super) fn new(number: usize, folder: &Path) -> Result<Self, Failure> {
        let (identity, port) = (Identity::generate(), free_port()?);
        let folder = folder.join(format!("member-{number}"));
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let conf = json!({
            "node": {"private_key": identity.to_text()},
            "network": {"addresses": [format!("/ip4/127.0.0.1/tcp/{port}")], "membership": "members"},
            "peers": {"connection_timeout": "10s", "reconnect_min": "200ms"},
            "logging": {"level": "info", "format": "json", "console_color": false},
        });
        let key = identity.public_key().to_string();
        Ok(Self { folder, identity, key, port, peers: Vec::new(), conf, before: None, process: None })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// As the others write it into their files.
    pub(super) fn entry(&self) -> Value {
        json!({"public_key": self.key, "addresses": [format!("/ip4/127.0.0.1/tcp/{}", self.port)]})
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.folder.join("data").join("admin.sock"))
    }

    /// The path of its inbox for the others.
    pub(super) fn messages_path(&self) -> String {
        format!("/v1/peers/{}/messages", self.identity.peer_id())
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) -> Result<(), Failure> {
        self.before = Some(self.conf.clone());
        edit(&mut self.conf);
        self.write()
    }

    pub(super) fn undo(&mut self) -> Result<(), Failure> {
        if let Some(before) = self.before.take() {
            self.conf = before;
        }
        self.write()
    }

    pub(super) fn write(&self) -> Result<(), Failure> {
        let text = |value: &Value| serde_yaml::to_string(value).map_err(|error| error.to_string());
        let files = [("conf.yaml", text(&self.conf)?), ("peers.yaml", text(&json!({"peers": self.peers}))?)];
        for (name, text) in files {
            storage::atomic::write(
                &self.folder.join(name),
                text.as_bytes(),
                storage::atomic::Mode::OwnerOnly,
            )
            .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
        self.write()?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let log = File::create(self.folder.join("log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(self.folder.join("conf.yaml"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.process = Some(child.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Sends SIGHUP and waits for what comes of it.
    pub(super) async fn hangup(&self) -> Result<Outcome, Failure> {
        let before = self.status().await?["last_reload"]["id"].clone();
        self.signal(Signal::HUP)?;
        self.eventually("the reload ends", async |member| {
            let last = member.status().await.ok()?["last_reload"].clone();
            (last["id"] != before).then_some(last)
        })
        .await
        .and_then(|last| serde_json::from_value(last).map_err(|error| error.to_string()))
    }

    pub(super) async fn status(&self) -> Result<Value, Failure> {
        let answer = self.client().get("/admin/status").await.map_err(|error| error.to_string())?;
        answer.json().map_err(|error| error.to_string())
    }

    /// The connections as (id, public key), by id.
    pub(super) async fn connections(&self) -> Result<Vec<(String, String)>, Failure> {
        let status = self.status().await?;
        let list = status["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |connection: &Value, key: &str| connection[key].as_str().unwrap_or_default().to_owned();
        let mut connections: Vec<_> = list.iter().map(|c| (text(c, "id"), text(c, "public_key"))).collect();
        connections.sort();
        Ok(connections)
    }

    pub(super) async fn wait_for_connections(&self, count: usize) -> Result<(), Failure> {
        self.eventually("the members connect", async |member| {
            let connections = member.connections().await.ok()?;
            (connections.len() == count).then_some(())
        })
        .await
    }

    /// Stops it gracefully.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.process.take() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("a member stopped with {status}")),
                // It is another process: its end is looked for, not told.
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
                Ok(None) | Err(_) => {
                    self.process = Some(child);
                    return Err("a member does not stop".to_owned());
                }
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = self.process.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        let pid = pid.ok_or("the member does not run")?;
        kill_process(pid, signal).map_err(|error| format!("a member cannot be signalled: {error}"))
    }

    async fn eventually<T>(
        &self,
        what: &str,
        mut seen: impl AsyncFnMut(&Self) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = seen(self).await {
                return Ok(found);
            }
            // It is another process: what it has come to is asked for, not told.
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        Err(format!("{what}: not within {} s; its last log lines:\n{}", PATIENCE.as_secs(), tail.join("\n")))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // Only where the demo ends before its end: nothing is left behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
