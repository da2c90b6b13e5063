//! The network actor and the protocol actor of a federation node.
//!
//! The [`network`] actor owns the libp2p swarm: listeners, dials, limits, membership. The [`protocol`] actor puts into
//! force what is configured of the protocols. They share a [`Post`], through which [`Messages`] reach the connections without passing
//! an actor's mailbox, [`Services`], whose streams do not pass one either, and a [`View`], which anybody may read at any time.

mod address;
mod crossed;
mod denial;
mod dialer;
pub mod direct;
#[cfg(test)]
mod documented;
pub mod exchange;
mod farewell;
pub mod figures;
#[cfg(test)]
mod fixtures;
pub mod goodbye;
pub mod handover;
mod holding;
mod home;
mod host;
mod hush;
pub mod identity;
mod inbox;
mod limits;
pub mod listeners;
mod membership;
pub mod messages;
mod muxer;
pub mod network;
mod outbox;
mod parting;
mod ping;
pub mod pool;
pub mod post;
pub mod probe;
pub mod protocol;
mod quic;
pub mod reserve;
mod resolver;
pub mod section;
pub mod services;
mod timed;
pub mod topics;
pub mod view;
pub mod wire;

use reload::fault::Point;

pub use address::{Endpoint, Transport};
pub use denial::Reason;
pub use exchange::{Known, KnownPeer};
pub use identity::{Identity, IdentityError, ReadIdentity};
pub use inbox::{INBOX_BYTES, INBOX_MESSAGES, Received, Subscription};
pub use listeners::{Held, Reservation, ReserveError, Standing, probe};
pub use membership::would_close;
pub use messages::Messages;
pub use network::{Network, Shutdown, StartError, StartNetwork};
pub use outbox::SendError;
pub use post::{Post, Settings};
pub use probe::{Probe, Unreachable};
pub use protocol::Protocol;
pub use section::{
    ConnectedService, ExposedService, Limits, Membership, NetworkSection, ProtocolSection, RateLimit,
};
pub use services::{Metered, Removed, Services};
pub use topics::{Ended, PublishError, TopicMessage, TopicSubscription, Topics};
pub use view::{
    ConnectionView, Counted, Direction, FailingListener, Happening, Happenings, Heard, MemberState,
    MemberView, View,
};

/// The fault points of this crate.
pub const POINTS: &[Point] = &[
    Point::io("listener::reserve"),
    Point::io("listener::open"),
    Point::pass("listener::close"),
    Point::io("workers::start"),
];
