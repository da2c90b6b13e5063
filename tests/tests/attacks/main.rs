//! Hostile peers, as real sockets against real processes. In each attack the members stay connected, or get in again, and a
//! stream of messages between them loses, repeats and reorders nothing; memory, descriptors and the log stay within bounds,
//! and what was taken is given back.

mod arena;
mod exchange;
mod frames;
mod handshakes;
mod namespaces;
mod partition;
mod reload;
mod storm;
mod strangers;
mod streams;
