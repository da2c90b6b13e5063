//! Services between real processes: a local TCP service of one node is used at a local port of another, while both are changed.

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]

mod hostile;
mod live;
mod program;
mod refusals;
mod scene;
mod stopping;
mod transfer;
