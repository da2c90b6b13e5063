//! One connection's part in direct messages: it sends what the peer's outbox holds, and takes in what the peer sends.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};
use libp2p::{PeerId, Stream};
use storage::PeerKey;

use super::PROTOCOL;
use crate::View;
use crate::address::Block;
use crate::hush::{Hush, Kind};
use crate::inbox::Origin;
use crate::outbox::{Lease, Outbox, SendError};
use crate::post::Post;
use crate::wire::{self, Frame, Status, WireError};

/// After so many streams that ended without one answer, the messages in line are given up.
const FRUITLESS_STREAMS: u32 = 3;

/// What is said of a peer that breaks the rules, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Complaints {
    pub(super) peer: PeerId,
    pub(super) ip: Option<IpAddr>,
    pub(super) view: View,
    pub(super) hush: Hush,
}

/// See the module.
pub(crate) struct Handler {
    /// `None` for another kind of key than Ed25519: such a peer has no name outside libp2p. It may connect, but not write.
    from: Option<PeerKey>,
    outbox: Arc<Outbox>,
    post: Post,
    complaints: Complaints,
    outbound: Outbound,
    fruitless: u32,
    /// The stream that the peer sends on; a second one takes the place of the first.
    inbound: Option<BoxFuture<'static, WireError>>,
}

enum Outbound {
    /// Waits for something to send.
    Idle(BoxFuture<'static, Lease>),
    /// Has the lease, waits for the stream.
    Opening(Lease),
    /// Sends. Says whether anything was answered when the stream has ended.
    Sending(BoxFuture<'static, Ended>),
    /// The peer does not speak the protocol: whatever is put in line is refused.
    Unsupported(BoxFuture<'static, Lease>),
}

struct Ended {
    lease: Lease,
    fruitful: bool,
    error: WireError,
}

// === impl Complaints ===

impl Complaints {
    /// A stream that ended is nothing; one that broke the rules is counted.
    fn note(&self, error: &WireError) {
        match error {
            WireError::Io(error) => tracing::debug!(%error, "a stream of direct messages ended"),
            other => {
                self.view.counters().violation();
                if self.hush.may_say(Kind::Violation, self.ip.map(Block::of)) {
                    tracing::warn!(
                        peer_id = %self.peer, error = %other,
                        "a peer broke the rules of direct messages"
                    );
                }
            }
        }
    }
}

// === impl Handler ===

impl Handler {
    pub(super) fn new(outbox: Arc<Outbox>, post: Post, complaints: Complaints) -> Self {
        let outbound = Outbound::Idle(Arc::clone(&outbox).lease().boxed());
        let from = PeerKey::from_peer_id(&complaints.peer).ok();
        Self { from, outbox, post, complaints, outbound, fruitless: 0, inbound: None }
    }

    fn lease(&self) -> BoxFuture<'static, Lease> {
        Arc::clone(&self.outbox).lease().boxed()
    }

    fn stream_failed(&mut self, lease: &Lease, fruitful: bool) {
        self.fruitless = if fruitful { 0 } else { self.fruitless.saturating_add(1) };
        if self.fruitless >= FRUITLESS_STREAMS {
            self.fruitless = 0;
            lease.refuse_all(SendError::Unsupported);
        }
    }

    fn begin(&mut self, stream: Stream) {
        let idle = Outbound::Idle(self.lease());
        self.outbound = match std::mem::replace(&mut self.outbound, idle) {
            Outbound::Opening(lease) => Outbound::Sending(
                send(stream, lease, self.post.clone(), self.complaints.view.clone()).boxed(),
            ),
            other => other,
        };
    }

    fn opening_failed(&mut self, error: &StreamUpgradeError<Infallible>) {
        let idle = Outbound::Idle(self.lease());
        let Outbound::Opening(lease) = std::mem::replace(&mut self.outbound, idle) else { return };
        if matches!(error, StreamUpgradeError::NegotiationFailed) {
            lease.refuse_all(SendError::Unsupported);
            self.outbound = Outbound::Unsupported(self.lease());
        } else {
            self.stream_failed(&lease, false);
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
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                if let Some(from) = self.from {
                    self.inbound = Some(
                        receive(protocol, from, self.post.clone(), self.complaints.view.clone()).boxed(),
                    );
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.begin(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => self.opening_failed(&error),
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(inbound) = &mut self.inbound
            && let Poll::Ready(error) = inbound.poll_unpin(cx)
        {
            self.inbound = None;
            self.complaints.note(&error);
        }
        loop {
            match &mut self.outbound {
                Outbound::Idle(lease) => {
                    let Poll::Ready(lease) = lease.poll_unpin(cx) else { return Poll::Pending };
                    self.outbound = Outbound::Opening(lease);
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                        protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ()),
                    });
                }
                Outbound::Opening(_) => return Poll::Pending,
                Outbound::Sending(sending) => {
                    let Poll::Ready(ended) = sending.poll_unpin(cx) else { return Poll::Pending };
                    self.complaints.note(&ended.error);
                    self.stream_failed(&ended.lease, ended.fruitful);
                    drop(ended.lease);
                    self.outbound = Outbound::Idle(self.lease());
                }
                Outbound::Unsupported(lease) => {
                    let Poll::Ready(lease) = lease.poll_unpin(cx) else { return Poll::Pending };
                    lease.refuse_all(SendError::Unsupported);
                    drop(lease);
                    self.outbound = Outbound::Unsupported(self.lease());
                }
            }
        }
    }
}

/// Sends what the outbox holds, until the stream ends.
async fn send(stream: Stream, mut lease: Lease, post: Post, view: View) -> Ended {
    let mut fruitful = false;
    let error = match exchange(stream, &mut lease, &post, &view, &mut fruitful).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    Ended { lease, fruitful, error }
}

async fn exchange(
    mut stream: Stream,
    lease: &mut Lease,
    post: &Post,
    view: &View,
    fruitful: &mut bool,
) -> Result<Infallible, WireError> {
    wire::write(&mut stream, &Frame::Hello { session: post.session() }).await?;
    let Frame::Hello { session } = Frame::read(&mut stream, || 0).await? else {
        return Err(WireError::OutOfTurn);
    };
    lease.resume(session);
    let lease = &*lease;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        loop {
            while let Some(parcel) = lease.next() {
                writer.write_all(&parcel.head).await?;
                writer.write_all(&parcel.data).await?;
                view.counters().sent(parcel.data.len());
            }
            writer.flush().await?;
            lease.more().await;
        }
    };
    let read = async {
        loop {
            let Frame::Ack { sequence, status } = Frame::read(&mut reader, || 0).await? else {
                return Err(WireError::OutOfTurn);
            };
            lease.answered(sequence, status).map_err(|_| WireError::OutOfTurn)?;
            *fruitful = true;
        }
    };
    futures::future::try_join(write, read).await.map(|(never, _): (Infallible, Infallible)| never)
}

/// Takes in what the peer sends, until the stream ends; gives the reason why it did. Over any stream: what a connection calls,
/// and what a fuzzer does.
pub async fn receive<S>(mut stream: S, key: PeerKey, post: Post, view: View) -> WireError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outcome: Result<Infallible, WireError> = async {
        let Frame::Hello { session } = Frame::read(&mut stream, || 0).await? else {
            return Err(WireError::OutOfTurn);
        };
        wire::write(&mut stream, &Frame::Hello { session: post.session() }).await?;
        loop {
            // The limit of the moment when the message begins: one that is under way ends under it (R12).
            let max = || post.settings().max_message_size;
            let (sequence, status) = match Frame::read(&mut stream, max).await? {
                Frame::Message(message) => {
                    let from = Origin { key, is_member: view.is_member(&key) };
                    let (sequence, size) = (message.sequence, message.data.len());
                    let status = post.accept(from, session, message).await;
                    if status == Status::Accepted {
                        view.counters().received(size);
                    }
                    (sequence, status)
                }
                Frame::Oversized { sequence } => {
                    let from = Origin { key, is_member: view.is_member(&key) };
                    (sequence, post.refuse(from, session, sequence).await)
                }
                Frame::Hello { .. } | Frame::Ack { .. } => return Err(WireError::OutOfTurn),
            };
            wire::write(&mut stream, &Frame::Ack { sequence, status }).await?;
        }
    }
    .await;
    match outcome {
        Ok(never) => match never {},
        Err(error) => error,
    }
}
