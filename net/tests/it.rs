//! The two actors against real sockets: real swarms on loopback, reconfigured step by step as the coordinator does it.

#[path = "it/exchange.rs"]
mod exchange;
#[path = "it/harness.rs"]
mod harness;
#[path = "it/impostors.rs"]
mod impostors;
#[path = "it/late.rs"]
mod late;
#[path = "it/limits.rs"]
mod limits;
#[path = "it/listeners.rs"]
mod listeners;
#[path = "it/members.rs"]
mod members;
#[path = "it/messages.rs"]
mod messages;
#[path = "it/pairs.rs"]
mod pairs;
#[path = "it/quic.rs"]
mod quic;
#[path = "it/services.rs"]
mod services;
#[path = "it/services_live.rs"]
mod services_live;
#[path = "it/services_pair.rs"]
mod services_pair;
#[path = "it/threads.rs"]
mod threads;
#[path = "it/topics.rs"]
mod topics;
