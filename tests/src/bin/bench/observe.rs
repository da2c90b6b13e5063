//! A node that is looked at from outside: its files are written, its audit log is watched.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fednode_tests::{Keys, Node, Port, Spec, process};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::look::processor_time;
use crate::options::Shape;

/// Between two looks. Looking must not take the processor from what is looked at: two cores are all there is.
const PAUSE: Duration = Duration::from_micros(20);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The files of a node. Only the one that changes is written: a file that nobody touched is as it was in every respect.
pub(crate) struct Files {
    folder: PathBuf,
    pub(crate) conf: Value,
    pub(crate) peers: Vec<Value>,
    shape: Shape,
}

/// The audit log, which grows by a line when an outcome is there.
pub(crate) struct Audit {
    path: PathBuf,
    size: u64,
}

// === impl Files ===

impl Files {
    pub(crate) fn of(spec: &Spec, shape: Shape) -> Self {
        let peers = spec.peers["peers"].as_array().cloned().unwrap_or_default();
        Self { folder: spec.folder().to_owned(), conf: spec.conf.clone(), peers, shape }
    }

    pub(crate) fn write_conf(&self) {
        replace(&self.folder.join("conf.yaml"), &process::yaml(&self.conf));
    }

    pub(crate) fn write_peers(&self) {
        self.write_as_it_is("peers.yaml", &peers_text(&self.peers, self.shape));
    }

    pub(crate) fn write_as_it_is(&self, name: &str, text: &str) {
        replace(&self.folder.join(name), text);
    }
}

/// In the way of an editor: beside, then over.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)).expect("the folder can be written");
}

// === impl Audit ===

impl Audit {
    pub(crate) fn of(node: &Node) -> Self {
        let path = node.spec().folder().join("data").join("audit.jsonl");
        Self { size: size(&path), path }
    }

    /// Waits for the next line, which is the last when it is there.
    pub(crate) fn next_line(&mut self, node: &Node) -> Value {
        let began = Instant::now();
        // A log that was rotated is smaller.
        while size(&self.path) == self.size {
            assert!(began.elapsed() < PATIENCE, "no outcome:\n{}\n{}", node.log(), node.stderr());
            std::thread::sleep(PAUSE);
        }
        loop {
            let line = self.last_line();
            if let Some(line) = line {
                return serde_json::from_str(&line).expect("a line is JSON");
            }
        }
    }

    /// What was written since the last look, if it is whole lines.
    fn last_line(&mut self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let from = if file.metadata().ok()?.size() < self.size { 0 } else { self.size };
        let mut text = String::new();
        file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_string(&mut text)).ok()?;
        let line = text.strip_suffix('\n')?.lines().last()?.to_owned();
        self.size = from + text.len() as u64;
        Some(line)
    }

    /// Waits until it grows.
    pub(crate) fn wait(&self) {
        while size(&self.path) == self.size {
            std::thread::sleep(PAUSE);
        }
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.size())
}

/// Sends SIGHUP and looks every few ten microseconds for both: the port that accepts, if one is to, and the audit log that grows.
pub(crate) fn effect_and_outcome(
    node: &Node,
    port: Option<&Port>,
    audit: &Audit,
) -> (Option<Duration>, Duration) {
    let began = Instant::now();
    node.signal(Signal::HUP);
    let effect = port.map(|port| {
        while !port.accepts() {
            assert!(began.elapsed() < PATIENCE, "no effect:\n{}", node.log());
            std::thread::sleep(PAUSE);
        }
        began.elapsed()
    });
    audit.wait();
    (effect, began.elapsed())
}

/// Waits until the node has given its members up and does nothing.
pub(crate) async fn settle(node: &Node) {
    let pid = node.pid().as_raw_nonzero().get().unsigned_abs();
    loop {
        let before = processor_time(pid);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if processor_time(pid) <= before + Duration::from_millis(10) {
            return;
        }
    }
}

/// Members of whom none can be reached: port 1 of loopback refuses at once.
pub(crate) fn nobody(members: usize) -> Vec<Value> {
    let entry = |n: usize| {
        let address = |host: usize| format!("/ip4/127.0.{}.{}/tcp/1", host, n % 250 + 1);
        json!({"public_key": Keys::generate().public_key, "addresses": [address(1), address(2)]})
    };
    (0..members).map(entry).collect()
}

/// `peers.yaml` of such members.
pub(crate) fn peers_text(peers: &[Value], shape: Shape) -> String {
    if shape == Shape::Json {
        return process::yaml(&json!({"peers": peers}));
    }
    let mut text = "version: 1\npeers:\n".to_owned();
    for peer in peers {
        let addresses: Vec<String> =
            peer["addresses"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        text +=
            &format!("  - public_key: {}\n    addresses: [{}]\n", peer["public_key"], addresses.join(", "));
    }
    text
}
