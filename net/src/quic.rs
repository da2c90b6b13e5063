//! QUIC: what is frozen when the transport is built, and endpoints that outlive their listeners.
//!
//! QUIC version 1 (RFC 9000) with TLS 1.3 and libp2p's certificate extension, ALPN `libp2p` (libp2p spec "TLS"). No 0-RTT, no
//! connection migration, no Retry: libp2p has none of them.
//!
//! Two things cost more than over TCP, and cannot be had otherwise with libp2p 0.57 and quinn 0.11:
//!
//! * A newcomer's first packet is taken before anybody is asked whether there is room: libp2p accepts it, and TLS begins, before its
//!   transport says that somebody comes. Who is refused then has cost one TLS flight and no task, at most three times the bytes that
//!   it sent itself (RFC 9000, 8.1), and is forgotten at once.
//! * A dial to a UDP port that nobody has ends with `peers.connection_timeout`. The system reports an ICMP "port unreachable" only
//!   to sockets that are connected or have asked for errors (`IP_RECVERR`); quinn's serve many peers at once and have not, and such
//!   a report is no proof (RFC 9000, 14.2.1): anybody can send one.

mod closed;
mod keep;
mod retiring;
mod thread;

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::quic::{self, tokio::Transport};

use crate::{View, services};
pub(crate) use keep::{Connections, Keep};
pub(crate) use retiring::Retiring;
pub(crate) use thread::LAST_WORDS;

/// Out of the way of `peers.connection_timeout`, which is live, and ten minutes at most: see `timed`.
const HANDSHAKE: Duration = Duration::from_secs(20 * 60);
/// A peer that says nothing for so long is given up by QUIC itself. Longer than two missed pings of the slowest kind
/// (`protocol.ping_interval`, at most an hour): whether a peer is dead is for the ping to say, as over TCP. A connection goes
/// by the shorter time of both ends, and other implementations have 10 to 30 s.
const IDLE: Duration = Duration::from_secs(3 * 60 * 60);
/// A packet after so much silence. Less than half of the shortest idle time that peers are known to have (10 s, rust-libp2p),
/// and of what a NAT keeps a UDP mapping for (RFC 4787, REQ-5, names 2 minutes; many keep 30 s).
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Streams that a peer may have open at one time: those of services that a member may have, and one or two of every other protocol.
/// With what each may hold, this is what a hostile peer can make this node keep in memory: QUIC's limits are set before it is known
/// who comes.
const STREAMS: u32 = 56;
/// What a peer may send on one stream before it is read: 2.5 MiB/s at a round trip of 100 ms.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a whole connection. More than all streams of services in both directions hold when their readers stand still:
/// otherwise a few of them would hold up messages and pings, and cost the connection.
const WINDOW: u32 = 20 * 1024 * 1024;
const _: () = assert!(WINDOW as usize >= 2 * services::OVER_QUIC * STREAM_WINDOW as usize + 4 * 1024 * 1024);

/// The transport, which shows its endpoints in the view.
pub(crate) fn transport(keypair: &Keypair, view: View) -> Retiring<Transport> {
    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = HANDSHAKE;
    config.max_idle_timeout = IDLE.as_millis().try_into().unwrap_or(u32::MAX);
    config.keep_alive_interval = KEEP_ALIVE;
    config.max_concurrent_stream_limit = STREAMS;
    config.max_stream_data = STREAM_WINDOW;
    config.max_connection_data = WINDOW;
    Retiring::new(Transport::new(config), view)
}
