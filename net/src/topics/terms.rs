//! What gossipsub is told once, when it is built, and why.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    AllowAllSubscriptionFilter, Behaviour, Config, ConfigBuilder, IdentityTransform,
    MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds,
    TopicScoreParams, ValidationMode, score_parameter_decay,
};
use libp2p::identity::Keypair;

use super::envelope::MAX_ENVELOPE;

/// Gossipsub without a transformation. Remote subscriptions are counted but not chosen among: an announcement that is refused
/// is lost for the connection's life, and a topic that is configured later would find nobody.
pub(crate) type Gossipsub =
    Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// The most topics that one peer may be subscribed to; as many as a configuration may have.
pub(crate) const TOPICS: usize = 1024;
/// The bytes of an RPC that are not messages: a new connection is told all topics at once (1024 names of 128 bytes), and a gossip
/// names [`GOSSIPED`] messages, 48 bytes each.
const CONTROL: usize = 256 * 1024;
const GOSSIPED: usize = 4096;
/// What stands around an envelope: gossipsub's fields, the topic, the signature. With room for what was read of the next frame
/// already, which gossipsub counts to this one.
const AROUND: usize = 64 * 1024;

/// Of a message larger than this (with what gossipsub adds), whoever has it says to its neighbours that it wants no other copy
/// (gossipsub 1.2, "IDONTWANT"); a smaller one is sent as quickly as that is said.
pub(super) const UNWANTED_TWICE: usize = 4096;

/// How much of an invalid message is forgiven: a peer's score falls by the square of how many it has passed on lately.
const INVALID: f64 = -1.0;
/// From here on, a peer is neither gossiped with (10 invalid messages in a minute), nor published to (15), nor listened to (20). A
/// federation's nodes pass on no invalid ones: a message that only *this* node does not want (too large, too many, by no member) is
/// none.
const THRESHOLDS: PeerScoreThresholds = PeerScoreThresholds {
    gossip_threshold: -100.0,
    publish_threshold: -225.0,
    graylist_threshold: -400.0,
    // Nobody's suggestions of peers are taken: there is the peer exchange.
    accept_px_threshold: 1000.0,
    opportunistic_graft_threshold: 0.0,
};

/// Gossipsub, subscribed to nothing, for messages of up to so many bytes of payload.
pub(super) fn build(keypair: &Keypair, max_data: usize) -> Result<Gossipsub, String> {
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: TOPICS,
        // Topics may be replaced by others at once.
        max_subscriptions_per_request: 2 * TOPICS,
    };
    let authenticity = MessageAuthenticity::Signed(keypair.clone());
    let config = config(max_data).map_err(|error| error.to_string())?;
    let mut gossipsub = Gossipsub::new_with_subscription_filter(authenticity, config, filter)?;
    gossipsub.with_peer_score(scores(), THRESHOLDS)?;
    Ok(gossipsub)
}

fn config(max_data: usize) -> Result<Config, libp2p::gossipsub::ConfigBuilderError> {
    ConfigBuilder::default()
        // Who wrote a message is what its signature proves.
        .validation_mode(ValidationMode::Strict)
        // This node judges every message before it is passed on.
        .validate_messages()
        .max_transmit_size(max_data.min(MAX_ENVELOPE).saturating_add(AROUND))
        .max_control_message_size(CONTROL)
        .max_control_messages_sent(GOSSIPED)
        // As the specification and go-libp2p name messages: all then understand one another's gossip.
        .message_id_fn(|message| {
            let author = message.source.map(PeerId::to_bytes).unwrap_or_default();
            let number = message.sequence_number.unwrap_or_default().to_be_bytes();
            MessageId::from([author.as_slice(), &number].concat())
        })
        // What one node writes goes to everybody at once who wants it: in a federation, that is a hop less, and a topic that is new
        // has no mesh yet.
        .flood_publish(true)
        // A mesh that is needed now is not built in five seconds but in one.
        .heartbeat_initial_delay(Duration::from_secs(1))
        // A topic that was removed may come back at once. (Whole seconds on the wire; a peer that leaves a mesh is not taken
        // back before.)
        .unsubscribe_backoff(Duration::from_secs(1))
        .idontwant_message_size_threshold(UNWANTED_TWICE)
        // Messages do not grow old in a queue: the queue is short, because the author waits for receipts, and a peer that
        // really stands still is found out by its ping.
        .publish_queue_duration(Duration::from_secs(600))
        .forward_queue_duration(Duration::from_secs(600))
        // Receipts keep one author below 1024 messages to a peer. This is room for several authors whose messages are passed on
        // to a peer that is not connected with them.
        .connection_handler_queue_len(8192)
        // How long a message is recognised by its id alone. Repetitions after that are found out by the envelope's number.
        .duplicate_cache_time(Duration::from_secs(60))
        // Messages are kept for gossip for so many heartbeats, of a second each: they are all in memory.
        .history_length(3)
        .history_gossip(2)
        .build()
}

/// What is held against a peer: broken rules. Not that it is quiet, slow for a moment, or at the same address as others.
fn scores() -> PeerScoreParams {
    PeerScoreParams {
        // Half of the nodes of a federation may be behind one address, or on one machine.
        ip_colocation_factor_weight: 0.0,
        // What the node itself thinks of a peer counts as it is: see `Gossip`.
        app_specific_weight: 1.0,
        // Queues are full where a peer stands still; that is no offence.
        slow_peer_weight: 0.0,
        // Grafts against the rules, and promised messages that do not come: ten a minute are forgiven.
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: 10.0,
        behaviour_penalty_decay: score_parameter_decay(Duration::from_secs(60)),
        ..PeerScoreParams::default()
    }
}

/// What a topic adds to it: invalid messages, forgotten within a minute.
pub(super) fn topic_scores() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        // A topic may be silent for a day.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: INVALID,
        invalid_message_deliveries_decay: score_parameter_decay(Duration::from_secs(60)),
        ..TopicScoreParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gossipsub_takes_these_terms() {
        for max_data in [256, 1024 * 1024, 64 * 1024 * 1024] {
            build(&Keypair::generate_ed25519(), max_data).unwrap();
        }
        topic_scores().validate().unwrap();
    }
}
