//! The swarm: transports, behaviours and what is frozen at build.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_resolver::system_conf::read_system_conf;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::Version;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, Transport, dns, identify, noise, tcp};

use crate::crossed::Crossed;
use crate::denial::Denials;
use crate::direct::Direct;
use crate::exchange::Exchange;
use crate::farewell::Brief;
use crate::figures::{Figures, Unbuilt};
use crate::goodbye::Goodbye;
use crate::home::Homed;
use crate::hush::Hush;
use crate::limits::Limiter;
use crate::membership::{Gate, LiveRules, Rules};
use crate::muxer::Yamux;
use crate::ping::Ping;
use crate::pool::Pool;
use crate::post::Post;
use crate::services::{Services, Tunnels};
use crate::timed::{Doorstep, Timed};
use crate::topics::{Gossip, Receipts, Topics};
use crate::{Identity, NetworkSection, View, quic, resolver};

/// A connection is kept for as long as both sides want it, busy or not: whom the node does not want it closes itself. (libp2p
/// freezes this at build; the longest time that its timers are at ease with.)
const IDLE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// What identify says that this node speaks.
const SPEAKS: &str = "/fednode/1.0.0";

/// The behaviours. The gatekeepers come first: what denies a connection must come before what allocates for it.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Host {
    gate: Gate,
    limiter: Limiter,
    pub(crate) crossed: Crossed,
    ping: Ping,
    pub(crate) identify: identify::Behaviour,
    direct: Direct,
    services: Tunnels,
    pub(crate) topics: Gossip,
    receipts: Receipts,
    pub(crate) goodbye: Goodbye,
    exchange: Exchange,
}

/// What the swarm shares with the actor that owns it.
pub(crate) struct Built {
    pub(crate) swarm: Swarm<Host>,
    pub(crate) rules: LiveRules,
    pub(crate) hush: Hush,
    pub(crate) figures: Figures,
}

/// Builds a swarm that listens nowhere yet.
pub(crate) fn build(
    identity: &Identity,
    section: &NetworkSection,
    pool: &Pool,
    post: &Post,
    services: &Services,
    topics: &Topics,
    view: &View,
) -> io::Result<Built> {
    let rules: LiveRules = Arc::new(ArcSwap::from_pointee(Rules::of(section)));
    let hush = Hush::new(pool.clone());
    let denials = Denials::new(view.clone(), hush.clone());
    let doorstep = Doorstep::default();
    let mut counting = Unbuilt::new();
    let figures = counting.figures();
    let keypair = identity.keypair();
    let identify = identify::Config::new(SPEAKS.to_owned(), keypair.public())
        .with_agent_version(concat!("fednode/", env!("CARGO_PKG_VERSION")).to_owned())
        // A peer that knows where else this node listens finds it again after a move.
        .with_push_listen_addr_updates(true);
    let host = Host {
        gate: Gate::new(Arc::clone(&rules), denials.clone()),
        limiter: Limiter::new(Arc::clone(&rules), denials, doorstep.clone()),
        crossed: Crossed::new(identity.peer_id(), Arc::clone(&rules)),
        ping: Ping::new(post.clone()),
        identify: identify::Behaviour::new(identify),
        direct: Direct::new(post.clone(), view.clone(), hush.clone()),
        services: Tunnels::new(services.clone(), Arc::clone(&rules), identity.peer_id()),
        topics: Gossip::new(&keypair, topics.clone(), Arc::clone(&rules), &mut counting)?,
        receipts: Receipts::new(topics.clone()),
        goodbye: Goodbye::default(),
        exchange: Exchange::new(identity, post.clone(), view.clone(), hush.clone()),
    };
    // By hand: the swarm builder's transport has one frozen limit for all handshakes.
    let allowance = Arc::clone(&rules);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keypair).map_err(io::Error::other)?)
        .multiplex_ext(move |peer, _| Brief(Yamux::new(allowance.load().allowance(peer))))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let quic = quic::transport(&keypair, view.clone())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let transport = Homed::new(quic.or_transport(tcp).map(|either, _| either.into_inner()), pool.clone());
    // Inside of the names' transport: what it counts by are the addresses of sockets.
    let transport = counting.meter(transport).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    view.set_figures(counting.into_registry());
    // Outside of the handshake: a name's next address is tried after one that answers, but not as libp2p does.
    let (servers, options) = resolver::or_without_servers(read_system_conf());
    let transport = dns::tokio::Transport::custom(transport, servers, options);
    let transport = Timed::new(transport.boxed(), Arc::clone(&rules), doorstep);
    let executor = pool.clone();
    let config = libp2p::swarm::Config::with_executor(move |future| executor.spawn(future))
        .with_idle_connection_timeout(IDLE)
        // QUIC before TCP, IPv6 before IPv4, each a little later than the one before (RFC 8305): all at once would often end
        // in several connections, of which `crossed` has to let the dialling end choose one.
        .with_smart_dial();
    let swarm = Swarm::new(transport.boxed(), host, identity.peer_id(), config);
    Ok(Built { swarm, rules, hush, figures })
}
