//! Sections for tests.

use std::sync::Arc;
use std::time::Duration;

use storage::{Member, Members, PeerKey};

use crate::{Limits, Membership, NetworkSection};

/// A section that listens nowhere and knows nobody.
pub(crate) fn section() -> NetworkSection {
    NetworkSection {
        listen: Vec::new(),
        external: Vec::new(),
        membership: Membership::Open,
        limits: Limits {
            connections: 64,
            connections_per_peer: 2,
            connections_per_ip: 64,
            pending_incoming: 64,
        },
        worker_threads: 1,
        connection_timeout: Duration::from_secs(10),
        reconnect_min: Duration::from_millis(100),
        reconnect_max: Duration::from_secs(2),
        members: Arc::new(Members::new()),
    }
}

/// A member at these addresses.
pub(crate) fn member(key: PeerKey, addresses: &[&str]) -> Member {
    Member {
        key,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        name: None,
        connection_timeout: None,
        max_retries: None,
    }
}
