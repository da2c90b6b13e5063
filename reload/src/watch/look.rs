//! Looking at a path: where its symlinks lead, what is there, and what it holds.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use super::{Digest, MAX_HASHED, Seen};

/// How many symlinks are followed; as many as Linux follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What is found at the end of a path, without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Missing,
    /// A regular file.
    File(Identity),
    /// Something else, which is never opened: two folders in turn in one place are one and the same to a reader.
    NoFile,
    /// The way to it is barred.
    Barred(io::ErrorKind),
}

/// What changes when a file is replaced, or written to at another time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    size: u64,
    /// Device and inode, modification and change in seconds and nanoseconds, where the system has them.
    #[cfg(unix)]
    stat: (u64, u64, (i64, i64), (i64, i64)),
    #[cfg(not(unix))]
    modified: Option<std::time::SystemTime>,
}

/// The state that a file is in when it stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As a reader sees it.
    Seen(Seen),
    /// Too large to be read: compared by what it looks like; or nothing that could be read.
    Odd(Look),
    /// It cannot be read.
    Barred(io::ErrorKind),
}

/// A path with its symlinks followed.
#[derive(Debug)]
pub(super) struct Way {
    /// Every name on the way that may come to mean something else, without symlinks in its folder; the last one is what the
    /// path means. The folders of these have to be watched.
    pub(super) names: Vec<PathBuf>,
    /// What is at its end.
    pub(super) look: Look,
}

/// Follows a path. `path` is absolute.
pub(super) fn follow(path: &Path) -> Way {
    let mut real = PathBuf::new();
    let mut names = Vec::new();
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    let mut links = 0;
    enqueue(&mut ahead, &mut real, path);
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            // Right, because there is no symlink in `real`.
            real.pop();
            continue;
        }
        let here = real.join(&part);
        let metadata = match fs::symlink_metadata(&here) {
            Ok(metadata) => metadata,
            Err(error) => {
                names.push(here);
                return Way { names, look: barred(&error) };
            }
        };
        if metadata.is_symlink() {
            links += 1;
            names.push(here.clone());
            match fs::read_link(&here) {
                Ok(target) if links <= MAX_LINKS => enqueue(&mut ahead, &mut real, &target),
                Ok(_) => return Way { names, look: Look::Barred(io::ErrorKind::Other) },
                Err(error) => return Way { names, look: barred(&error) },
            }
        } else if ahead.is_empty() {
            names.push(here);
            return Way { names, look: Look::of(&metadata) };
        } else {
            real = here;
        }
    }
    // `/`, or a path that ends in `..`: a folder.
    names.push(real);
    Way { names, look: Look::NoFile }
}

/// Puts the parts of `path` before those that are ahead.
fn enqueue(ahead: &mut VecDeque<OsString>, real: &mut PathBuf, path: &Path) {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Prefix(_) | Component::RootDir => real.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::Normal(_) => parts.push(part.as_os_str().to_owned()),
        }
    }
    for part in parts.into_iter().rev() {
        ahead.push_front(part);
    }
}

/// The state of a file that stands still and looks like `look`; `None` if it does not, after all.
pub(super) fn state(path: &Path, look: &Look, digest: Digest) -> Option<State> {
    let identity = match look {
        Look::Missing => return Some(State::Seen(Seen::Missing)),
        Look::NoFile => return Some(State::Odd(Look::NoFile)),
        Look::Barred(kind) => return Some(State::Barred(*kind)),
        Look::File(identity) => identity,
    };
    if identity.size > MAX_HASHED {
        return Some(State::Odd(look.clone()));
    }
    match read(path, look) {
        Ok(bytes) => bytes.map(|bytes| State::Seen(Seen::Content(digest(&bytes)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(State::Barred(error.kind())),
    }
}

/// The bytes, if the file is what it looked like before and after they were read.
fn read(path: &Path, look: &Look) -> io::Result<Option<Vec<u8>>> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // It may be a pipe by now, whose open would wait for a writer.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    if Look::of(&file.metadata()?) != *look {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    (&file).take(MAX_HASHED + 1).read_to_end(&mut bytes)?;
    Ok((Look::of(&file.metadata()?) == *look).then_some(bytes))
}

fn barred(error: &io::Error) -> Look {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Look::Missing,
        kind => Look::Barred(kind),
    }
}

// === impl Look ===

impl Look {
    fn of(metadata: &Metadata) -> Self {
        if metadata.is_file() { Self::File(Identity::of(metadata)) } else { Self::NoFile }
    }

    /// Whether its contents are what is compared.
    pub(super) const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

// === impl Identity ===

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            Self { size: metadata.len(), stat: (metadata.dev(), metadata.ino(), modified, changed) }
        }
        #[cfg(not(unix))]
        Self { size: metadata.len(), modified: metadata.modified().ok() }
    }
}
