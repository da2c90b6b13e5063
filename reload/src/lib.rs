#![doc = include_str!("../README.md")]
//!
//! # Where to read on
//!
//! [`machine`] is the heart, a pure function from a state and an event to the next state and what is to be done;
//! [`coordinator`] performs it. [`component`] and [`fence`] are the same on the actor's side, [`handle`] is what stands between.
//! [`source`] and [`history`] are what a program brings, [`outcome`], [`plan`] and [`error`] what it is told, [`board`] and
//! [`events`] what it may watch.

pub mod abandon;
pub mod arbiter;
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
pub mod signal;
pub mod source;
pub mod trigger;
pub mod watch;

pub use abandon::Abandon;
pub use arbiter::{arbiter, system};
pub use board::{Board, InFlight, Snapshot};
pub use component::{
    Ack, Books, Reconfigurable, Reconfigure, Step, StepFuture, StepKind, Tenure, done, reconfigure,
};
pub use coordinator::{Coordinator, Parts, READERS};
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
pub use trigger::{Aim, Confirm, DryRun, Origin, Pulse, Refusal, Reload, Stop, Trigger};
