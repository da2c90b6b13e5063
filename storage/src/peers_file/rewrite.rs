//! Orders carried out on the file itself: one writer at a time, whole or not at all, and nothing that a person saved meanwhile is
//! lost.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use reload::fault;

use super::edit::{self, EditError, Edited, Effect, Order};
use super::turn;
use super::{Context, PeersFile, PeersFileError};
use crate::PeerKey;
use crate::atomic::{self, Action, Mode, Placed, WriteError};
use crate::document::{MAX_FILE, ReadError, source};

pub use turn::{TURN_WITHIN, Turn};

/// How often an editor may be quicker than an order before that is given up.
const TRIES: usize = 100;

/// How long a file that is wrong, or gone, has to stand still before it counts as that: an editor empties it before it writes, or
/// moves it away, and tells nobody.
const STANDS_STILL: Duration = Duration::from_millis(200);

/// Between two looks at such a file.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The mode of a file that is new: there are no secrets in it, and other programs may want to read it.
const NEW: u32 = 0o644;

/// What a rewrite has done.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// What the file held; `None` where there was none.
    pub before: Option<Vec<u8>>,
    /// What it holds.
    pub after: Vec<u8>,
    /// What became of each order.
    pub effects: Vec<Effect>,
}

/// Why orders were not carried out. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// Another process writes it.
    #[error(
        "{}: another process has kept its folder locked for {} s: {} (end that, and try again)",
        path.display(), within.as_secs_f32(), turn::shown(holder.as_deref())
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        within: Duration,
        /// Who that is, where the kernel tells.
        holder: Option<String>,
    },
    /// It comes out of a ConfigMap or Secret of Kubernetes.
    #[error(
        "{}: is mounted from a ConfigMap or Secret, whose next version would undo the change (change it there: the node takes it up \
         with reload.watch or SIGHUP; or let peers.file name a file on a volume)",
        .0.display()
    )]
    Mounted(PathBuf),
    /// It is gone, and what runs has members by it: written anew, it would say that they are none any more.
    #[error(
        "{}: is gone, and the node runs with {members} members; with only what is ordered in it they would all be removed (put it \
         back; to begin anew on purpose, write `peers: []` into it)",
        path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
        /// How many members run.
        members: usize,
    },
    /// Its folder cannot be locked.
    #[error("{}: its folder cannot be locked: {source}{}", path.display(), turn::remedy(source))]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{}: {source}{}", path.display(), turn::read_remedy(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// It is wrong as it stands, or would be afterwards.
    #[error("{}", lines(.0))]
    Invalid(PeersFileError),
    /// An order cannot be carried out.
    #[error("{}: {source}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// The disk refused.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Somebody saves it again and again.
    #[error("{}: it changes faster than it can be edited; nothing was done", .0.display())]
    Restless(PathBuf),
}

// === impl Turn ===

impl Turn {
    /// Carries orders out, all or none; durable when it returns. `own` is the node's own key, if it is known. What the file held
    /// before it was first rewritten stays in `NAME.orig`. Blocks for two durable writes.
    ///
    /// # Errors
    /// If the file is wrong before or would be after it, or cannot be written.
    pub fn rewrite(&self, orders: &[Order], own: Option<&PeerKey>) -> Result<Rewritten, RewriteError> {
        let name = self.path.display().to_string();
        let context = Context { own, ..Context::default() };
        for _ in 0..TRIES {
            let (before, read) = self.standing(&name, context)?;
            if before.is_none() && self.running > 0 {
                return Err(RewriteError::Gone { path: self.path.clone(), members: self.running });
            }
            let members = &read.members;
            let failed = |source| RewriteError::Edit { path: self.path.clone(), source };
            let plain = read.is_plain.then_some((members, context));
            let Edited { text: after, effects } =
                edit::edit_read(before.as_deref(), orders, plain).map_err(failed)?;
            let known = Context { known: Some(members), plain_text: read.plain_text(), ..context };
            PeersFile::parse(&name, after.as_slice().into(), known).map_err(RewriteError::Invalid)?;
            let rewritten = Rewritten { before, after, effects };
            if rewritten.before.as_ref() == Some(&rewritten.after) {
                return Ok(rewritten);
            }
            if let Some(before) = rewritten.before.as_ref().filter(|_| !members.is_empty()) {
                self.keep_original(before)?;
            }
            if self.replace(rewritten.before.as_deref(), &rewritten.after)? {
                return Ok(rewritten);
            }
        }
        Err(RewriteError::Restless(self.path.clone()))
    }

    /// Makes the file say what it said before a rewrite, unless somebody has changed it since; whether it does.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn put_back(&self, rewritten: &Rewritten) -> Result<bool, RewriteError> {
        let failed = |source| WriteError { path: self.path.clone(), action: Action::Write, source };
        fault::io("peers_file::put_back").map_err(failed)?;
        match &rewritten.before {
            Some(before) => self.replace(Some(&rewritten.after), before),
            None if self.bytes()?.as_ref() == Some(&rewritten.after) => {
                atomic::remove(&self.path)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// What the file holds and says. One that is wrong or gone is looked at until it stands still.
    fn standing(
        &self,
        name: &str,
        context: Context<'_>,
    ) -> Result<(Option<Vec<u8>>, PeersFile), RewriteError> {
        let (mut last, mut since) = (self.bytes()?, Instant::now());
        loop {
            let refused = match &last {
                None => None,
                Some(bytes) => match PeersFile::parse(name, bytes.as_slice().into(), context) {
                    Ok(file) => return Ok((last, file)),
                    Err(error) => Some(error),
                },
            };
            let bytes = loop {
                if since.elapsed() >= STANDS_STILL {
                    return refused
                        .map_or(Ok((None, PeersFile::none())), |error| Err(RewriteError::Invalid(error)));
                }
                thread::sleep(LOOK_AGAIN);
                let bytes = self.bytes()?;
                if bytes != last {
                    break bytes;
                }
            };
            (last, since) = (bytes, Instant::now());
        }
    }

    /// Replaces the file, if it holds `before` in the very moment of that; durable when it returns. Nobody's save is lost to it: one
    /// that came in between has its place again.
    fn replace(&self, before: Option<&[u8]>, after: &[u8]) -> Result<bool, RewriteError> {
        let failed = |source| WriteError { path: self.path.clone(), action: Action::Write, source };
        fault::io("peers_file::write").map_err(failed)?;
        let staged = atomic::stage(&self.path, after, Mode::KeepOr(NEW))?;
        if self.bytes()?.as_deref() != before {
            return Ok(false);
        }
        fault::io("peers_file::exchange").map_err(failed)?;
        let exchanged = match staged.exchange(before.is_some())? {
            Placed::Otherwise => return Ok(false),
            Placed::Alone => {
                let target = atomic::follow(&self.path).map_err(failed)?;
                atomic::sync_folder(atomic::folder_of(&target)).map_err(failed)?;
                return Ok(true);
            }
            Placed::Instead(exchanged) => exchanged,
        };
        let is_same = || exchanged.former().ok().as_deref() == before;
        let durable = if is_same() {
            fault::io("peers_file::exchanged").map_err(failed).and_then(|()| exchanged.sync())
        } else {
            Ok(())
        };
        // Whoever had the file open before it was replaced may have gone on writing.
        if durable.is_ok() && is_same() {
            return Ok(true);
        }
        exchanged.give_back(after)?;
        durable?;
        Ok(false)
    }

    fn keep_original(&self, bytes: &[u8]) -> Result<(), RewriteError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".orig");
        let failed = |source| WriteError { path: PathBuf::from(&name), action: Action::Create, source };
        fault::io("peers_file::keep").map_err(failed)?;
        match atomic::create(Path::new(&name), bytes) {
            Err(error) if error.source.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, RewriteError> {
        match source::read(&self.path, MAX_FILE) {
            Ok(file) => Ok(Some(file.bytes)),
            Err(ReadError::Missing) => Ok(None),
            Err(source) => Err(RewriteError::Read { path: self.path.clone(), source }),
        }
    }
}

fn lines(error: &PeersFileError) -> String {
    error.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use libp2p::identity::ed25519;

    use super::*;
    use crate::peers_file::edit::Entry;
    use crate::testing::names;

    fn key() -> PeerKey {
        PeerKey::from_bytes(ed25519::Keypair::generate().public().to_bytes()).unwrap()
    }

    fn set(key: PeerKey, address: &str) -> Order {
        Order::Set(Entry { key, addresses: Some(vec![address.to_owned()]), name: None })
    }

    const ADDRESS: &str = "/ip4/192.0.2.1/tcp/1";

    #[test]
    fn the_file_keeps_its_mode_and_its_link_and_the_original_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (real, path) = (folder.path().join("real.yaml"), folder.path().join("peers.yaml"));
        let (one, two) = (key(), key());
        let first = format!("peers: # ours\n  - public_key: {one}\n");
        fs::write(&real, &first).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.yaml", &path).unwrap();
        let turn = Turn::wait(&path).unwrap();
        let rewritten = turn.rewrite(&[set(two, ADDRESS)], None).unwrap();
        assert_eq!(rewritten.effects, [Effect::Added]);
        assert_eq!(fs::read(&path).unwrap(), rewritten.after);
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        turn.rewrite(&[Order::Remove(one)], None).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("peers.yaml.orig")).unwrap(), first);
        assert_eq!(names(folder.path()), ["peers.yaml", "peers.yaml.orig", "real.yaml"]);
    }

    #[test]
    fn what_is_put_back_is_never_somebody_else_s_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.yaml");
        let turn = Turn::wait(&path).unwrap();
        let rewritten = turn.rewrite(&[set(key(), ADDRESS)], None).unwrap();
        assert!(turn.put_back(&rewritten).unwrap());
        assert!(!path.exists());
        let rewritten = turn.rewrite(&[set(key(), ADDRESS)], None).unwrap();
        fs::write(&path, "peers: []").unwrap();
        assert!(!turn.put_back(&rewritten).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "peers: []");
    }

    #[test]
    fn what_would_be_refused_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.yaml");
        fs::write(&path, "peers: []\n").unwrap();
        let turn = Turn::wait(&path).unwrap();
        let error = turn.rewrite(&[set(key(), "/ip4/1.2.3/tcp/x")], None).unwrap_err();
        assert!(
            matches!(&error, RewriteError::Invalid(_)) && error.to_string().contains("addresses[0]"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "peers: []\n");
        fs::write(&path, "peers: {}\n").unwrap();
        turn.rewrite(&[set(key(), ADDRESS)], None).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "peers: {}\n");
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.yaml");
        let keys: Vec<PeerKey> = (0..24).map(|_| key()).collect();
        thread::scope(|scope| {
            let path = &path;
            for some in keys.chunks(4) {
                scope.spawn(move || {
                    for key in some {
                        Turn::wait(path).unwrap().rewrite(&[set(*key, ADDRESS)], None).unwrap();
                    }
                });
            }
        });
        let read = PeersFile::read(&path, "peers.yaml", Context::default()).unwrap();
        assert!(keys.iter().all(|key| read.members.contains_key(key)) && read.members.len() == keys.len());
    }
}
