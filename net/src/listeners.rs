//! The listening sockets: which are wanted, which are open, and how one is reserved before it is opened.
//!
//! libp2p sets `SO_REUSEPORT` on what it listens on, so that a second process gets the same port without an error. A port is
//! therefore reserved first by a socket without that option, bound but not listening: it takes no traffic, and it fails where
//! anybody else holds the port. A port 0 is settled by the reservation, too, so that the number is known from the start.

use std::io;
use std::net::SocketAddr;

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use reload::fault;
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::{tcp_address, tcp_socket};

/// A place to listen that nobody else can take; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    /// As the configuration has it.
    pub configured: Multiaddr,
    /// With the port that the system chose, where the configuration leaves it open.
    pub bound: Multiaddr,
    /// `None` where one of our own listeners holds the port already.
    _socket: Option<Socket>,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Not a form that this version listens on.
    #[error("'{0}' is not an address to listen on; use /ip4/…/tcp/PORT or /ip6/…/tcp/PORT")]
    Form(Multiaddr),
    /// Another process has the port.
    #[error("'{0}' is in use by another process")]
    InUse(Multiaddr),
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

/// The listening sockets that are open.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    id: ListenerId,
    configured: Multiaddr,
    bound: Multiaddr,
    /// Asked to close; counts as gone.
    closing: bool,
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
            Self::Form(_) => "names like /dns4 belong into peers.yaml; quic comes with a later version",
            Self::InUse(_) => {
                "choose another port, or stop the process that holds this one (`ss -ltnp` names it)"
            }
            Self::NoInterface(_) => "`ip address` lists the addresses of this machine",
            Self::Forbidden(_) => "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE",
            Self::Other(..) => "see the system's message",
        }
    }
}

// === impl Reservation ===

impl Reservation {
    /// Reserves an address, unless one of the sockets in `held`, which are our own, has it already.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn new(configured: &Multiaddr, held: &[SocketAddr]) -> Result<Self, ReserveError> {
        let socket = tcp_socket(configured).ok_or_else(|| ReserveError::Form(configured.clone()))?;
        if held.iter().any(|own| overlap(*own, socket)) {
            return Ok(Self { configured: configured.clone(), bound: configured.clone(), _socket: None });
        }
        let (reserved, bound) = bind(socket).map_err(|error| ReserveError::new(configured, error))?;
        Ok(Self { configured: configured.clone(), bound: tcp_address(bound), _socket: Some(reserved) })
    }
}

fn bind(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    fault::io("listener::reserve")?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // As libp2p does, or the reservation of [::]:P would take 0.0.0.0:P, too.
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier life in TIME_WAIT do not count as someone else.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

/// Whether a bind of one would be refused because of the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

// === impl Listeners ===

impl Listeners {
    fn present(&self) -> impl Iterator<Item = &Open> {
        self.open.iter().filter(|open| !open.closing)
    }

    /// Which of the wanted addresses are not open. Several entries may be equal (`/tcp/0`): each wants a socket.
    pub(crate) fn missing(&self, wanted: &[Multiaddr]) -> Vec<Multiaddr> {
        let mut present: Vec<_> = self.present().map(|open| &open.configured).collect();
        let mut missing = Vec::new();
        for address in wanted {
            match present.iter().position(|open| *open == address) {
                Some(index) => drop(present.swap_remove(index)),
                None => missing.push(address.clone()),
            }
        }
        missing
    }

    /// Which of the open sockets are not wanted.
    pub(crate) fn extra(&self, wanted: &[Multiaddr]) -> Vec<ListenerId> {
        let mut wanted: Vec<_> = wanted.iter().collect();
        let mut extra = Vec::new();
        for open in self.present() {
            match wanted.iter().position(|address| **address == open.configured) {
                Some(index) => drop(wanted.swap_remove(index)),
                None => extra.push(open.id),
            }
        }
        extra
    }

    /// The sockets that are open, for [`Reservation::new`].
    pub(crate) fn held(&self) -> Vec<SocketAddr> {
        self.open.iter().filter_map(|open| tcp_socket(&open.bound)).collect()
    }

    pub(crate) fn opened(&mut self, id: ListenerId, configured: Multiaddr, bound: Multiaddr) {
        self.open.push(Open { id, configured, bound, closing: false });
    }

    pub(crate) fn closing(&mut self, id: ListenerId) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
            open.closing = true;
        }
    }

    /// A socket is closed. Gives its address if nobody had asked for that.
    pub(crate) fn closed(&mut self, id: ListenerId) -> Option<Multiaddr> {
        let index = self.open.iter().position(|open| open.id == id)?;
        let open = self.open.remove(index);
        (!open.closing).then_some(open.bound)
    }

    /// The addresses that are listened on: in the order of the configuration, then what is about to close. A wildcard
    /// stands once, as it is configured, with its real port.
    pub(crate) fn show(&self, wanted: &[Multiaddr]) -> Vec<Multiaddr> {
        let mut rest: Vec<_> = self.open.iter().collect();
        let mut shown = Vec::with_capacity(rest.len());
        for address in wanted {
            if let Some(index) = rest.iter().position(|open| open.configured == *address && !open.closing) {
                shown.push(rest.remove(index).bound.clone());
            }
        }
        shown.extend(rest.into_iter().map(|open| open.bound.clone()));
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn listeners(addresses: &[&str]) -> (Listeners, Vec<ListenerId>) {
        let mut listeners = Listeners::default();
        let ids = addresses.iter().map(|text| {
            let id = ListenerId::next();
            listeners.opened(id, address(text), address(text));
            id
        });
        let ids = ids.collect();
        (listeners, ids)
    }

    #[test]
    fn the_difference_counts_equal_entries_one_by_one() {
        let (mut listeners, ids) = listeners(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/7"]);
        let wanted = [address("/ip4/127.0.0.1/tcp/0"), address("/ip4/127.0.0.1/tcp/0")];
        assert_eq!(listeners.missing(&wanted), wanted[..1]);
        assert_eq!(listeners.extra(&wanted), ids[1..]);
        listeners.closing(ids[0]);
        assert_eq!(listeners.missing(&wanted), wanted, "what is closing is not there");
        assert_eq!(listeners.closed(ids[0]), None, "it was asked to");
        assert_eq!(listeners.closed(ids[1]), Some(address("/ip4/127.0.0.1/tcp/7")));
    }

    #[test]
    fn listeners_are_shown_in_the_order_of_the_configuration() {
        let (listeners, _) =
            listeners(&["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/3"]);
        let wanted = [address("/ip4/127.0.0.1/tcp/3"), address("/ip4/127.0.0.1/tcp/1")];
        let shown = listeners.show(&wanted);
        assert_eq!(shown, [wanted[0].clone(), wanted[1].clone(), address("/ip4/127.0.0.1/tcp/2")]);
    }

    #[test]
    fn a_port_that_someone_holds_is_refused_and_a_free_one_is_held_until_dropped() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = tcp_address(other.local_addr().unwrap());
        let error = Reservation::new(&taken, &[]).unwrap_err();
        assert!(matches!(error, ReserveError::InUse(_)), "{error}");
        assert!(error.to_string().contains(&taken.to_string()));
        let wildcard = address(&format!("/ip4/0.0.0.0/tcp/{}", other.local_addr().unwrap().port()));
        assert!(matches!(Reservation::new(&wildcard, &[]), Err(ReserveError::InUse(_))));
        assert!(Reservation::new(&wildcard, &[other.local_addr().unwrap()]).is_ok(), "it is our own");

        let free = Reservation::new(&address("/ip4/127.0.0.1/tcp/0"), &[]).unwrap();
        let socket = tcp_socket(&free.bound).unwrap();
        assert_ne!(socket.port(), 0);
        std::net::TcpStream::connect(socket).expect_err("a reservation takes no traffic");
        drop(free);
        Reservation::new(&tcp_address(socket), &[]).expect("given back");
    }

    #[test]
    fn what_cannot_be_listened_on_says_so() {
        for text in ["/dns4/localhost/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1"] {
            assert!(matches!(Reservation::new(&address(text), &[]), Err(ReserveError::Form(_))), "{text}");
        }
        let nowhere = Reservation::new(&address("/ip4/192.0.2.1/tcp/0"), &[]);
        assert!(matches!(nowhere, Err(ReserveError::NoInterface(_))));
    }
}
