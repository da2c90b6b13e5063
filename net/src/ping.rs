//! Is the peer still there? The libp2p ping protocol, `/ipfs/ping/1.0.0` (libp2p specs, "ping"): 32 bytes, echoed.
//!
//! Own handler because libp2p's has a frozen interval and never closes a connection (N4). A new interval counts at once,
//! and two pings missed in a row close the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::watch;

use crate::parting::{Parting, Why};
use crate::post::{Post, Settings};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
const SIZE: usize = 32;
/// So many in a row: one may be lost to a pause of the peer's machine.
const MISSED: u32 = 2;
/// A pong may take as long as the interval, but within these bounds.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// The behaviour: closes connections whose handler found the peer gone.
#[derive(Debug)]
pub(crate) struct Ping {
    post: Post,
    /// At most two for each connection: to say why, and to close.
    due: VecDeque<ToSwarm<Parting, Infallible>>,
}

/// The peer does not answer.
#[derive(Debug)]
pub(crate) struct Dead;

/// Pings one connection, and answers its pings.
pub(crate) struct Handler {
    settings: watch::Receiver<Settings>,
    outbound: Outbound,
    missed: u32,
    inbound: Option<BoxFuture<'static, ()>>,
}

enum Outbound {
    /// Waits to open a stream.
    Waiting(BoxFuture<'static, ()>),
    Opening,
    Pinging(BoxFuture<'static, Ended>),
    /// The peer does not speak ping, or is dead already.
    Off,
}

/// How the pings on one stream came to an end.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// The peer closed the stream, on which it had answered every ping before.
    Closed,
    /// A ping was not answered.
    Missed { answered_before: bool },
}

// === impl Ping ===

impl Ping {
    pub(crate) fn new(post: Post) -> Self {
        Self { post, due: VecDeque::new() }
    }
}

impl NetworkBehaviour for Ping {
    type ConnectionHandler = Handler;
    type ToSwarm = Parting;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.post.watch()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.post.watch()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        _: THandlerOutEvent<Self>,
    ) {
        tracing::info!(peer_id = %peer, "peer does not answer pings, closing its connection");
        self.due.push_back(ToSwarm::GenerateEvent(Parting { connection, why: Why::Silent }));
        let connection = CloseConnection::One(connection);
        self.due.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.due.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

// === impl Handler ===

impl Handler {
    fn new(settings: watch::Receiver<Settings>) -> Self {
        let first = interval(settings.clone()).boxed();
        Self { settings, outbound: Outbound::Waiting(first), missed: 0, inbound: None }
    }

    fn open(&mut self) -> ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, (), Dead> {
        self.outbound = Outbound::Opening;
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
        ConnectionHandlerEvent::OutboundSubstreamRequest {
            protocol: protocol.with_timeout(patience(&self.settings)),
        }
    }

    fn miss(&mut self, answered_before: bool) -> Option<Dead> {
        self.missed = if answered_before { 1 } else { self.missed.saturating_add(1) };
        if self.missed >= MISSED {
            self.outbound = Outbound::Off;
            return Some(Dead);
        }
        self.outbound = Outbound::Waiting(interval(self.settings.clone()).boxed());
        None
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Dead;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                // One at a time; a peer that opens another has given the first up.
                self.inbound = Some(answer(protocol).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.outbound = Outbound::Pinging(ping(protocol, self.settings.clone()).boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.outbound = match error {
                    StreamUpgradeError::NegotiationFailed => Outbound::Off,
                    // As a ping that was missed; counted where it can be reported.
                    _ => Outbound::Pinging(
                        futures::future::ready(Ended::Missed { answered_before: false }).boxed(),
                    ),
                };
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(inbound) = &mut self.inbound
            && inbound.poll_unpin(cx).is_ready()
        {
            self.inbound = None;
        }
        loop {
            match &mut self.outbound {
                Outbound::Waiting(pause) => {
                    if pause.poll_unpin(cx).is_pending() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(self.open());
                }
                Outbound::Pinging(pinging) => {
                    let Poll::Ready(ended) = pinging.poll_unpin(cx) else { return Poll::Pending };
                    match ended {
                        // Its right: js-libp2p does so ten seconds after the stream was opened, py-libp2p after ten quiet
                        // ones. The ping that is due goes out on a new stream.
                        Ended::Closed => {
                            self.missed = 0;
                            return Poll::Ready(self.open());
                        }
                        Ended::Missed { answered_before } => {
                            if let Some(dead) = self.miss(answered_before) {
                                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(dead));
                            }
                        }
                    }
                }
                Outbound::Opening | Outbound::Off => return Poll::Pending,
            }
        }
    }
}

fn patience(settings: &watch::Receiver<Settings>) -> Duration {
    settings.borrow().ping_interval.clamp(PATIENCE.0, PATIENCE.1)
}

/// Waits for one interval, counted from now, whatever it is changed to meanwhile.
async fn interval(mut settings: watch::Receiver<Settings>) {
    let start = tokio::time::Instant::now();
    loop {
        let due = start + settings.borrow_and_update().ping_interval;
        match tokio::time::timeout_at(due, settings.changed()).await {
            Ok(Ok(())) => {}
            // The post office is gone with its node; this connection is about to go, too. Until it does, the interval holds.
            Ok(Err(_)) => return tokio::time::sleep_until(due).await,
            Err(_due) => return,
        }
    }
}

/// Pings until one is not answered. Before each ping but the first lies an interval, also where the peer closes the stream.
async fn ping(mut stream: Stream, settings: watch::Receiver<Settings>) -> Ended {
    stream.ignore_for_keep_alive();
    let mut answered = false;
    loop {
        let sent: [u8; SIZE] = rand::random();
        let echo = async {
            stream.write_all(&sent).await?;
            stream.flush().await?;
            let mut back = [0; SIZE];
            stream.read_exact(&mut back).await?;
            Ok::<_, std::io::Error>(back == sent)
        };
        match tokio::time::timeout(patience(&settings), echo).await {
            Ok(Ok(true)) => answered = true,
            Ok(Err(_closed)) if answered => return Ended::Closed,
            Ok(Ok(false) | Err(_)) | Err(_) => return Ended::Missed { answered_before: answered },
        }
        interval(settings.clone()).await;
    }
}

async fn answer(mut stream: Stream) {
    stream.ignore_for_keep_alive();
    let mut ping = [0; SIZE];
    while stream.read_exact(&mut ping).await.is_ok() {
        if stream.write_all(&ping).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
