//! One connection's part in services: it opens streams for calls that wait for its peer, and serves those that the peer opens.
//!
//! Each stream is a task of its own on the workers of the connection: the sockets belong to the runtime that drives them, and
//! one that is busy holds up neither the connection nor another. They end with the connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connected::{self, Asked};
use super::line::{Line, Taken};
use super::wire::PROTOCOL;
use super::{Caller, Services, exposed};

/// How many streams of services a connection may have in each direction, so that the muxer's allowance (of 256, or 32 for a
/// peer that was a stranger when it connected) leaves room for the other protocols: beyond it, the connection would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places(usize);

/// So many calls of a connection may be without an answer at a time. The peer may allow fewer streams than this node does (it may
/// have taken this node for a stranger when it connected): what it refuses is heard before more are opened than it bears.
const UNANSWERED: usize = 12;
/// So many streams more than places are told that there are too many; those beyond are reset.
const REFUSALS: usize = 8;

/// See the module.
pub(crate) struct Handler {
    caller: Caller,
    services: Services,
    line: Arc<Line>,
    places: Places,
    /// For streams that this side opens.
    outbound: Arc<Semaphore>,
    unanswered: Arc<Semaphore>,
    /// The next call that there is a place for.
    next: BoxFuture<'static, Asked>,
    carried: JoinSet<()>,
    served: JoinSet<()>,
}

/// Streams of services of a QUIC connection, each way.
pub(crate) const OVER_QUIC: usize = 32;

// === impl Places ===

impl Places {
    /// For a member: 96 each way of 256 streams.
    pub(super) const MEMBER: Self = Self(96);
    /// For a member over QUIC, where all streams share one window and nothing is held back from a stream whose reader stands still.
    pub(super) const MEMBER_OVER_QUIC: Self = Self(OVER_QUIC);
    /// For a peer that connected as a stranger, and may be a member meanwhile: 4 each way of 32 streams.
    pub(super) const STRANGER: Self = Self(4);
}

// === impl Handler ===

impl Handler {
    /// For a connection that takes no calls for the length of the pause.
    pub(super) fn new(caller: Caller, services: Services, places: Places, pause: Duration) -> Self {
        let line = services.line(caller.peer);
        let outbound = Arc::new(Semaphore::new(places.0));
        let unanswered = Arc::new(Semaphore::new(UNANSWERED.min(places.0)));
        let first = next(Arc::clone(&line), Arc::clone(&outbound), Arc::clone(&unanswered));
        let next = async move {
            // Of two connections that crossed, the other may be the one that stays: nobody tells when none came.
            tokio::time::sleep(pause).await;
            first.await
        }
        .boxed();
        let (carried, served) = (JoinSet::new(), JoinSet::new());
        Self { caller, services, line, places, outbound, unanswered, next, carried, served }
    }

    /// No stream could be opened. What may still wait goes back into the line; where the peer does not speak the protocol, no
    /// waiting helps.
    fn opening_failed(&mut self, asked: Asked, error: &StreamUpgradeError<Infallible>) {
        let Asked { taken, .. } = asked;
        let is_deaf = matches!(error, StreamUpgradeError::NegotiationFailed);
        if !is_deaf && taken.may_return() {
            return;
        }
        let why = if is_deaf {
            "the member does not speak the protocol of services"
        } else {
            "no stream could be opened"
        };
        self.turn_away(taken, why);
    }

    fn turn_away(&mut self, taken: Taken, why: &'static str) {
        if let Some(call) = taken.keep() {
            let services = self.services.clone();
            self.carried.spawn(async move { connected::turn_away(call, why, &services).await });
        }
    }
}

fn next(line: Arc<Line>, outbound: Arc<Semaphore>, unanswered: Arc<Semaphore>) -> BoxFuture<'static, Asked> {
    async move {
        let (Ok(place), Ok(unanswered)) = (outbound.acquire_owned().await, unanswered.acquire_owned().await)
        else {
            // Nobody closes them.
            return std::future::pending().await;
        };
        Asked { taken: line.next().await, unanswered, place }
    }
    .boxed()
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Box<Asked>;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if self.served.len() < self.places.0 + REFUSALS =>
            {
                let has_room = self.served.len() < self.places.0;
                let (caller, services) = (self.caller, self.services.clone());
                self.served.spawn(exposed::serve(protocol, caller, services, has_room));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                let (caller, services) = (self.caller, self.services.clone());
                self.carried.spawn(connected::carry(protocol, *info, caller, services));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening_failed(*info, &error);
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        for streams in [&mut self.carried, &mut self.served] {
            while let Poll::Ready(Some(ended)) = streams.poll_join_next(cx) {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, peer_id = %self.caller.peer, "a service's stream ended by a bug");
                }
            }
        }
        self.next.poll_unpin(cx).map(|asked| {
            self.next =
                next(Arc::clone(&self.line), Arc::clone(&self.outbound), Arc::clone(&self.unanswered));
            ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), Box::new(asked)),
            }
        })
    }
}
