//! The network actor and the protocol actor of a federation node.
//!
//! The [`network`] actor owns the libp2p swarm: listeners, dials, limits, membership. The [`protocol`] actor carries the
//! application's messages. They share a [`Post`], through which messages reach the connections without passing an actor's
//! mailbox, and a [`View`], which anybody may read at any time.

mod address;
mod crossed;
mod denial;
mod dialer;
pub mod direct;
mod farewell;
#[cfg(test)]
mod fixtures;
mod host;
mod hush;
pub mod identity;
mod inbox;
mod limits;
pub mod listeners;
mod membership;
mod muxer;
pub mod network;
mod outbox;
mod ping;
pub mod pool;
pub mod post;
pub mod protocol;
mod resolver;
pub mod section;
mod timed;
pub mod view;
pub mod wire;

use reload::fault::Point;

pub use denial::Reason;
pub use identity::{Identity, IdentityError, ReadIdentity};
pub use inbox::{INBOX_BYTES, INBOX_MESSAGES, Received, Subscription};
pub use listeners::{Reservation, ReserveError};
pub use membership::would_close;
pub use network::{Network, Shutdown, StartError, StartNetwork};
pub use outbox::SendError;
pub use post::{Post, Settings};
pub use protocol::{Protocol, Send, Subscribe};
pub use section::{
    ConnectedService, ExposedService, Limits, Membership, NetworkSection, ProtocolSection, RateLimit,
};
pub use view::{ConnectionView, Counted, Direction, MemberState, MemberView, View};

/// The fault points of this crate.
pub const POINTS: &[Point] = &[
    Point::io("listener::reserve"),
    Point::io("listener::open"),
    Point::pass("listener::close"),
    Point::io("workers::start"),
];
