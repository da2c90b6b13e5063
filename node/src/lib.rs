//! A federation node that never restarts to change its mind.
//!
//! [`cli::main`] is the program. [`node::Node`] puts the actors together; [`config`] says what they run on; [`admin`] is how a
//! person or a program asks.

pub mod admin;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod diff;
pub mod engine;
pub mod faults;
pub mod history;
pub mod jwt;
mod known;
pub mod limits;
mod lingering;
pub mod logging;
mod memory;
pub mod metrics;
pub mod node;
pub mod notify;
mod plural;
pub mod reloads;
pub mod start_from;
mod startup;
mod watching;
