//! One connection's part in peer exchange: a stream on which this node asks, and one on which it answers.

use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};

use super::talk::{self, Link};
use super::wire::ExchangeError;
use super::{PROTOCOL, schedule};
use crate::View;
use crate::address::Block;
use crate::hush::{Hush, Kind};

/// See the module.
pub(crate) struct Handler {
    /// `None` for another kind of key than Ed25519: such a peer has no name here, and nothing is exchanged with it.
    link: Option<Link>,
    complaints: Complaints,
    outbound: Outbound,
    /// Streams in a row that ended without one answer.
    failures: u32,
    /// The stream that the peer asks on; a second one takes the place of the first.
    inbound: Option<BoxFuture<'static, ExchangeError>>,
}

/// What is said of a peer that breaks the rules.
#[derive(Clone, Debug)]
pub(super) struct Complaints {
    pub(super) ip: Option<IpAddr>,
    pub(super) view: View,
    pub(super) hush: Hush,
}

enum Outbound {
    /// It is not time yet.
    Waiting(BoxFuture<'static, ()>),
    Opening,
    /// Says whether anything was answered, and why the stream has ended.
    Speaking(BoxFuture<'static, (bool, ExchangeError)>),
    /// The peer does not speak the protocol.
    Off,
}

// === impl Complaints ===

impl Complaints {
    fn note(&self, link: &Link, error: &ExchangeError) {
        if !error.is_violation() {
            tracing::debug!(%error, "a stream of peer exchange ended");
            return;
        }
        self.view.counters().violation();
        if self.hush.may_say(Kind::Violation, self.ip.map(Block::of)) {
            tracing::warn!(peer_id = %link.peer.peer_id(), %error, "a peer broke the rules of peer exchange");
        }
    }
}

// === impl Handler ===

impl Handler {
    pub(super) fn new(link: Option<Link>, complaints: Complaints) -> Self {
        let outbound = link.as_ref().map_or(Outbound::Off, |link| {
            Outbound::Waiting(
                pause(link.clone(), |interval| schedule::first(interval, rand::random())).boxed(),
            )
        });
        Self { link, complaints, outbound, failures: 0, inbound: None }
    }

    fn speak(&self, stream: Stream) -> Outbound {
        let Some(link) = self.link.clone() else { return Outbound::Off };
        let talk = async move {
            let mut stream = stream;
            stream.ignore_for_keep_alive();
            let mut fruitful = false;
            let error = talk::speak(stream, link, &mut fruitful).await;
            (fruitful, error)
        };
        Outbound::Speaking(talk.boxed())
    }

    fn failed(&mut self, fruitful: bool) {
        self.failures = if fruitful { 1 } else { self.failures.saturating_add(1) };
        let failures = self.failures;
        self.outbound = self.link.clone().map_or(Outbound::Off, |link| {
            let length = move |interval| schedule::after_failures(failures, interval, rand::random::<f64>());
            Outbound::Waiting(pause(link, length).boxed())
        });
    }
}

/// Waits for a time that follows from the interval, whatever that is changed to meanwhile.
async fn pause(link: Link, length: impl Fn(Duration) -> Duration + Send) {
    let (mut settings, start) = (link.post.watch(), tokio::time::Instant::now());
    loop {
        let interval = settings.borrow_and_update().exchange_interval;
        let due = start + length(interval);
        // A sender is in the link.
        if tokio::time::timeout_at(due, settings.changed()).await.is_err() {
            return;
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
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
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { mut protocol, .. }) => {
                if let Some(link) = self.link.clone() {
                    protocol.ignore_for_keep_alive();
                    self.inbound = Some(talk::serve(protocol, link).boxed());
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.outbound = self.speak(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => match error {
                StreamUpgradeError::NegotiationFailed => self.outbound = Outbound::Off,
                _ => self.failed(false),
            },
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let (Some(inbound), Some(link)) = (&mut self.inbound, &self.link)
            && let Poll::Ready(error) = inbound.poll_unpin(cx)
        {
            self.inbound = None;
            self.complaints.note(link, &error);
        }
        loop {
            match &mut self.outbound {
                Outbound::Waiting(pause) => {
                    if pause.poll_unpin(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.outbound = Outbound::Opening;
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                        protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()),
                    });
                }
                Outbound::Speaking(speaking) => {
                    let Poll::Ready((fruitful, error)) = speaking.poll_unpin(cx) else {
                        return Poll::Pending;
                    };
                    if let Some(link) = &self.link {
                        self.complaints.note(link, &error);
                    }
                    self.failed(fruitful && !error.is_violation());
                }
                Outbound::Opening | Outbound::Off => return Poll::Pending,
            }
        }
    }
}
