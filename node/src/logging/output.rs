//! Where lines go: the settings of this moment as one value, and the console and file behind it.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use reload::Live;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::dispatcher::{self, Dispatch, WeakDispatch};

use super::LogFileError;
use super::filter::Filter;
use super::line::Line;
use super::rotate::{Files, Limits, Note, RotatingFile};
use crate::config::logging::{LogFile, LogFormat, LoggingSection};

/// How long a line waits for a slow reader of the console.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a pipe takes whole (POSIX `PIPE_BUF`, as Linux has it).
const PIPE_BUF: usize = 4096;

/// What every event reads, once. Never changed: swapped.
#[derive(Debug)]
pub(super) struct Settings {
    /// What it was made of.
    pub(super) section: Arc<LoggingSection>,
    pub(super) filter: Filter,
    pub(super) file: Option<FileOutput>,
}

/// The log file, which other settings may share, with the limits of these.
#[derive(Clone, Debug)]
pub(super) struct FileOutput {
    pub(super) file: Arc<RotatingFile>,
    limits: Limits,
}

/// The settings, the console, and the count of what was lost.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) live: Live<Settings>,
    /// Where the layer is installed: it may be the subscriber of some threads only.
    dispatch: OnceLock<WeakDispatch>,
    files: Arc<Files>,
    console: Console,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Console {
    out: Mutex<ConsoleOut>,
    is_terminal: bool,
}

#[derive(Debug)]
struct ConsoleOut {
    file: File,
    /// Lines lost since the last one that was written.
    lost: u64,
}

// === impl Settings ===

impl Settings {
    /// Opens what the section names. Blocks.
    fn open(section: Arc<LoggingSection>, files: &Arc<Files>) -> Result<Arc<Self>, LogFileError> {
        let LogFile { max_size, max_backups, .. } = section.file;
        let file = match section.file.in_use() {
            None => None,
            Some(path) => {
                Some(FileOutput { file: files.open(path)?, limits: Limits { max_size, max_backups } })
            }
        };
        let filter = Filter::new(section.level, &section.targets);
        Ok(Arc::new(Self { section, filter, file }))
    }
}

// === impl Outputs ===

impl Outputs {
    /// Outputs as the section says, with `console` for stdout. Blocks to open the file.
    pub(super) fn new(section: &LoggingSection, console: File) -> Result<Self, LogFileError> {
        let files = Arc::default();
        let settings = Settings::open(Arc::new(section.clone()), &files)?;
        let is_terminal = console.is_terminal();
        let out = Mutex::new(ConsoleOut { file: console, lost: 0 });
        Ok(Self {
            live: Live::new(settings),
            dispatch: OnceLock::new(),
            files,
            console: Console { out, is_terminal },
            lost: AtomicU64::new(0),
        })
    }

    /// Settings that are ready to be swapped in. Blocks to open the file; dropped, they leave nothing.
    pub(super) fn prepare(&self, section: Arc<LoggingSection>) -> Result<Arc<Settings>, LogFileError> {
        Settings::open(section, &self.files)
    }

    /// The layer was installed.
    pub(super) fn installed_in(&self, dispatch: &Dispatch) {
        // A subscriber is installed once; a second time would be under another `Outputs`.
        self.dispatch.get_or_init(|| dispatch.downgrade());
    }

    /// Lets the callsites ask again, after the settings were swapped. `tracing` asks the default subscriber of the thread
    /// that calls if it knows of one only, so ours is made that for the moment.
    pub(super) fn rebuild_callsites(&self) {
        if let Some(dispatch) = self.dispatch.get().and_then(WeakDispatch::upgrade) {
            dispatcher::with_default(&dispatch, tracing::callsite::rebuild_interest_cache);
        }
    }

    /// How many lines were lost since the start.
    pub(super) fn lost_lines(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes a line to every output of these settings. An output that fails is told of on the other one.
    pub(super) fn write(&self, settings: &Settings, line: &Line) {
        if settings.section.console {
            let (written, note) = self.console.write(line, &settings.section);
            self.count(written);
            if let Some(note) = note {
                self.tell_of_console(settings, &note);
            }
        }
        if let Some(output) = &settings.file {
            let (written, note) = output.file.write(line.as_bytes(), output.limits);
            self.count(written);
            if let Some(note) = note {
                self.tell_of_file(settings, output, &note);
            }
        }
    }

    fn count(&self, written: bool) {
        if !written {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell_of_file(&self, settings: &Settings, output: &FileOutput, note: &Note) {
        let path = output.file.path().display().to_string();
        let line = notice(settings.section.format, "log file", &path, note);
        let (written, _) = match note {
            Note::Recovered(_) => output.file.write(line.as_bytes(), output.limits),
            _ if settings.section.console => self.console.write(&line, &settings.section),
            // The last place that is left; if it is closed too, the count still tells.
            _ => (to_stderr(&line), None),
        };
        self.count(written);
        if let (false, Note::Recovered(lost)) = (written, note) {
            output.file.owe(*lost);
        }
    }

    fn tell_of_console(&self, settings: &Settings, note: &Note) {
        let line = notice(settings.section.format, "console", "stdout", note);
        let (written, _) = match (note, &settings.file) {
            (Note::Recovered(_), _) => self.console.write(&line, &settings.section),
            (_, Some(output)) => output.file.write(line.as_bytes(), output.limits),
            (_, None) => (to_stderr(&line), None),
        };
        self.count(written);
        if let (false, Note::Recovered(lost)) = (written, note) {
            self.console.owe(*lost);
        }
    }
}

fn notice(format: LogFormat, what: &str, path: &str, note: &Note) -> Line {
    let (message, key, value) = match note {
        Note::Failing(error) => ("log lines are being lost", "error", error.to_string()),
        Note::Recovered(lost) => ("log lines were lost", "lost", lost.to_string()),
        Note::NotRotated(error) => {
            ("the log file cannot be rotated and grows on", "error", error.to_string())
        }
    };
    let mut line = Line::default();
    line.notice(format, SystemTime::now(), message, &[("output", what), ("path", path), (key, &value)]);
    line
}

// === impl Console ===

impl Console {
    /// So many lines that were lost could not be told of: they are told of when there is room again.
    fn owe(&self, lost: u64) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.lost = out.lost.saturating_add(lost);
    }

    fn write(&self, line: &Line, section: &LoggingSection) -> (bool, Option<Note>) {
        let is_coloured = is_coloured(section, self.is_terminal);
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let coloured;
        let bytes = if is_coloured {
            coloured = line.coloured();
            coloured.as_bytes()
        } else {
            line.as_bytes()
        };
        // Whoever has stopped reading is not waited for a second time until room shows that somebody reads again.
        let patience = if out.lost == 0 { PATIENCE } else { Duration::ZERO };
        match write_within(&out.file, bytes, patience) {
            Ok(()) => {
                let lost = std::mem::take(&mut out.lost);
                (true, (lost > 0).then_some(Note::Recovered(lost)))
            }
            Err(error) => {
                out.lost = out.lost.saturating_add(1);
                (false, (out.lost == 1).then_some(Note::Failing(error)))
            }
        }
    }
}

/// Writes a whole line, or nothing of it, or at worst a part that the next line does not continue. A pipe whose reader has
/// stopped must not stop the node: logging happens in every actor, the network's included, and nothing blocks in there.
fn write_within(out: impl AsFd, bytes: &[u8], patience: Duration) -> io::Result<()> {
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

fn to_stderr(line: &Line) -> bool {
    complain(line.as_bytes())
}

/// Writes to stderr if somebody reads it: for threads that must not wait. Whether it was written.
pub fn complain(bytes: &[u8]) -> bool {
    write_within(io::stderr(), bytes, Duration::ZERO).is_ok()
}

/// Colour is for people who look at a terminal (contract: nothing is printed in colour to a pipe).
fn is_coloured(section: &LoggingSection, is_terminal: bool) -> bool {
    section.color && is_terminal && section.format == LogFormat::Text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::logging::Level;
    use std::collections::BTreeMap;

    #[test]
    fn only_text_on_a_terminal_is_coloured_and_only_if_asked_for() {
        for (format, color, is_terminal, expected) in [
            (LogFormat::Text, true, true, true),
            (LogFormat::Text, true, false, false),
            (LogFormat::Text, false, true, false),
            (LogFormat::Json, true, true, false),
        ] {
            let (level, targets) = (Level::Info, BTreeMap::new());
            let section =
                LoggingSection { level, targets, format, console: true, color, file: LogFile::default() };
            assert_eq!(is_coloured(&section, is_terminal), expected);
        }
        let mut line = Line::default();
        line.notice(LogFormat::Text, SystemTime::UNIX_EPOCH, "m", &[("k", "v")]);
        assert_eq!(
            line.coloured(),
            "1970-01-01T00:00:00.000Z \x1b[33m WARN\x1b[0m fednode::logging: m k=v\n"
        );
    }
}
