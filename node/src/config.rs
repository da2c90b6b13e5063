//! `conf.yaml` as checked values.

pub mod logging;

pub use logging::{Level, LogFile, LogFormat, LoggingSection};
