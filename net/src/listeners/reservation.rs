//! How a port is judged and reserved before it is listened on.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use reload::{Class, fault};
use socket2::{Domain, Protocol, Socket, Type};

use crate::quic::{Connections, Keep, LAST_WORDS};
use crate::{Endpoint, Transport};

/// So long a UDP port may stay taken after its endpoint was closed, because the connections on it say their last words: those, and
/// what a slow machine needs to end a thread.
pub(crate) const CLOSING: Duration = Duration::from_secs(2);
const _: () = assert!(CLOSING.as_millis() >= 4 * LAST_WORDS.as_millis());

/// Tries for a UDP port, and between two of them.
pub(super) const TRIES: u32 = 8;
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A socket that this node has already.
#[derive(Clone, Debug)]
pub struct Held {
    /// Where.
    pub endpoint: Endpoint,
    /// How many connections need it to stay open, those in their handshake included. Those of a TCP listener need nothing of it.
    pub connections: usize,
    /// It takes no connections any more, and stays open for those that it has.
    pub retired: bool,
    /// When it was closed; its port may be taken for a moment longer.
    pub closed: Option<Instant>,
    /// How it is kept from being closed, if it is this process's.
    pub(crate) keeper: Option<Connections>,
}

/// What stands between an endpoint and its being listened on, as far as this node knows.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// Nothing of this node.
    Free,
    /// The node holds the port, and can listen there: several TCP listeners share a port, a QUIC endpoint is taken over.
    Ours(&'a Held),
    /// A socket of this node that has just been closed may still hold the port, until then.
    Closing(Instant),
    /// A QUIC endpoint of this node. Two of them cannot share a port, not even for the moment of a change.
    InTheWay(&'a Held),
}

/// A place to listen that nobody else can take; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    /// As the configuration has it.
    pub configured: Multiaddr,
    /// With the port that the system chose, where the configuration leaves it open.
    pub bound: Multiaddr,
    /// `None` where one of our own listeners holds the port already.
    socket: Option<Socket>,
    /// Then, a QUIC endpoint that is retired is not closed in the meantime.
    _keep: Option<Keep>,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Not a form that this version listens on.
    #[error(
        "'{0}' is not an address to listen on; use /ip4/…/tcp/PORT, /ip6/…/tcp/PORT or …/udp/PORT/quic-v1"
    )]
    Form(Multiaddr),
    /// Another process has the port.
    #[error("'{0}' is in use by another process")]
    InUse(Multiaddr),
    /// A QUIC endpoint of this node has the port.
    #[error("'{0}' {1}")]
    InTheWay(Multiaddr, String),
    /// A QUIC endpoint of this node had the port a moment ago.
    #[error("'{0}' is still being closed by this node itself")]
    Closing(Multiaddr),
    /// No interface has the address.
    #[error("'{0}' is on no interface of this machine")]
    NoInterface(Multiaddr),
    /// Ports below 1024 want a privilege.
    #[error("'{0}' needs a privilege that this process does not have")]
    Forbidden(Multiaddr),
    /// Anything else that the system says.
    #[error("'{0}' cannot be bound: {1}")]
    Other(Multiaddr, io::Error),
}

// === impl Held ===

impl Held {
    /// What remedies [`Standing::InTheWay`].
    pub const REMEDY: &'static str = "choose another port; or remove the one that is open first, and write this one into a later reload, when its connections have ended";

    /// A socket that is listened on.
    #[must_use]
    pub const fn listening(endpoint: Endpoint) -> Self {
        Self { endpoint, connections: 0, retired: false, closed: None, keeper: None }
    }

    /// A QUIC endpoint of the node that takes no connections any more, and has so many.
    #[must_use]
    pub const fn retired(endpoint: Endpoint, connections: usize) -> Self {
        Self { endpoint, connections, retired: true, closed: None, keeper: None }
    }

    /// What these sockets mean for one that is wanted.
    #[must_use]
    pub fn standing<'a>(held: &'a [Self], wanted: &Endpoint) -> Standing<'a> {
        let mut standing = Standing::Free;
        for held in held.iter().filter(|held| held.endpoint.overlaps(wanted)) {
            match held.closed {
                Some(since) if since.elapsed() < CLOSING => standing = Standing::Closing(since + CLOSING),
                Some(_) => {}
                None if held.endpoint == *wanted || wanted.transport == Transport::Tcp => {
                    return Standing::Ours(held);
                }
                None => return Standing::InTheWay(held),
            }
        }
        standing
    }

    /// Why it is in the way of another endpoint, as the end of a sentence about that one.
    #[must_use]
    pub fn obstruction(&self) -> String {
        let kept = match (self.connections, self.retired) {
            (0, _) => "is open".to_owned(),
            (1, true) => "1 connection still keeps open".to_owned(),
            (many, true) => format!("{many} connections still keep open"),
            (many, false) => format!("is open, with {many} of its connections"),
        };
        let address = self.endpoint.to_multiaddr();
        format!(
            "wants the UDP port of this node's own '{address}', which {kept}: a QUIC endpoint cannot change its address"
        )
    }
}

// === impl ReserveError ===

impl ReserveError {
    fn new(address: &Multiaddr, error: io::Error) -> Self {
        let address = address.clone();
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::AddrNotAvailable => Self::NoInterface(address),
            io::ErrorKind::PermissionDenied => Self::Forbidden(address),
            _ => Self::Other(address, error),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Form(_) => "names like /dns4 belong into peers.yaml",
            Self::InUse(_) => {
                "choose another port, or stop the process that holds this one (`ss -lnp` names it)"
            }
            Self::InTheWay(..) => Held::REMEDY,
            Self::Closing(_) => "try again in a moment",
            Self::NoInterface(_) => "`ip address` lists the addresses of this machine",
            Self::Forbidden(_) => "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE",
            Self::Other(..) => "see the system's message",
        }
    }

    /// Whether it may pass by itself (R15).
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            // It was free when the file was judged: whoever took it may let it go again.
            Self::InUse(_) | Self::Closing(_) => Class::System,
            _ => Class::Component,
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// Reserves an address, unless one of the sockets in `held`, which are our own, has it already.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn new(configured: &Multiaddr, held: &[Held]) -> Result<Self, ReserveError> {
        let wanted = Endpoint::of(configured).ok_or_else(|| ReserveError::Form(configured.clone()))?;
        let reservation =
            |bound, socket, keep| Self { configured: configured.clone(), bound, socket, _keep: keep };
        let is_closing = match Held::standing(held, &wanted) {
            Standing::Ours(own) => {
                let keep = own.keeper.as_ref().map(Connections::keep);
                return Ok(reservation(configured.clone(), None, keep));
            }
            Standing::InTheWay(other) => {
                return Err(ReserveError::InTheWay(configured.clone(), other.obstruction()));
            }
            Standing::Free => false,
            Standing::Closing(_) => true,
        };
        match fault::io("listener::reserve").and_then(|()| patiently(&wanted, is_in_use, || bind(&wanted))) {
            Ok((socket, address)) => {
                let bound = Endpoint { address, ..wanted }.to_multiaddr();
                Ok(reservation(bound, Some(socket), None))
            }
            Err(error) if is_closing && is_in_use(&error) => Err(ReserveError::Closing(configured.clone())),
            Err(error) => Err(ReserveError::new(configured, error)),
        }
    }

    /// Makes room for the listener. A TCP listener may be opened beside the reservation, which goes after it. UDP knows no
    /// such thing: between this and the listener, somebody else could take the port, and the listener would fail.
    pub(crate) fn make_room(&mut self) {
        if Endpoint::of(&self.bound).is_some_and(|bound| bound.transport == Transport::Udp) {
            self.socket = None;
        }
    }
}

/// Tries it some times if a UDP port is taken. Whoever only looks whether one is free (a plan, `fednode check`) has it while he looks,
/// for microseconds, and nobody can have it at the same time, unlike a TCP port. Blocks for 14 ms at the most.
pub(crate) fn patiently<T, E>(
    endpoint: &Endpoint,
    is_taken: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let tries = if endpoint.transport == Transport::Udp { TRIES } else { 1 };
    for _ in 1..tries {
        match attempt() {
            // Nobody tells when he has looked.
            Err(error) if is_taken(&error) => thread::sleep(LOOK_AGAIN),
            done => return done,
        }
    }
    attempt()
}

/// Binds and lets go again: it fails where anybody listens, and takes no connection from anybody. Blocks for 14 ms at the most.
///
/// # Errors
/// Why nobody can listen there.
pub fn probe(endpoint: &Endpoint) -> io::Result<()> {
    patiently(endpoint, is_in_use, || bind(endpoint)).map(drop)
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Whether nobody has the port of this endpoint.
pub(crate) fn is_free(endpoint: &Endpoint) -> bool {
    bind(endpoint).err().is_none_or(|error| !is_in_use(&error))
}

fn bind(endpoint: &Endpoint) -> io::Result<(Socket, SocketAddr)> {
    let (kind, protocol) = match endpoint.transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let address = endpoint.address;
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // As libp2p does, or the reservation of [::]:P would take 0.0.0.0:P, too.
        socket.set_only_v6(true)?;
    }
    if endpoint.transport == Transport::Tcp {
        // Connections of an earlier life in TIME_WAIT do not count as someone else.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}
