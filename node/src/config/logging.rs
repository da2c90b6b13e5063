//! The section of the logging actor (N10), as checked values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What the logging actor is configured by: the section `logging`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingSection {
    /// The least severe events that are written.
    pub level: Level,
    /// The level of single modules (`libp2p_swarm`), where it differs.
    pub targets: BTreeMap<String, Level>,
    /// How an event becomes a line.
    pub format: LogFormat,
    /// Whether lines go to stdout.
    pub console: bool,
    /// Whether lines of format `text` are coloured on a terminal.
    pub color: bool,
    /// The file that lines go to, or would.
    pub file: LogFile,
}

/// How severe an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What an operator has to look at.
    Error,
}

/// How an event becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// For people.
    Text,
}

/// A log file that is rotated to `NAME.1`, `NAME.2`, … by its size. Kept whole while it is switched off: what is written
/// in `conf.yaml` counts as configuration either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Whether lines go to it; [`LogFile::in_use`] is what to go by.
    pub output: bool,
    /// Where it is; always there where `output` is true.
    pub path: Option<PathBuf>,
    /// The size in bytes from which it is rotated.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub max_backups: u32,
}

// === impl LoggingSection ===

impl LoggingSection {
    /// What is left where nothing else works (R15): the console.
    #[must_use]
    pub fn console_only(&self) -> Self {
        Self { console: true, file: LogFile { output: false, ..self.file.clone() }, ..self.clone() }
    }
}

// === impl Level ===

impl Level {
    /// Every level under its name in `conf.yaml`.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("debug", Self::Debug), ("info", Self::Info), ("warn", Self::Warn), ("error", Self::Error)];

    /// The name in `conf.yaml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl LogFile ===

impl LogFile {
    /// A file that lines go to.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>, max_size: u64, max_backups: u32) -> Self {
        Self { output: true, path: Some(path.into()), max_size, max_backups }
    }

    /// Where lines go; `None` while it is switched off.
    #[must_use]
    pub fn in_use(&self) -> Option<&Path> {
        self.path.as_deref().filter(|_| self.output)
    }
}

impl Default for LogFile {
    /// Switched off, with the contract's limits.
    fn default() -> Self {
        Self { output: false, path: None, max_size: 10_000_000, max_backups: 5 }
    }
}

// === impl LogFormat ===

impl LogFormat {
    /// Every format under its name in `conf.yaml`.
    pub const NAMES: &'static [(&'static str, Self)] = &[("json", Self::Json), ("text", Self::Text)];

    /// The name in `conf.yaml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
