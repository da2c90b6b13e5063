//! A node that runs.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use fednode::client::{Answer, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Spec;
use crate::wait::eventually;

/// A node that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    pub(super) spec: Spec,
    pub(super) child: Child,
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
        let logs = self.spec.data_dirs().into_iter().map(|folder| super::audit(&folder));
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
