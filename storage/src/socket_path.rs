//! Unix sockets under paths of any length, for their owner only.
//!
//! A socket's address holds 107 bytes of path, and a data folder may be deeper than that. On Linux a longer path goes
//! through the folder's descriptor, as `/proc/self/fd/N/name`.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};

use reload::fault;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::atomic::{folder_of, temp_name};

/// Bytes that `sun_path` takes, without its NUL (Linux 107, the BSDs 103).
const MAX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Connections that wait to be accepted: a handful of command lines.
const BACKLOG: i32 = 64;

/// A path that fits into a socket's address and means the same as the one that it was made of, for as long as it lives.
#[derive(Debug)]
pub struct ShortPath {
    path: PathBuf,
    /// Held open: the path goes through its number.
    _folder: Option<File>,
}

// === impl ShortPath ===

impl ShortPath {
    /// The path itself if it is short enough, else one through its folder's descriptor.
    ///
    /// # Errors
    /// If the folder cannot be opened, or the name alone is too long.
    pub fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= MAX_PATH {
            return Ok(Self { path: path.into(), _folder: None });
        }
        let too_long = || {
            io::Error::new(
                ErrorKind::InvalidInput,
                format!("{}: too long for a socket; choose a shorter path", path.display()),
            )
        };
        let name = path.file_name().ok_or_else(too_long)?;
        if !cfg!(target_os = "linux") {
            return Err(too_long());
        }
        let flags = i32::try_from((OFlags::PATH | OFlags::DIRECTORY).bits()).map_err(io::Error::other)?;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(folder_of(path))?;
        let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        if short.as_os_str().as_bytes().len() > MAX_PATH {
            return Err(too_long());
        }
        Ok(Self { path: short, _folder: Some(folder) })
    }

    /// The path for `bind` and `connect`.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

/// A socket that listens under a temporary name, with mode 0600: one rename away from its place. There is no instant at
/// which somebody else could connect, and none without a socket at the path. Dropped unplaced, it leaves nothing.
#[derive(Debug)]
pub struct Unplaced {
    socket: OwnedFd,
    temp: Temp,
    path: PathBuf,
}

// === impl Unplaced ===

impl Unplaced {
    /// Listens for `path`. The socket is blocking; whoever holds the data folder's lock may call this.
    ///
    /// # Errors
    /// What the system says, and as [`Unplaced::place`].
    pub fn new(path: &Path) -> io::Result<Self> {
        if let Some(error) = occupied(path) {
            return Err(error);
        }
        fault::io("socket::bind")?;
        // A short name of its own: a long one would not fit beside the descriptor's number.
        let temp = Temp(folder_of(path).join(temp_name(OsStr::new("s"))));
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(ShortPath::new(&temp.0)?.as_path())?)?;
        fs::set_permissions(&temp.0, Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        fault::io("socket::place")?;
        Ok(Self { socket, temp, path: path.to_owned() })
    }

    /// Gives the socket its name, over a stale one in one step.
    ///
    /// # Errors
    /// What the system says; [`ErrorKind::AlreadyExists`] if something that is no socket has the name, and
    /// [`ErrorKind::AddrInUse`] if somebody serves a socket there.
    pub fn place(self) -> io::Result<UnixListener> {
        // Again: somebody else may have come while this one was made.
        if let Some(error) = occupied(&self.path) {
            return Err(error);
        }
        fs::rename(&self.temp.0, &self.path)?;
        Ok(UnixListener::from(self.socket))
    }
}

/// Listens at `path`: [`Unplaced::new`] and [`Unplaced::place`].
///
/// # Errors
/// As these two.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    Unplaced::new(path)?.place()
}

/// A name that was not given to the socket, or has gone to its place. One that stays is removed by the next start's sweep.
#[derive(Debug)]
struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Why a socket cannot be bound at `path`: something else has the name, or somebody serves it. A socket that nobody serves
/// is what a killed process leaves, and no obstacle.
#[must_use]
pub fn occupied(path: &Path) -> Option<io::Error> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.file_type().is_socket() {
        return Some(io::Error::new(ErrorKind::AlreadyExists, "is there already and is no socket"));
    }
    match connect(path) {
        Ok(_) => Some(io::Error::new(ErrorKind::AddrInUse, "is served by another process")),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => None,
        // Who cannot look (no descriptor left, somebody else's socket) must not take it for free.
        Err(error) => Some(error),
    }
}

/// Which file a path leads to: device and inode. A socket's file is its owner's only as long as this stays.
#[must_use]
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Connects to the socket at `path`.
///
/// # Errors
/// What the system says: [`ErrorKind::NotFound`] and [`ErrorKind::ConnectionRefused`] mean that no node answers there.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    fault::io("socket::connect")?;
    UnixStream::connect(ShortPath::new(path)?.as_path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn says_hello(listener: &UnixListener, path: &Path) {
        let mut client = connect(path).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        served.write_all(b"hello").unwrap();
        drop(served);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_socket_deeper_than_its_address_allows_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        for path in [dir.path().join("admin.sock"), deep.join("admin.sock")] {
            let listener = bind_private(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            says_hello(&listener, &path);
            assert_eq!(
                fs::read_dir(folder_of(&path))
                    .unwrap()
                    .filter(|e| { e.as_ref().unwrap().file_type().unwrap().is_socket() })
                    .count(),
                1,
                "no temporary name is left"
            );
        }
    }

    #[test]
    fn a_stale_socket_is_taken_over_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(bind_private(&path).unwrap());
        assert_eq!(connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let listener = bind_private(&path).unwrap();
        says_hello(&listener, &path);

        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert_eq!(bind_private(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }

    #[test]
    fn one_who_is_late_takes_nobody_s_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let late = Unplaced::new(&path).unwrap();
        let listener = bind_private(&path).unwrap();
        assert_eq!(late.place().unwrap_err().kind(), ErrorKind::AddrInUse);
        // The one who looked whether somebody serves.
        drop(listener.accept().unwrap());
        says_hello(&listener, &path);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary name is left");
    }

    #[test]
    fn a_name_that_cannot_fit_says_so() {
        let path = Path::new("/tmp").join("n".repeat(200));
        let error = connect(&path).unwrap_err();
        assert!(error.to_string().contains("too long for a socket"));
    }
}
