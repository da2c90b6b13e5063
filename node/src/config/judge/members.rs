//! `peers.yaml` beside `conf.yaml`: who the members are.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reload::{Problem, fault};
use storage::document::place::Spot;
use storage::document::{Findings, ReadError};
use storage::peers_file::Context;
use storage::{Members, PeersFile};

use super::{Draft, Judge, Verdict, same_bytes};

/// The members with the bytes that they were read from.
pub(super) struct Peers {
    pub(super) members: Arc<Members>,
    pub(super) text: Option<Arc<[u8]>>,
    /// As [`PeersFile::is_plain`].
    pub(super) is_plain: bool,
}

/// How long a file that was there may be gone, in the middle of an editor's save: vim moves it away and writes it anew. Without
/// this, a reload in that moment would close every member's connection.
const GONE: Duration = Duration::from_millis(50);

// === impl Judge ===

impl Judge<'_> {
    /// Reads the file; a missing one is looked for again if it was there before.
    fn read_peers(&self, path: &Path, before: Option<&Arc<[u8]>>) -> Result<Arc<[u8]>, ReadError> {
        let until = Instant::now() + GONE;
        loop {
            match self.held.read(path, before) {
                Err(ReadError::Missing) if before.is_some() && Instant::now() < until => {
                    // Whoever saves a file tells nobody when it is done.
                    std::thread::sleep(Duration::from_millis(1));
                }
                read => return read,
            }
        }
    }

    /// The members: those that run, if their file has not changed; else the file's.
    pub(super) fn peers(
        &mut self,
        draft: &Draft,
        given: Option<Option<Arc<[u8]>>>,
        own: Option<&storage::PeerKey>,
        findings: &Findings,
        verdict: &mut Verdict,
    ) -> Option<Peers> {
        let name = &*draft.peers.name.display().to_string();
        let text: Option<Arc<[u8]>> = match given {
            Some(text) => text,
            None => {
                let started = Instant::now();
                let before = self.current.and_then(|current| current.source.snapshot.peers.as_ref());
                let read = fault::io("peers::read")
                    .map_err(Into::into)
                    .and_then(|()| self.read_peers(&draft.peers.file, before));
                self.read += started.elapsed();
                match read {
                    Ok(text) => Some(text),
                    Err(ReadError::Missing) => None,
                    Err(error) => {
                        let problem =
                            Problem::at("peers.file", format!("the file {} {error}", draft.peers.shown));
                        let hint = error.problem(name).hint.unwrap_or_default();
                        let problem = Problem { class: error.class(), ..problem.hint(hint) };
                        findings.error(problem, Spot::Value);
                        return None;
                    }
                }
            }
        };
        let reusable = self.current.filter(|current| {
            same_bytes(current.source.snapshot.peers.as_ref(), text.as_ref())
                && current.source.peers_name == name
                && own == Some(&current.node.identity.public_key())
        });
        if let Some(current) = reusable {
            let theirs =
                current.source.warnings.iter().filter(|warning| warning.file.as_deref() == Some(name));
            verdict.warnings.extend(theirs.cloned());
            let text = current.source.snapshot.peers.clone();
            let is_plain = current.source.plain_peers;
            return Some(Peers { members: Arc::clone(&current.peers.members), text, is_plain });
        }
        let Some(bytes) = text else {
            return Some(Peers { members: Arc::new(Members::new()), text: None, is_plain: false });
        };
        let known = self.current.map(|current| &*current.peers.members);
        let plain_text = self
            .current
            .filter(|current| current.source.plain_peers && own == Some(&current.node.identity.public_key()));
        let plain_text = plain_text.and_then(|current| current.source.snapshot.peers.as_deref());
        let plain_text = plain_text.and_then(|bytes| std::str::from_utf8(bytes).ok());
        match PeersFile::parse(name, bytes, Context { own, known, plain_text }) {
            Ok(file) => {
                verdict.warnings.extend(file.warnings);
                Some(Peers { members: Arc::new(file.members), text: file.text, is_plain: file.is_plain })
            }
            Err(error) => {
                verdict.problems.extend(error.problems);
                verdict.warnings.extend(error.warnings);
                None
            }
        }
    }

    /// What is allowed and hardly meant: a federation that is gone, or too large for its limit.
    pub(super) fn warn_of_members(&self, draft: &Draft, peers: &Peers, findings: &Findings) {
        let warn = |path: &str, message: String, hint: String| {
            findings.warning(Problem::at(path, message).hint(hint), Spot::Value);
        };
        let name = &draft.peers.shown;
        if peers.text.is_none() {
            let alone = "the node runs alone";
            match self.current {
                Some(current) if !current.peers.members.is_empty() => {
                    let hint = "put it back; to run alone on purpose, write `peers: []` into it";
                    warn("peers.file", format!("the file {name} is gone: {alone}"), hint.to_owned());
                }
                None if draft.peers.is_named => {
                    let hint = "create it, or name another one; `peers: []` in it runs alone on purpose";
                    warn("peers.file", format!("the file {name} does not exist: {alone}"), hint.to_owned());
                }
                Some(_) | None => {}
            }
        }
        let (limit, members) = (draft.network.limits.connections, peers.members.len());
        if usize::try_from(limit).is_ok_and(|limit| limit < members) {
            warn(
                "network.limits.connections",
                format!("{limit} is less than the {members} members: some stay unconnected"),
                format!("at least {members}"),
            );
        }
    }
}
