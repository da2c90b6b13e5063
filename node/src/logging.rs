//! Logging: one permanent layer behind the global subscriber, and the actor that changes what it does (N10).
//!
//! Every event reads one immutable `Settings` value through an atomic pointer: filter, format and outputs together. A
//! reload swaps the value; an event in flight finishes with the one that it began with, whole. So nothing can be torn
//! between two formats or two files, and there is no lock that an event inside a swap could wait for.
//!
//! A line is put into a bounded queue per output, and a thread of the output's own writes it: a disk or a reader that does not
//! answer holds that thread up and nobody who logs (R14). Where it has to be written, it is waited for with a deadline
//! ([`LoggingHandle::flush`]): before an outcome's audit line (contract: "Order of sight"), and at the end of the process.
//!
//! Spans are switched off at their callsites: nothing here prints them, and libp2p keeps one open for a connection's life.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::config::logging::LoggingSection;

mod actor;
mod console;
mod desk;
mod files;
mod filter;
mod layer;
mod line;
mod output;
mod queue;
mod repeats;
mod rotate;
mod spare;
mod writer;

pub use actor::{Logging, Reopen};
use layer::LogLayer;
use output::Outputs;
pub use output::complain;

/// The one that is installed in this process.
static INSTALLED: OnceLock<LoggingHandle> = OnceLock::new();

/// The way to the one layer. Clones are the same.
#[derive(Clone, Debug)]
pub struct LoggingHandle(Arc<Outputs>);

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log file cannot be opened.
    #[error(transparent)]
    File(#[from] LogFileError),
    /// Stdout cannot be duplicated.
    #[error("stdout cannot be used: {0}")]
    Stdout(#[source] io::Error),
    /// A subscriber is installed already.
    #[error("logging was begun twice in one process")]
    Twice,
}

/// Why a log file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot open the log file: {source}", path.display())]
pub struct LogFileError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Installs the global subscriber. Once per process, before the first event that matters; blocks to open the log file.
///
/// # Errors
/// If the log file cannot be opened, or a subscriber is installed already.
pub fn init(section: &LoggingSection) -> Result<LoggingHandle, InitError> {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(InitError::Stdout)?;
    let (handle, subscriber) = detached(section, File::from(stdout))?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::Twice)?;
    // Once: a second subscriber is refused.
    let _ = INSTALLED.set(handle.clone());
    Ok(handle)
}

/// The subscriber of [`init`] without installing it, with another file in place of stdout: for a test, which runs beside
/// others in one process, and for a program that has a subscriber of its own to combine it with.
///
/// # Errors
/// If the log file cannot be opened.
pub fn detached(
    section: &LoggingSection,
    console: File,
) -> Result<(LoggingHandle, impl Subscriber + Send + Sync + use<>), LogFileError> {
    let outputs = Outputs::new(section, console)?;
    let layer = LogLayer::new(Arc::clone(&outputs));
    Ok((LoggingHandle(outputs), tracing_subscriber::registry().with(layer)))
}

/// Before the process ends: gives the lines that wait so long to be written, also where the disk has not answered for a while.
pub fn farewell(within: Duration) {
    if let Some(LoggingHandle(outputs)) = INSTALLED.get()
        && !outputs.flush(Instant::now() + within, true)
    {
        complain(
            b"the last lines of the log could not be written: what they are written to does not answer\n",
        );
    }
}

// === impl LoggingHandle ===

impl LoggingHandle {
    /// How many lines could not be written since the start, in all outputs together. A full disk costs lines, never the
    /// node.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.0.lost_lines()
    }

    /// Waits until every line so far is written, or lost and counted, for so long at most. Whether it is so. Where the last wait for an
    /// output was in vain and nothing has moved since, it is not waited for again.
    pub fn flush(&self, within: Duration) -> bool {
        self.0.flush(Instant::now() + within, false)
    }
}

#[cfg(test)]
mod tests;
