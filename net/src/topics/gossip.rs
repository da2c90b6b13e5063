//! The behaviour: gossipsub, and what a node that may change its mind needs around it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::gossipsub::{Event, IdentTopic, Message, MessageAcceptance, PublishError as Refusal, TopicHash};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler as _, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use storage::PeerKey;

use super::authors::{Authors, Verdict};
use super::envelope::{Envelope, EnvelopeError};
use super::handler::{Handler, Inbound};
use super::line::Outgoing;
use super::standing::{Scores, Standing};
use super::terms::{self, Gossipsub};
use super::{PublishError, Topics};
use crate::figures::{Figures, Unbuilt};
use crate::membership::LiveRules;
use crate::wire::MAX_DATA;

/// What gossipsub's handler tells gossipsub.
type FromHandler = THandlerOutEvent<Gossipsub>;

/// Messages published in one turn; then the swarm has its turn again.
const TURN: usize = 64;

/// How often the neighbours' standing is looked through; gossipsub's heartbeat wakes us as often.
const REVIEW: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Gossip {
    inner: Gossipsub,
    figures: Figures,
    keypair: Keypair,
    topics: Topics,
    rules: LiveRules,
    /// What it is subscribed to, as far as it can be.
    followed: Arc<BTreeSet<String>>,
    connections: HashMap<ConnectionId, (PeerId, ConnectedPoint)>,
    /// What strangers' frames are read by, for payloads of so many bytes.
    small: Option<(usize, Inbound)>,
    authors: Authors,
    standing: Standing,
    reviewed: Instant,
    /// When a reader on this node has been waited for long enough.
    crowded_until: Option<Instant>,
    /// Who is subscribed to what: as many as gossipsub lets each peer announce.
    interested: HashMap<TopicHash, HashSet<PeerId>>,
    /// How far we are with the neighbours' messages: told when the readers on this node have room again.
    untold: HashMap<PeerId, u64>,
    /// The number of this node's newest message.
    number: u64,
}

// === impl Gossip ===

impl Gossip {
    pub(crate) fn new(
        keypair: &Keypair,
        topics: Topics,
        rules: LiveRules,
        counting: &mut Unbuilt,
    ) -> io::Result<Self> {
        // After those of the process before, if the clock was not set back by more than this one is old.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            inner: counting.count_topics(terms::build(keypair, MAX_DATA).map_err(io::Error::other)?),
            figures: counting.figures(),
            keypair: keypair.clone(),
            topics,
            rules,
            followed: Arc::default(),
            connections: HashMap::new(),
            small: None,
            authors: Authors::default(),
            standing: Standing::new(Instant::now()),
            reviewed: Instant::now(),
            crowded_until: None,
            interested: HashMap::new(),
            untold: HashMap::new(),
            number: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2),
        })
    }

    /// When this has to be polled next, if nothing happens before.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.crowded_until
    }

    /// What this peer's frames are read by, if it is a stranger: see [`Handler`].
    fn inbound(&mut self, peer: &PeerId) -> Result<Option<Inbound>, ConnectionDenied> {
        if self.rules.load().is_member(PeerKey::from_peer_id(peer).ok().as_ref()) {
            return Ok(None);
        }
        let max = self.topics.0.post.settings().max_message_size;
        if let Some((_, inbound)) = self.small.as_ref().filter(|(size, _)| *size == max) {
            return Ok(Some(inbound.clone()));
        }
        // Only to have its upgrade.
        let small = terms::build(&self.keypair, max);
        let mut small = small.map_err(|error| ConnectionDenied::new(io::Error::other(error)))?;
        let (id, nowhere) = (ConnectionId::new_unchecked(0), Multiaddr::empty());
        let handler = small.handle_established_inbound_connection(id, *peer, &nowhere, &nowhere)?;
        let inbound = handler.listen_protocol().into_upgrade().0;
        self.small = Some((max, inbound.clone()));
        Ok(Some(inbound))
    }

    /// Subscribes to what is configured, and to nothing else.
    fn follow(&mut self) {
        let wanted = self.topics.wanted();
        if Arc::ptr_eq(&wanted, &self.followed) {
            return;
        }
        self.followed = Arc::clone(&wanted);
        let subscribed: BTreeSet<_> = self.inner.topics().map(TopicHash::to_string).collect();
        for name in subscribed.difference(&wanted) {
            self.inner.unsubscribe(&IdentTopic::new(name));
        }
        for name in wanted.difference(&subscribed) {
            let topic = IdentTopic::new(name);
            let joined = self.inner.set_topic_params(topic.clone(), terms::topic_scores());
            let joined = joined
                .map_err(str::to_owned)
                .and_then(|()| self.inner.subscribe(&topic).map_err(|error| error.to_string()));
            if let Err(error) = joined {
                tracing::error!(topic = %name, %error, "a topic cannot be subscribed to");
            }
        }
        self.topics.show(self.inner.topics().map(TopicHash::to_string).collect());
    }

    fn on_event(&mut self, event: Event) {
        self.figures.gossipsub(&event);
        match event {
            Event::Message { propagation_source, message_id, message } => {
                let acceptance = self.take_in(&propagation_source, message);
                self.inner.report_message_validation_result(&message_id, &propagation_source, acceptance);
            }
            Event::Subscribed { peer_id, topic } => {
                self.interested.entry(topic).or_default().insert(peer_id);
            }
            Event::Unsubscribed { peer_id, topic } => self.lost(&topic, &peer_id),
            Event::SlowPeer { peer_id, failed_messages } => {
                tracing::debug!(%peer_id, ?failed_messages, "a peer does not take the messages of topics");
            }
            Event::GossipsubNotSupported { .. } => {}
        }
    }

    /// Of two connections to a peer one has gone, and what stood in the peer's queue may have gone with it: our topics too, which
    /// gossipsub announces once. It does so again when it is told of a first connection.
    fn announce_again(&mut self, peer: PeerId) {
        let other = self.connections.iter().find(|(_, (other, _))| *other == peer);
        if let Some((&connection_id, (_, endpoint))) = other {
            let first = ConnectionEstablished {
                peer_id: peer,
                connection_id,
                endpoint,
                failed_addresses: &[],
                other_established: 0,
            };
            self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(first));
        }
    }

    fn gone(&mut self, peer: &PeerId) {
        self.interested.retain(|_, peers| {
            peers.remove(peer);
            !peers.is_empty()
        });
        self.untold.remove(peer);
        self.standing.forget(peer);
        // Gossipsub remembers scores for whoever comes back.
        self.inner.set_application_score(peer, 0.0);
    }

    fn lost(&mut self, topic: &TopicHash, peer: &PeerId) {
        if let Some(peers) = self.interested.get_mut(topic) {
            peers.remove(peer);
            if peers.is_empty() {
                self.interested.remove(topic);
            }
        }
    }

    /// Judges a message whose signature is good. What is refused is not passed on; only what no honest peer would have passed
    /// on is held against whoever did. (A member list or a size may be changed on one node sooner than on another.)
    ///
    /// A stranger speaks for itself alone: who could bring messages of others could make up as many others as it likes, each with a
    /// rate of its own. Members are believed to have brought what they would have taken.
    fn take_in(&mut self, by: &PeerId, message: Message) -> MessageAcceptance {
        let Message { source, data, topic, .. } = message;
        // Strict validation lets nothing through without; and a peer whose key is not Ed25519 has no name outside libp2p.
        let Some((peer, key)) = source.and_then(|peer| Some((peer, PeerKey::from_peer_id(&peer).ok()?)))
        else {
            return MessageAcceptance::Ignore;
        };
        let (admitted, is_member, by_member) = {
            let rules = self.rules.load();
            let by_member = rules.is_member(PeerKey::from_peer_id(by).ok().as_ref());
            (rules.admits(Some(&key)), rules.is_member(Some(&key)), by_member)
        };
        if !is_member && !by_member && peer != *by {
            self.exceeded(*by);
            return MessageAcceptance::Ignore;
        }
        if !admitted {
            tracing::debug!(author = %key, %topic, "a message of one who is no member");
            return MessageAcceptance::Ignore;
        }
        let Envelope { number, content_type, data } = match Envelope::decode(data) {
            Ok(envelope) => envelope,
            Err(EnvelopeError::Version(version)) => {
                tracing::debug!(author = %key, %topic, version, "a message of a version that is not known here");
                return MessageAcceptance::Ignore;
            }
            Err(error) => {
                self.topics.0.view.counters().violation();
                tracing::debug!(author = %key, %topic, %error, "a message that is none");
                return MessageAcceptance::Reject;
            }
        };
        if data.len() > terms::UNWANTED_TWICE / 2 {
            // If it came by another way, its author's own copy may be taken back on ours.
            self.has_come(peer, number);
        }
        let settings = self.topics.0.post.settings();
        if data.len() > settings.max_message_size {
            tracing::debug!(author = %key, %topic, bytes = data.len(), "a message larger than protocol.max_message_size");
            return MessageAcceptance::Ignore;
        }
        let bytes = data.len();
        match self.authors.judge(key, is_member, number, settings.rate_limit, Instant::now()) {
            Verdict::Take if self.topics.deliver(topic.as_str(), key, content_type, data) => {
                self.topics.0.view.counters().topic_received(bytes);
                MessageAcceptance::Accept
            }
            Verdict::Take | Verdict::Seen => MessageAcceptance::Ignore,
            Verdict::TooMany => {
                tracing::debug!(author = %key, %topic, "more messages than protocol.rate_limit allows");
                if !by_member {
                    self.exceeded(*by);
                }
                MessageAcceptance::Ignore
            }
        }
    }

    /// A stranger brought what it was not to bring.
    fn exceeded(&mut self, by: PeerId) {
        let score = self.standing.exceeded(by);
        self.judge(score.map(|score| (by, score)).into_iter().collect());
    }

    fn judge(&mut self, scores: Scores) {
        for (peer, score) in scores {
            self.inner.set_application_score(&peer, score);
        }
    }

    fn review(&mut self, now: Instant) {
        if now.saturating_duration_since(self.reviewed) >= REVIEW {
            self.reviewed = now;
            let scores = self.standing.review(&self.topics.flow().left_behind(now), now);
            self.judge(scores);
        }
    }

    /// A message of this neighbour's own takes no room on the way any more, whatever becomes of it.
    fn has_come(&mut self, author: PeerId, number: u64) {
        if self.topics.flow().knows(&author) {
            let untold = self.untold.entry(author).or_default();
            *untold = number.max(*untold);
        }
    }

    /// Publishes the next message that waits, unless somebody must be waited for. False if there is none to publish now.
    fn publish_next(&mut self, now: Instant) -> bool {
        let (interested, flow) = (&self.interested, self.topics.flow());
        let mut peers = Vec::new();
        let ready = |topic: &str| {
            peers = interested.get(&TopicHash::from_raw(topic)).into_iter().flatten().copied().collect();
            !flow.is_full(&peers, now)
        };
        let Some(outgoing) = self.topics.next_if(ready) else { return false };
        let answer = self.publish(&outgoing, &peers, now);
        if answer.is_ok() {
            self.topics.0.view.counters().topic_sent(outgoing.data.len());
        }
        let answer = answer.and_then(|()| {
            let Outgoing { topic, content_type, data, .. } = &outgoing;
            // Removed while it waited; those who have it still are told.
            let delivered = self.topics.deliver(topic, self.topics.0.me, content_type.clone(), data.clone());
            if delivered { Ok(()) } else { Err(PublishError::UnknownTopic) }
        });
        outgoing.answer(answer);
        true
    }

    fn publish(&mut self, outgoing: &Outgoing, to: &[PeerId], now: Instant) -> Result<(), PublishError> {
        let Outgoing { topic, content_type, data, .. } = outgoing;
        if !self.topics.has(topic) {
            return Err(PublishError::UnknownTopic);
        }
        self.number = self.number.saturating_add(1);
        let envelope = Envelope::seal(self.number, content_type.as_deref(), data);
        match self.inner.publish(TopicHash::from_raw(topic), envelope) {
            Ok(_) => {
                self.topics.flow().sent(to, self.number, data.len(), now);
                Ok(())
            }
            // Nobody is there to hear it.
            Err(Refusal::NoPeersSubscribedToTopic) => Ok(()),
            Err(Refusal::AllQueuesFull(_)) => Err(PublishError::Busy),
            Err(error) => Err(PublishError::Refused(error.to_string())),
        }
    }

    /// Tells the neighbours how far we are with their messages.
    fn tell(&mut self) {
        for (peer, number) in self.untold.drain() {
            self.topics.flow().taken(&peer, number);
        }
    }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Handler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inbound = self.inbound(&peer)?;
        let inner = self.inner.handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(Handler::new(inner, inbound))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inbound = self.inbound(&peer)?;
        let inner = self.inner.handle_established_outbound_connection(id, peer, address, role, port)?;
        Ok(Handler::new(inner, inbound))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let endpoint = established.endpoint.clone();
                self.connections.insert(established.connection_id, (established.peer_id, endpoint));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
                if closed.remaining_established == 0 {
                    self.gone(&closed.peer_id);
                } else {
                    self.announce_again(closed.peer_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        // Here, and not where gossipsub gives it out: that it has come by another way before makes no room on this one.
        if let FromHandler::Message { rpc, .. } = &event {
            let own = rpc.messages.iter().filter(|message| message.source == Some(peer));
            if let Some(number) = own.filter_map(|message| Envelope::number_of(&message.data)).max() {
                self.has_come(peer, number);
            }
        }
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.topics.register(cx.waker());
        self.follow();
        let mut published = 0;
        loop {
            // Twice: after a heartbeat gossipsub has set its clock anew and says that it is pending without having looked at it, so
            // that nothing would wake us for the next one, nor for what this one has to send.
            let polled = match self.inner.poll(cx) {
                Poll::Pending => self.inner.poll(cx),
                ready @ Poll::Ready(_) => ready,
            };
            match polled {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    self.on_event(event);
                    continue;
                }
                Poll::Ready(other) => return Poll::Ready(other.map_out(|_| ())),
                Poll::Pending => {}
            }
            let now = Instant::now();
            // Gossipsub's heartbeat is a wake-up each second, for what has waited long enough.
            self.review(now);
            self.crowded_until = self.topics.crowded_until(now);
            if self.crowded_until.is_some() {
                return Poll::Pending;
            }
            self.tell();
            if published >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.publish_next(now) {
                return Poll::Pending;
            }
            published = published.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
