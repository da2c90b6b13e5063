//! Where lines go: the settings of this moment as one value, and the console and file behind it.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use reload::Live;
use tracing::dispatcher::{self, Dispatch, WeakDispatch};

use super::LogFileError;
use super::console::{Console, write_within};
use super::desk::{Desk, Note, Place};
use super::files::{Files, LogFile, Opening};
use super::filter::Filter;
use super::line::Line;
use super::queue::Queue;
use super::rotate::Limits;
use super::writer::Stream;
use crate::config::logging::{LogFormat, LoggingSection};

/// How long a start waits for the disk of its log file.
const START_WITHIN: Duration = Duration::from_secs(10);

/// How long a last word on stderr is waited for.
const LAST_WORD: Duration = Duration::from_millis(100);

/// A console is not rotated.
const NO_LIMITS: Limits = Limits { max_size: u64::MAX, max_backups: 0 };

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
    pub(super) file: Arc<LogFile>,
    limits: Limits,
}

/// The settings, the console, and the count of what was lost.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) live: Live<Settings>,
    /// Where the layer is installed: it may be the subscriber of some threads only.
    dispatch: OnceLock<WeakDispatch>,
    files: Arc<Files>,
    desk: Arc<Desk>,
    console: Stream<Console>,
    console_is_terminal: bool,
    /// Begun when something has to be told there.
    stderr: OnceLock<Option<Stream<Console>>>,
}

// === impl Settings ===

impl Settings {
    fn new(section: Arc<LoggingSection>, file: Option<LogFile>) -> Arc<Self> {
        let limits = Limits { max_size: section.file.max_size, max_backups: section.file.max_backups };
        let filter = Filter::new(section.level, &section.targets);
        let file = file.map(|file| FileOutput { file: Arc::new(file), limits });
        Arc::new(Self { section, filter, file })
    }
}

// === impl Outputs ===

impl Outputs {
    /// Outputs as the section says, with `console` for stdout. Blocks to open the file.
    pub(super) fn new(section: &LoggingSection, console: File) -> Result<Arc<Self>, LogFileError> {
        let (files, desk) = (Arc::default(), Arc::default());
        let file = match opening(section, &files, &desk)? {
            Some(opening) => Some(opening.blocking_within(START_WITHIN)?),
            None => None,
        };
        let console_is_terminal = console.is_terminal();
        let console = Stream::start(Console::new(console), Arc::clone(&desk), Place::Console)
            .map_err(|source| LogFileError { path: "stdout".into(), source })?;
        let outputs = Arc::new(Self {
            live: Live::new(Settings::new(Arc::new(section.clone()), file)),
            dispatch: OnceLock::new(),
            files,
            desk,
            console,
            console_is_terminal,
            stderr: OnceLock::new(),
        });
        outputs.desk.open(Arc::downgrade(&outputs));
        Ok(outputs)
    }

    /// Settings that are ready to be swapped in, when their file is open; a disk that does not answer in time is not waited for. Dropped,
    /// they leave nothing.
    pub(super) async fn prepare(
        &self,
        section: Arc<LoggingSection>,
        patience: Duration,
    ) -> Result<Arc<Settings>, LogFileError> {
        let file = match opening(&section, &self.files, &self.desk)? {
            Some(opening) => Some(opening.within(patience).await?),
            None => None,
        };
        Ok(Settings::new(section, file))
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
        self.desk.lost()
    }

    /// Waits until the lines that were put in are written: see [`Queue::flush`].
    pub(super) fn flush(&self, by: Instant, is_last: bool) -> bool {
        // A file that fails is told of on the console, and a console in the file.
        let flushed = self.files.flush(by, is_last) & self.console.queue().flush(by, is_last);
        let told = self.files.flush(by, is_last);
        let stderr = self.stderr.get().and_then(Option::as_ref);
        stderr.is_none_or(|stderr| stderr.queue().flush(by, is_last)) && flushed && told
    }

    /// Puts a line in for every output of these settings; a burst may wait a moment for each (see [`Queue::push`]). An output that fails is told of on the other one.
    pub(super) fn write(&self, settings: &Settings, line: &Line) {
        if settings.section.console {
            self.print(&settings.section, line);
        }
        if let Some(FileOutput { file, limits }) = &settings.file {
            let place = || Place::File(file.path().into());
            self.put(file.queue(), line.as_bytes(), *limits, place);
        }
    }

    /// Tells of an output in another place. Waits for nothing.
    pub(super) fn tell(&self, place: &Place, notice: &Line) {
        let settings = self.live.load();
        match (place, &settings.file) {
            (Place::Stderr, _) => {}
            (Place::File(_), _) if settings.section.console => {
                self.put_notice(self.console.queue(), notice, NO_LIMITS)
            }
            (Place::Console, Some(output)) => self.put_notice(output.file.queue(), notice, output.limits),
            // The last place that is left; if it is closed too, the count still tells.
            (Place::Console | Place::File(_), _) => match self.stderr() {
                Some(stderr) => self.put_notice(stderr.queue(), notice, NO_LIMITS),
                None => self.desk.count(false),
            },
        }
    }

    fn print(&self, section: &LoggingSection, line: &Line) {
        let coloured;
        let bytes = if is_coloured(section, self.console_is_terminal) {
            coloured = line.coloured();
            coloured.as_bytes()
        } else {
            line.as_bytes()
        };
        self.put(self.console.queue(), bytes, NO_LIMITS, || Place::Console);
    }

    fn put<T>(&self, queue: &Queue<T>, line: &[u8], limits: Limits, place: impl FnOnce() -> Place) {
        let (taken, note) = queue.push(line, limits);
        self.desk.count(taken);
        match note {
            None => {}
            // Told where it was missing.
            Some(note @ Note::Recovered(lost)) => {
                let notice = self.desk.notice(&place(), &note);
                let (taken, _) = queue.try_push(notice.as_bytes(), limits);
                self.desk.count(taken);
                if !taken {
                    queue.owe(lost);
                }
            }
            Some(note) => self.desk.tell(&place(), &note),
        }
    }

    /// What becomes of a notice is not told in its turn. It may come from the thread of another output, which must not wait for this one.
    fn put_notice<T>(&self, queue: &Queue<T>, notice: &Line, limits: Limits) {
        let (taken, note) = queue.try_push(notice.as_bytes(), limits);
        self.desk.count(taken);
        if let Some(Note::Recovered(lost)) = note {
            queue.owe(lost);
        }
    }

    fn stderr(&self) -> Option<&Stream<Console>> {
        let start = || {
            let file = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
            Stream::start(Console::new(file), Arc::clone(&self.desk), Place::Stderr).ok()
        };
        self.stderr.get_or_init(start).as_ref()
    }
}

/// Begins to open the file that the section names, if it names one.
fn opening(
    section: &LoggingSection,
    files: &Arc<Files>,
    desk: &Arc<Desk>,
) -> Result<Option<Opening>, LogFileError> {
    section.file.in_use().map(|path| files.open(path, desk)).transpose()
}

/// Writes to stderr if somebody reads it: for threads that must not wait. Whether it was written.
pub fn complain(bytes: &[u8]) -> bool {
    let bytes = bytes.to_vec();
    let (done, written) = mpsc::sync_channel(1);
    // It may be a file on a disk that does not answer.
    let write = move || {
        // Nobody waits any more if it comes late.
        let _ = done.send(write_within(io::stderr(), &bytes, Duration::ZERO).is_ok());
    };
    thread::Builder::new().spawn(write).is_ok() && written.recv_timeout(LAST_WORD).unwrap_or(false)
}

/// Colour is for people who look at a terminal (contract: nothing is printed in colour to a pipe).
fn is_coloured(section: &LoggingSection, is_terminal: bool) -> bool {
    section.color && is_terminal && section.format == LogFormat::Text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::is_coloured;
    use crate::config::logging::{Level, LogFile, LogFormat, LoggingSection};
    use crate::logging::line::Line;

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
