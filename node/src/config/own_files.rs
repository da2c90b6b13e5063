//! The files of a node get in nobody's way: a log that is written into the configuration, or a rotation that moves the key
//! away, is found out before it happens.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use reload::Problem;
use rustix::fs::{Mode, OFlags};
use storage::Signpost;
use storage::document::Findings;
use storage::document::place::Spot;
use storage::relocate::NOTE;
use storage::standing::STANDING;

use super::decode::Draft;
use super::sections::JwtKey;

/// What a node keeps in its data folder (contract: `data_dir`); `audit.jsonl` has rotated ones beside it.
const IN_DATA_DIR: &[&str] =
    &["fednode.pid", "fednode.lock", AUDIT, "known.yaml", "generations", STANDING, NOTE];

const AUDIT: &str = "audit.jsonl";

const SOCKET: &str = "admin.socket";
const PEERS: &str = "peers.file";
const KEY: &str = "node.key_file";
const LOG: &str = "logging.file_name";
const DATA_DIR: &str = "node.data_dir";

/// Reports the paths that cannot be what they are meant for, and those that stand for two things at once. Returns whether
/// `peers.file` is not among them.
pub(super) fn report(conf: &Path, draft: &Draft, findings: &Findings) -> bool {
    let report = |path: &str, message: String, hint: &str| {
        findings.error(Problem::at(path, message).hint(hint), Spot::Value);
    };
    if fs::metadata(&draft.data_dir).is_ok_and(|metadata| !metadata.is_dir()) {
        let message = format!("{} is not a folder", draft.data_dir.display());
        report(DATA_DIR, message, "remove what is there, or name another folder");
    }
    let taken = Taken::new(conf, draft);
    let mut peers_are_good = true;
    for (key, path, also) in [
        (PEERS, Some(&draft.peers.file), &[CONF, RUNNING][..]),
        (KEY, draft.key_file.as_ref(), &[CONF, RUNNING, PEERS]),
        (SOCKET, Some(&draft.admin.socket), &[]),
    ] {
        let Some(path) = path else { continue };
        if key == SOCKET && names_folder(path) {
            report(key, format!("{} is a folder", path.display()), "name a socket in it, as admin.sock");
        } else if let Some(what) =
            taken.by(&Place::of(path), |name| name != key && (also.is_empty() || also.contains(&name)))
        {
            report(key, format!("{} is {what} already", path.display()), "name another file");
            peers_are_good &= key != PEERS;
        }
    }
    let Some(log) = draft.logging.file.in_use() else { return peers_are_good };
    if names_folder(log) {
        report(LOG, format!("{} is a folder", log.display()), "name a file in it");
    } else if is_the_systems(log) || fs::metadata(log).is_ok_and(|metadata| !metadata.is_file()) {
        let message = format!("{} is no regular file", log.display());
        report(LOG, message, "name a file; for a stream there is logging.console_output");
    } else if let Some(what) = taken.by(&Place::of(log), |_| true) {
        report(LOG, format!("{} is {what}, which the log would destroy", log.display()), "name another file");
    } else if let Some((name, what)) = taken.by_rotation(log, draft.logging.file.max_backups) {
        let message = format!("rotation would write {}, which is {what}", name.display());
        report(LOG, message, "name a file in a folder of its own");
    }
    peers_are_good
}

/// Whether rotation would put a name aside that other programs go by: `/dev/stdout` may well lead to a regular file.
fn is_the_systems(log: &Path) -> bool {
    ["/dev", "/proc", "/sys"].iter().any(|folder| log.starts_with(folder) && !log.starts_with("/dev/shm"))
}

/// The name of `conf.yaml` among what is taken.
const CONF: &str = "this configuration";

/// The name of its signpost.
const RUNNING: &str = "the note that says where the node runs";

/// A path in a form in which two that mean the same are equal, as far as that can be known.
struct Place {
    /// Without symlinks in its folder; what need not be there yet stands as it was written.
    path: PathBuf,
    /// Where it leads, if it is a symlink itself; perhaps to nothing.
    target: Option<PathBuf>,
    /// Device and inode of what is there: what it is, whatever its name.
    id: Option<(u64, u64)>,
}

/// Every name that the node uses itself.
struct Taken {
    named: Vec<(&'static str, Place)>,
    data_dir: PathBuf,
}

// === impl Place ===

impl Place {
    fn of(path: &Path) -> Self {
        Self::at(resolved(path))
    }

    /// For a path whose folder is known to be without symlinks.
    fn at(place: PathBuf) -> Self {
        let path = &*place;
        let target = fs::read_link(path).ok().map(|next| {
            fs::canonicalize(path).unwrap_or_else(|_| resolved(&path.parent().unwrap_or(path).join(next)))
        });
        let id = fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        Self { target, id, path: place }
    }

    fn is(&self, other: &Self) -> bool {
        (self.id.is_some() && self.id == other.id && self.is_still(other))
            || self.paths().any(|path| other.paths().any(|other| path == other))
    }

    /// Whether both are one file at one moment. A file that is replaced while this looks gives its inode back, and the next one that
    /// is written has it: what is held cannot be another's.
    fn is_still(&self, other: &Self) -> bool {
        let hold = |path: &Path| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map(fs::File::from)
        };
        let (Ok(one), Ok(other)) = (hold(&self.path), hold(&other.path)) else { return false };
        let id = |file: &fs::File| file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        id(&one).is_some_and(|one| Some(one) == id(&other))
    }

    /// The path, and where it leads.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&*self.path).chain(self.target.as_deref())
    }
}

// === impl Taken ===

impl Taken {
    fn new(conf: &Path, draft: &Draft) -> Self {
        let mut named = vec![(CONF, Place::of(conf)), (PEERS, Place::of(&draft.peers.file))];
        named.push((RUNNING, Place::of(Signpost::beside(conf).path())));
        named.extend(draft.key_file.iter().map(|path| (KEY, Place::of(path))));
        if let Some(tls) = &draft.admin.tls {
            named.push(("admin.tls.certificate", Place::of(&tls.certificate.path)));
            named.push(("admin.tls.private_key", Place::of(&tls.private_key.path)));
            named.extend(tls.client_ca.iter().map(|file| ("admin.tls.client_ca", Place::of(&file.path))));
        }
        match draft.admin.jwt.as_ref().map(|jwt| &jwt.key) {
            Some(JwtKey::SecretFile(file)) => named.push(("admin.jwt.secret_file", Place::of(&file.path))),
            Some(JwtKey::PublicKey(file)) => named.push(("admin.jwt.public_key_file", Place::of(&file.path))),
            Some(JwtKey::Inline(_)) | None => {}
        }
        named.push((SOCKET, Place::of(&draft.admin.socket)));
        named.push((DATA_DIR, Place::of(&draft.data_dir)));
        // Symlinks of the folder itself count too: what is in it is compared by where it really is.
        let data_dir = fs::canonicalize(&draft.data_dir).unwrap_or_else(|_| resolved(&draft.data_dir));
        for name in IN_DATA_DIR {
            named.push((name, Place::at(data_dir.join(name))));
        }
        Self { named, data_dir }
    }

    /// What this place is already, among what `counts`; the data folder's own names always do.
    fn by(&self, place: &Place, counts: impl Fn(&str) -> bool) -> Option<String> {
        let in_data_dir = |name: &str| IN_DATA_DIR.contains(&name) || name == DATA_DIR;
        let named =
            self.named.iter().find(|(name, other)| (in_data_dir(name) || counts(name)) && place.is(other));
        if let Some((name, _)) = named {
            return Some(if IN_DATA_DIR.contains(name) {
                format!("the node's own {name}")
            } else {
                (*name).to_owned()
            });
        }
        place.paths().find_map(|path| {
            let rest = path.strip_prefix(&self.data_dir).ok()?;
            let first = rest.iter().next()?;
            let is_generation = first == "generations";
            let is_audit = rest == Path::new(first) && is_numbered(OsStr::new(AUDIT), first);
            (is_generation || is_audit).then(|| format!("the node's own {}", rest.display()))
        })
    }

    /// Which name of the rotation is taken, and by what. Numbers beyond `max_backups` count: a rotation removes those.
    fn by_rotation(&self, log: &Path, max_backups: u32) -> Option<(PathBuf, String)> {
        let place = Place::of(log);
        let (folder, name) = (place.path.parent()?, place.path.file_name()?);
        let mut waiting = OsStr::new(".").to_owned();
        waiting.push(name);
        waiting.push(".next");
        let hit = self.named.iter().find_map(|(what, other)| {
            let mut paths = other.paths();
            let is_hit = |path: &&Path| {
                path.parent() == Some(folder)
                    && path.file_name().is_some_and(|other| is_numbered(name, other) || other == waiting)
            };
            paths.find(is_hit).map(|path| (path.to_owned(), (*what).to_owned()))
        });
        hit.or_else(|| {
            // Files that are there under these names may be others' by a link.
            let there = (1..=max_backups).map(|number| {
                let mut path = log.as_os_str().to_owned();
                path.push(format!(".{number}"));
                PathBuf::from(path)
            });
            there
                .take_while(|path| path.symlink_metadata().is_ok())
                .find_map(|path| self.by(&Place::of(&path), |_| true).map(|what| (path, what)))
        })
    }
}

/// Whether `other` is `name.NUMBER`.
fn is_numbered(name: &OsStr, other: &OsStr) -> bool {
    let number = other.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Whether a path is, or can only be, a folder.
fn names_folder(path: &Path) -> bool {
    let text = path.as_os_str().as_bytes();
    path.is_dir() || [&b"/"[..], b"/.", b"/.."].iter().any(|end| text.ends_with(end))
}

/// The path without symlinks in its folder, as far as that is there; the name itself is not followed.
fn resolved(path: &Path) -> PathBuf {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let there = folder.ancestors().find_map(|ancestor| Some((ancestor, fs::canonicalize(ancestor).ok()?)));
    let Some((ancestor, mut real)) = there else { return path.to_owned() };
    for part in folder.strip_prefix(ancestor).unwrap_or(Path::new("")).components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            part => real.push(part),
        }
    }
    real.join(name)
}
