//! A transactional hot reload across actors.
//!
//! A program that uses this crate never restarts to change its mind. Its parts are actors that each own a section of the
//! configuration and handle one [`Reconfigure`] message. A [`Coordinator`](coordinator::Coordinator) reads the new configuration, compares it
//! with the one that runs, and sends the sections that changed, and only those, to the actors that own them: every one
//! *prepares* before any *commits*, in the order of their dependencies, inside one time budget. If anything refuses, fails,
//! panics or hangs, all of them are back on the configuration before when the budget ends.
//!
//! The crate knows nothing of the program: what a configuration is, where it is read from and where its history is kept
//! are traits ([`source::Configuration`], [`source::Source`], [`history::Recorder`]).

pub mod component;
pub mod error;
mod fault;
pub mod fence;
pub mod generation;
pub mod link;
pub mod live;
pub mod redact;

pub use component::{Ack, Books, Reconfigurable, Reconfigure, Step, StepFuture, StepKind, done, reconfigure};
pub use error::{Class, Problem, StepError};
pub use generation::{Generation, Transaction};
pub use link::Link;
pub use live::{Live, LiveWriter, Retired};
pub use redact::Secret;
