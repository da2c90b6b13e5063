//! Where the node listens, as it is seen from outside.

use libp2p::Multiaddr;
use serde::Serialize;

use super::{View, as_text};
use crate::{Endpoint, Held, Transport};

/// A listener that nobody can reach (`status`, `failing_listeners`). It is tried again without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingListener {
    /// Where it is to listen.
    #[serde(serialize_with = "as_text")]
    pub address: Multiaddr,
    /// What is wrong.
    pub error: String,
}

/// An open listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    /// As the configuration has it.
    pub(crate) configured: Multiaddr,
    /// With its real port.
    pub(crate) bound: Multiaddr,
}

// === impl View ===

impl View {
    /// The addresses that are listened on, in the order of the configuration; while a reload is under way also those that
    /// are about to close. A wildcard stands once, as it is configured. Ports are the real ones.
    #[must_use]
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.read(|shown| shown.listeners.iter().map(|listening| listening.bound.clone()).collect())
    }

    /// The listeners of the configuration that nobody can reach now.
    #[must_use]
    pub fn failing_listeners(&self) -> Vec<FailingListener> {
        self.read(|shown| shown.failing.clone())
    }

    /// The sockets that this node has, for whoever judges whether it could have another.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.read(|shown| {
            let listening = shown.listeners.iter().filter_map(|listening| Endpoint::of(&listening.bound));
            let tcp = listening.filter(|endpoint| endpoint.transport == Transport::Tcp).map(Held::listening);
            tcp.chain(shown.endpoints.iter().cloned()).collect()
        })
    }

    /// The QUIC endpoints that take no connections any more, and stay open for those that they have; then, with no connection,
    /// until their ports are free.
    #[must_use]
    pub fn retired(&self) -> Vec<Held> {
        self.read(|shown| shown.endpoints.iter().filter(|held| held.retired).cloned().collect())
    }

    /// The QUIC endpoints that a configuration with these addresses would retire, because connections live on them.
    #[must_use]
    pub fn would_retire(&self, wanted: &[Multiaddr]) -> Vec<Held> {
        let endpoints: Vec<_> = wanted.iter().filter_map(Endpoint::of).collect();
        let mut wanted: Vec<_> = wanted.iter().collect();
        self.read(|shown| {
            let mut retiring = Vec::new();
            for Listening { configured, bound } in &shown.listeners {
                if let Some(index) = wanted.iter().position(|address| *address == configured) {
                    wanted.swap_remove(index);
                    continue;
                }
                let Some(endpoint) = Endpoint::of(bound).filter(|endpoint| !endpoints.contains(endpoint))
                else {
                    continue;
                };
                let is_it = |held: &&Held| held.endpoint == endpoint && held.connections > 0;
                retiring.extend(shown.endpoints.iter().find(is_it).cloned());
            }
            retiring
        })
    }

    pub(crate) fn set_listeners(&self, listeners: Vec<Listening>, failing: Vec<FailingListener>) {
        self.write(|shown| {
            shown.failing = failing;
            std::mem::replace(&mut shown.listeners, listeners)
        });
    }

    pub(crate) fn set_endpoints(&self, endpoints: Vec<Held>) {
        self.write(|shown| std::mem::replace(&mut shown.endpoints, endpoints));
    }
}
