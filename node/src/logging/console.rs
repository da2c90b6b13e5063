//! A console: stdout, or stderr for want of another place.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::desk::Note;
use super::rotate::Limits;
use super::writer::Output;

/// How long a line waits for a slow reader of the console.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a pipe takes whole (POSIX `PIPE_BUF`, as Linux has it).
const PIPE_BUF: usize = 4096;

/// What is written to, in the hands of its thread.
#[derive(Debug)]
pub(super) struct Console {
    file: File,
    /// Lines lost since the last one that was written.
    lost: u64,
}

// === impl Console ===

impl Console {
    pub(super) fn new(file: File) -> Self {
        Self { file, lost: 0 }
    }
}

impl Output for Console {
    fn write(&mut self, line: &[u8], _: Limits) -> (bool, Option<Note>) {
        // Whoever has stopped reading is not waited for a second time until room shows that somebody reads again.
        let patience = if self.lost == 0 { PATIENCE } else { Duration::ZERO };
        match reload::fault::io("log::print").and_then(|()| write_within(&self.file, line, patience)) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                (true, (lost > 0).then_some(Note::Recovered(lost)))
            }
            Err(error) => {
                self.lost = self.lost.saturating_add(1);
                (false, (self.lost == 1).then_some(Note::Failing(error)))
            }
        }
    }

    fn owe(&mut self, lost: u64) {
        self.lost = self.lost.saturating_add(lost);
    }
}

/// Writes a whole line, or nothing of it, or at worst a part that the next line does not continue. What is written late is of less use than
/// what comes after it: a reader who has stopped costs lines.
pub(super) fn write_within(out: impl AsFd, bytes: &[u8], patience: Duration) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let end = bytes.len().min(written + PIPE_BUF);
        // In the middle of a line a little patience is due to the line, whoever was slow before.
        if let Err(error) = wait_for_room(&out, if written == 0 { patience } else { PATIENCE }) {
            if written > 0 && wait_for_room(&out, Duration::ZERO).is_ok() {
                rustix::io::write(&out, b"\n")?;
            }
            return Err(error);
        }
        match rustix::io::write(&out, &bytes[written..end]) {
            Ok(count) => written += count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// For a pipe, room means room for [`PIPE_BUF`] bytes (poll(2), pipe(7)): such a write neither blocks nor is torn.
fn wait_for_room(out: impl AsFd, patience: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(patience).ok();
    match poll(&mut [PollFd::new(&out, PollFlags::OUT)], timeout.as_ref()) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::WouldBlock, "nobody reads it")),
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
