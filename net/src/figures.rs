//! What libp2p itself counts (R21: "libp2p's own" metrics): connections, dials, bytes on the wire, and how topics spread.
//!
//! Peers must not choose labels. What identify reads from a peer (its addresses, and where it says that this node is) would
//! become time series of the peer's choice, so none of that is recorded; topics have series only if this node is configured to
//! follow them.

use std::sync::Arc;

use libp2p::gossipsub::{self, MetricsConfig};
use libp2p::metrics::{BandwidthTransport, Metrics, Recorder, Registry};
use libp2p::swarm::SwarmEvent;

use crate::topics::{Gossipsub, MAX_TOPICS};

/// Families that libp2p declares and this node leaves empty: to be left out of what is shown.
pub const UNRECORDED: &str = "libp2p_identify_";

/// Where one swarm's figures are recorded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Figures(Arc<Metrics>);

/// The figures of a swarm that is still to be built.
pub(crate) struct Unbuilt {
    registry: Registry,
    figures: Figures,
}

// === impl Unbuilt ===

impl Unbuilt {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let figures = Figures(Arc::new(Metrics::new(&mut registry)));
        Self { registry, figures }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Counts the bytes of the connections of `transport`, whose addresses must be those of sockets: names and what else a
    /// peer may suggest would be labels.
    pub(crate) fn meter<T>(&mut self, transport: T) -> BandwidthTransport<T> {
        BandwidthTransport::new(transport, &mut self.registry)
    }

    /// Lets gossipsub count, for the topics that this node follows.
    pub(crate) fn count_topics(&mut self, gossipsub: Gossipsub) -> Gossipsub {
        let config = MetricsConfig {
            max_topics: MAX_TOPICS,
            max_never_subscribed_topics: 0,
            ..MetricsConfig::default()
        };
        gossipsub.with_metrics(self.registry.sub_registry_with_prefix("libp2p_gossipsub"), config)
    }

    /// All that is counted from now on.
    pub(crate) fn into_registry(self) -> Registry {
        self.registry
    }
}

// === impl Figures ===

impl Figures {
    /// Records what the swarm says, except for what a peer could make up.
    pub(crate) fn swarm<E>(&self, event: &SwarmEvent<E>) {
        if !matches!(event, SwarmEvent::NewExternalAddrCandidate { .. }) {
            self.0.record(event);
        }
    }

    pub(crate) fn gossipsub(&self, event: &gossipsub::Event) {
        self.0.record(event);
    }
}
