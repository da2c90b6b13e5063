//! The federation node: what `conf.yaml` means, the actors that carry it out, and the ways to talk to them.

pub mod config;
