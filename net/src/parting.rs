//! Why this node closes a connection, for its log and for `status`: the connection itself says nothing of what its own end wants.

use std::fmt;

use libp2p::swarm::ConnectionId;

use crate::goodbye;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The peer is told so.
    Said(goodbye::Reason),
    /// Another connection to the same member takes its place.
    Crossed,
    /// The peer does not answer pings.
    Silent,
}

/// A behaviour is about to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parting {
    pub(crate) connection: ConnectionId,
    pub(crate) why: Why,
}

// === impl Why ===

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Said(reason) => reason.said(),
            Self::Crossed => "another connection to this member takes its place",
            Self::Silent => "the peer did not answer two pings in a row",
        })
    }
}
