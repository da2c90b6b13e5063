//! Judging `conf.yaml`, `peers.yaml` and what they name, in isolation from what runs (R5, R6).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::{Identity, NetworkSection};
use reload::{Problem, fault};
use storage::document::place::{self, Spot};
use storage::document::{Document, Findings, ReadError};
use storage::{Digest, Members, PeersSection};

use super::decode::{self, Draft, Key};
use super::sections::{HistorySection, NodeSection};
use super::{Config, ConfigSource, HeldFiles, LoadOptions, Snapshot, files, own_files, write_back};

mod members;

/// Where a configuration stands, and what it is judged against.
pub(super) struct Judge<'a> {
    /// Absolute.
    path: PathBuf,
    /// As the operator named it.
    named: &'a Path,
    current: Option<&'a Arc<Config>>,
    options: LoadOptions,
    held: &'a HeldFiles,
    /// Files read while judging count as reading.
    pub(super) read: Duration,
}

/// What was wrong and odd so far.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

// === impl Judge ===

impl<'a> Judge<'a> {
    pub(super) fn new(
        named: &'a Path,
        current: Option<&'a Arc<Config>>,
        options: LoadOptions,
        held: &'a HeldFiles,
    ) -> Self {
        // Fails only for an empty path, which no file has: then reading fails as well.
        let path = std::path::absolute(named).unwrap_or_else(|_| named.to_owned());
        Self { path, named, current, options, held, read: Duration::ZERO }
    }

    /// The bytes of `conf.yaml`, or what it is taken to say.
    pub(super) fn read_conf(&mut self) -> Result<Arc<[u8]>, ReadError> {
        let started = Instant::now();
        let before = self.current.map(|current| &current.source.snapshot.conf);
        let read =
            fault::io("conf::read").map_err(Into::into).and_then(|()| self.held.read(&self.path, before));
        self.read += started.elapsed();
        read
    }

    /// Judges these bytes; `peers` stands for `peers.yaml`, which is read where it is not given.
    pub(super) fn judge(
        &mut self,
        conf: Arc<[u8]>,
        peers: Option<Option<Arc<[u8]>>>,
    ) -> Result<(Arc<Config>, Vec<Problem>), Verdict> {
        if let Some(same) = self.unchanged(&conf, peers.as_ref()) {
            let warnings = same.source.warnings.clone();
            return Ok((same, warnings));
        }
        if self.options.generate {
            write_back::sweep(&self.path);
        }
        let name = self.named.display().to_string();
        let mut verdict = Verdict::default();
        let document = Document::parse(&name, &conf).map_err(|problem| Verdict::of(*problem))?;
        let findings = Findings::new();
        let folder = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        let named_folder = self.named.parent().unwrap_or(Path::new(""));
        let mut draft = decode::draft(document.root(&findings), &findings, &folder, named_folder);

        if let Some(path) = draft.key_file.as_ref().filter(|_| self.options.generate) {
            write_back::sweep(path);
        }

        self.judge_identity(&draft, &findings);
        let own = match &draft.key {
            Key::Read(identity, _) => Some(identity.public_key()),
            Key::Missing | Key::Wrong => None,
        };
        let peers_name = draft.peers.name.display().to_string();
        let peers = if own_files::report(&self.path, &draft, &findings) {
            self.peers(&draft, peers, own.as_ref(), &findings, &mut verdict)
        } else {
            None
        };
        if let Some(peers) = &peers {
            self.warn_of_members(&draft, peers, &findings);
            for (path, key) in &draft.named_peers {
                if Some(key) == own.as_ref() && path.ends_with(".peer") {
                    let problem = Problem::at(path.clone(), format!("{key} is this node itself"));
                    findings.error(problem.hint("name the member that exposes the service"), Spot::Value);
                } else if Some(key) != own.as_ref() && !peers.members.contains_key(key) {
                    let problem = Problem::at(path.clone(), format!("{key} is no member"));
                    findings.error(
                        problem.hint(format!("add it to {peers_name}, or correct the key")),
                        Spot::Value,
                    );
                }
            }
        }
        let (errors, warnings) = document.problems(findings);
        verdict.problems.splice(0..0, errors);
        verdict.warnings.splice(0..0, warnings);
        let (Some(peers), true) = (peers, verdict.problems.is_empty()) else { return Err(verdict) };

        let temporary_key = matches!(draft.key, Key::Missing) && !self.options.generate;
        let (identity, conf) = match std::mem::replace(&mut draft.key, Key::Wrong) {
            Key::Read(identity, _) => (*identity, conf),
            Key::Wrong => return Err(verdict),
            Key::Missing => match self.new_key(&mut draft, conf, &mut verdict) {
                Some(made) => made,
                None => return Err(verdict),
            },
        };
        let source = ConfigSource {
            path: self.path.clone(),
            name,
            peers_name,
            snapshot: Snapshot { conf, peers: peers.text },
            plain_peers: peers.is_plain,
            named: std::mem::take(&mut draft.named),
            temporary_key,
            warnings: verdict.warnings.clone(),
        };
        Ok((Arc::new(self.assemble(draft, identity, peers.members, source)), verdict.warnings))
    }

    /// What runs, if every byte of what it was made from is still the same.
    fn unchanged(&mut self, conf: &Arc<[u8]>, peers: Option<&Option<Arc<[u8]>>>) -> Option<Arc<Config>> {
        let current = self.current?;
        let source = &current.source;
        if source.path != self.path || source.snapshot.conf != *conf {
            return None;
        }
        let started = Instant::now();
        let same = match peers {
            Some(peers) => same_bytes(source.snapshot.peers.as_ref(), peers.as_ref()),
            None => match fault::io("peers::same")
                .map_err(Into::into)
                .and_then(|()| self.held.read(&current.peers.file, source.snapshot.peers.as_ref()))
            {
                Ok(text) => same_bytes(source.snapshot.peers.as_ref(), Some(&text)),
                Err(ReadError::Missing) => source.snapshot.peers.is_none(),
                Err(_) => false,
            },
        };
        let same = same && files::named_are_same(source);
        self.read += started.elapsed();
        same.then(|| Arc::clone(current))
    }

    /// Refuses what a running node cannot change yet (R19: refused rather than half done).
    fn judge_identity(&self, draft: &Draft, findings: &Findings) {
        let Some(current) = self.current else { return };
        let refuse = |path: &str, message: &str, hint: &str| {
            findings.error(Problem::at(path, message).hint(hint), Spot::Value);
        };
        match &draft.key {
            Key::Read(identity, from) if **identity != current.node.identity => refuse(
                from,
                "is another key than the one that the node runs with; a new identity needs a restart, and nothing was changed",
                "put the key back, or stop the node and start it with the new one",
            ),
            Key::Missing => {
                let key = if draft.key_file.is_some() { "node.key_file" } else { "node.private_key" };
                refuse(
                    key,
                    "holds no key, but the node runs with one; nothing was changed",
                    "put the key back: each generation keeps a copy",
                );
            }
            Key::Read(..) | Key::Wrong => {}
        }
    }

    /// A key pair for a node that has none, written to where it belongs if the options say so.
    fn new_key(
        &self,
        draft: &mut Draft,
        conf: Arc<[u8]>,
        verdict: &mut Verdict,
    ) -> Option<(Identity, Arc<[u8]>)> {
        let identity = Identity::generate();
        let key = if draft.key_file.is_some() { "node.key_file" } else { "node.private_key" };
        let at_key = |conf: &[u8], message: String| {
            let mut problem = [Problem::at(key, message).file(self.named.display().to_string())];
            if let Ok(text) = std::str::from_utf8(conf) {
                place::locate(text, &mut problem);
            }
            let [problem] = problem;
            problem
        };
        let written = match (&draft.key_file, self.options.generate) {
            (Some(path), false) => write_back::can_create(path).map(|()| Arc::clone(&conf)),
            (None, false) => write_back::can_replace(&self.path).map(|()| Arc::clone(&conf)),
            (Some(path), true) => write_back::key_file(path, &identity).map(|text| {
                draft.named.push((path.clone(), Digest::of(text.as_bytes())));
                Arc::clone(&conf)
            }),
            (None, true) => write_back::private_key(&self.path, &conf, &identity),
        };
        match written {
            Ok(conf) => {
                if !self.options.generate {
                    let warning = "holds no key yet: the node will generate one when it starts";
                    let warning = at_key(&conf, warning.to_owned());
                    verdict.warnings.push(warning.hint("`fednode keygen` prints one"));
                }
                Some((identity, conf))
            }
            Err(error) => {
                let message = format!("holds no key, and a generated one cannot be kept: {error}");
                let problem = at_key(&conf, message);
                let hint = "let the node's user write there, or write a key from `fednode keygen` into it";
                verdict.problems.push(problem.hint(hint));
                None
            }
        }
    }

    /// Puts the sections together. Those that are as before are shared with what runs.
    fn assemble(
        &self,
        draft: Draft,
        identity: Identity,
        members: Arc<Members>,
        source: ConfigSource,
    ) -> Config {
        let members = match self.current {
            Some(current) if current.peers.members == members => Arc::clone(&current.peers.members),
            _ => members,
        };
        let current = self.current;
        let Draft { network, peers, .. } = draft;
        let network = NetworkSection {
            listen: network.listen,
            external: network.external,
            membership: network.membership,
            limits: network.limits,
            worker_threads: draft.worker_threads,
            connection_timeout: peers.connection_timeout,
            reconnect_min: peers.reconnect_min,
            reconnect_max: peers.reconnect_max,
            members: Arc::clone(&members),
        };
        let node =
            NodeSection { identity, key_file: draft.key_file, shutdown_timeout: draft.shutdown_timeout };
        let history = HistorySection { data_dir: draft.data_dir };
        let peers = PeersSection { file: peers.file, max_known: peers.max_known, members };
        Config {
            node: share(node, current.map(|current| &current.node)),
            history: share(history, current.map(|current| &current.history)),
            network: share(network, current.map(|current| &current.network)),
            protocol: share(draft.protocol, current.map(|current| &current.protocol)),
            peers: share(peers, current.map(|current| &current.peers)),
            logging: share(draft.logging, current.map(|current| &current.logging)),
            admin: share(draft.admin, current.map(|current| &current.admin)),
            reload: share(draft.reload, current.map(|current| &current.reload)),
            source: Arc::new(source),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    fn of(problem: Problem) -> Self {
        Self { problems: vec![problem], warnings: Vec::new() }
    }
}

/// Whether two files hold the same; what was not read anew is the same without a look at it.
fn same_bytes(one: Option<&Arc<[u8]>>, other: Option<&Arc<[u8]>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn share<S: PartialEq>(next: S, current: Option<&Arc<S>>) -> Arc<S> {
    match current {
        Some(current) if **current == next => Arc::clone(current),
        _ => Arc::new(next),
    }
}
