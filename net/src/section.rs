//! The sections of the network actor and of the protocol actor: what they are configured by, as checked values.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use storage::{Members, PeerKey};

/// Who may hold a connection (N6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Anyone.
    Open,
    /// Only keys in `peers.yaml`.
    Members,
}

/// Bounds on connections. Lowering one sheds nothing (contract: "Limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established connections in total. As many of them are kept for members as have none.
    pub connections: u32,
    /// Established connections of one peer.
    pub connections_per_peer: u32,
    /// Connections of one IPv4 address or IPv6 /64; members and loopback do not count.
    pub connections_per_ip: u32,
    /// Inbound connections in their handshake. One address (an IPv6 /64 counts as one) may have a quarter of it, a member's
    /// configured address and loopback more; the last quarter is for members' configured addresses alone. Where there is no
    /// room, the oldest handshake of the address that has most makes some.
    pub pending_incoming: u32,
}

/// What the network actor is configured by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSection {
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// Announced besides what is observed.
    pub external: Vec<Multiaddr>,
    /// Who may connect.
    pub membership: Membership,
    /// How many may connect.
    pub limits: Limits,
    /// Threads that drive connections; at least one (0 in the file is resolved to the number of cores).
    pub worker_threads: usize,
    /// How long a dial may take, and the handshake of a connection that came in.
    pub connection_timeout: Duration,
    /// The first pause after a failed dial.
    pub reconnect_min: Duration,
    /// The longest pause between dials.
    pub reconnect_max: Duration,
    /// The members, without this node's own entry. Shared: an unchanged file is compared by its pointer.
    pub members: Arc<Members>,
}

/// What the protocol actor is configured by.
#[derive(Clone, Debug, PartialEq)]
pub struct ProtocolSection {
    /// Between pings on one connection.
    pub ping_interval: Duration,
    /// The largest message, in bytes.
    pub max_message_size: usize,
    /// How much one peer may send.
    pub rate_limit: RateLimit,
    /// Between peer exchanges.
    pub exchange_interval: Duration,
    /// Names of the broadcast topics.
    pub topics: Vec<String>,
    /// Local services offered to members.
    pub expose: Vec<ExposedService>,
    /// Members' services brought to a local port.
    pub connect: Vec<ConnectedService>,
}

/// A token bucket per peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Refill.
    pub messages_per_second: f64,
    /// Size of the bucket.
    pub burst: u32,
}

/// `protocol.services.expose[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedService {
    /// The service's name in the federation.
    pub name: String,
    /// `host:port` of the local service.
    pub target: String,
    /// Who may use it; `None` is every member.
    pub allow: Option<Vec<PeerKey>>,
}

/// `protocol.services.connect[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedService {
    /// The service's name in the federation.
    pub name: String,
    /// The member that exposes it.
    pub peer: PeerKey,
    /// The local address to accept on.
    pub listen: SocketAddr,
}
