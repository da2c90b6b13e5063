//! Gossipsub's handler, with a bound of its own for each connection on what one frame may be.
//!
//! Gossipsub gathers a frame in memory before it looks at it, and freezes the largest for all peers when it is built. A member is
//! taken at its word: `protocol.max_message_size` may grow while it is connected. A stranger may make this node hold only as much
//! as was configured when it came.

use std::task::{Context, Poll};

use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, NetworkBehaviour, SubstreamProtocol};

use super::terms::Gossipsub;

type Inner = <Gossipsub as NetworkBehaviour>::ConnectionHandler;
/// How gossipsub takes a stream over that a peer has opened.
pub(super) type Inbound = <Inner as ConnectionHandler>::InboundProtocol;

/// See the module.
pub(crate) struct Handler {
    inner: Inner,
    /// In the place of gossipsub's own.
    inbound: Option<Inbound>,
}

// === impl Handler ===

impl Handler {
    pub(super) fn new(inner: Inner, inbound: Option<Inbound>) -> Self {
        Self { inner, inbound }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = <Inner as ConnectionHandler>::FromBehaviour;
    type ToBehaviour = <Inner as ConnectionHandler>::ToBehaviour;
    type InboundProtocol = Inbound;
    type OutboundProtocol = <Inner as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let own = self.inner.listen_protocol();
        match &self.inbound {
            // A handler that was disabled goes on to refuse.
            Some(inbound) if own.upgrade().is_left() => SubstreamProtocol::new(inbound.clone(), ()),
            _ => own,
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        self.inner.poll(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        self.inner.on_connection_event(event);
    }
}
