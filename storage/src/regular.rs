//! Opening a file that has to be a regular one: in a folder that people name, anything may have the name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens `path` with `options`, unless it is a pipe, a device or a folder.
///
/// # Errors
/// What the system says, and [`ErrorKind::InvalidInput`] for what is no regular file.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    // Without NONBLOCK the open of a pipe that nobody else has open would never return. It means nothing for a regular file.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let no_file = || io::Error::new(ErrorKind::InvalidInput, "is no regular file (move it away)");
    let file = options.clone().custom_flags(flags).open(path).map_err(|error| {
        // What a pipe without a reader, or a socket, says to whoever wants to write.
        if Errno::from_io_error(&error) == Some(Errno::NXIO) { no_file() } else { error }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

/// [`open`] for reading.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Whether `path` leads to this open file.
///
/// # Errors
/// If that cannot be seen.
pub(crate) fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, named) = match fs::metadata(path) {
        Ok(named) => (file.metadata()?, named),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        crate::testing::pipe(&pipe);
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&pipe, &socket, dir.path()] {
            for options in [OpenOptions::new().read(true), OpenOptions::new().write(true)] {
                assert!(open(path, options).is_err(), "{}", path.display());
            }
        }
        assert_eq!(read(&pipe).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(dir.path().join("file"), "").unwrap();
        read(&dir.path().join("file")).unwrap();
    }
}
