//! A transactional hot reload across actors.
//!
//! A program that uses this crate never restarts to change its mind. Its parts are actors that each own a section of the
//! configuration and handle one [`Reconfigure`] message. A [`Coordinator`] reads the new configuration, compares it
//! with the one that runs, and sends the sections that changed, and only those, to the actors that own them: every one
//! *prepares* before any *commits*, in the order of their dependencies, inside one time budget. If anything refuses, fails,
//! panics or hangs, all of them are back on the configuration before when the budget ends.
//!
//! The crate knows nothing of the program: what a configuration is, where it is read from and where its history is kept
//! are traits ([`source::Configuration`], [`source::Source`], [`history::Recorder`]).

pub mod board;
pub mod budget;
pub mod component;
pub mod coordinator;
pub mod error;
pub mod events;
pub mod fault;
pub mod fence;
pub mod generation;
pub mod graph;
pub mod handle;
pub mod history;
pub mod link;
pub mod live;
pub mod machine;
pub mod outcome;
pub mod plan;
pub mod redact;
#[cfg(unix)]
pub mod signal;
pub mod source;
pub mod trigger;

pub use board::{Board, InFlight, Snapshot};
pub use component::{
    Ack, Books, Reconfigurable, Reconfigure, Step, StepFuture, StepKind, Tenure, done, reconfigure,
};
pub use coordinator::{Coordinator, Parts};
pub use error::{Class, Problem, StepError};
pub use generation::{Generation, Transaction};
pub use handle::{ActorComponent, Component};
pub use history::{ConfirmChange, Record, Recorded, Recorder, Unconfirmed};
pub use link::Link;
pub use live::{Live, LiveWriter, Retired};
pub use outcome::Outcome;
pub use plan::{Change, Closing, Strategy};
pub use redact::Secret;
pub use source::{Candidate, Configuration, Rejection, Site, Source, Which};
pub use trigger::{Aim, Confirm, DryRun, Origin, Refusal, Reload, Stop, Trigger};
