//! Why a connection ends: `/fednode/goodbye/1.0.0`, one byte (N6).
//!
//! Whoever closes a connection on purpose opens a stream, writes the byte and waits until the other side has closed the stream:
//! then it was heard. A peer that does not speak the protocol, or does not listen, is closed all the same. One byte and no
//! text: what a peer sends here ends in another's log.

mod handler;

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    StreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use handler::{Handler, Told};

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/fednode/goodbye/1.0.0");

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The peer was removed from the members.
    Removed,
    /// Only members may connect from now on, and the peer is none.
    NotAMember,
    /// The node stops.
    Stopping,
    /// One that this version does not know.
    Other(u8),
}

/// What the peer said before it closed the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) connection: ConnectionId,
    pub(crate) reason: Reason,
}

/// Says why, then closes.
#[derive(Debug, Default)]
pub(crate) struct Goodbye {
    /// At most two for each connection: to say it, and to close.
    due: VecDeque<ToSwarm<Heard, Reason>>,
}

// === impl Reason ===

impl Reason {
    /// As it goes over the wire.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Removed => 1,
            Self::NotAMember => 2,
            Self::Stopping => 3,
            Self::Other(byte) => byte,
        }
    }

    /// What the byte says.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Removed,
            2 => Self::NotAMember,
            3 => Self::Stopping,
            other => Self::Other(other),
        }
    }

    /// As the one who says it tells.
    pub(crate) const fn said(self) -> &'static str {
        match self {
            Self::Removed => "the peer is removed from the members",
            Self::NotAMember => "only members may connect",
            Self::Stopping => "this node stops",
            Self::Other(_) => "this node closed it",
        }
    }
}

/// As the one who hears it tells.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("the peer has removed this node from its members"),
            Self::NotAMember => {
                f.write_str("the peer lets only members connect, and this node is none of them")
            }
            Self::Stopping => f.write_str("the peer's node stops"),
            Self::Other(byte) => {
                write!(f, "the peer closed the connection, for a reason unknown here ({byte})")
            }
        }
    }
}

// === impl Goodbye ===

impl Goodbye {
    /// Says why to the peer at the other end, and closes the connection when it was heard, or within [`handler::GRACE`].
    pub(crate) fn close(&mut self, peer_id: PeerId, connection: ConnectionId, reason: Reason) {
        let handler = NotifyHandler::One(connection);
        self.due.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: reason });
    }
}

impl NetworkBehaviour for Goodbye {
    type ConnectionHandler = Handler;
    type ToSwarm = Heard;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection: ConnectionId,
        told: THandlerOutEvent<Self>,
    ) {
        self.due.push_back(match told {
            Told::Said => ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) },
            Told::Heard(reason) => ToSwarm::GenerateEvent(Heard { connection, reason }),
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.due.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_same_on_both_ends() {
        for byte in 0..=u8::MAX {
            assert_eq!(Reason::from_byte(byte).to_byte(), byte);
        }
        assert_eq!(Reason::from_byte(9), Reason::Other(9));
    }
}
