//! The listening sockets: which are wanted, which are open, which are to be opened again, and how one is reserved before it is
//! opened.
//!
//! libp2p sets `SO_REUSEPORT` on the TCP sockets that it listens on, so that a second process gets the same port without an
//! error. A port is therefore reserved first by a socket without that option, bound but not listening: it takes no traffic, and
//! it fails where anybody else holds the port. A port 0 is settled by the reservation, too, so that the number is known from
//! the start.
//!
//! Connections that came in over a QUIC listener live on its socket, so that one is never closed under them: see `quic`.

mod reservation;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;

use crate::view::FailingListener;
use crate::view::listening::Listening;
use crate::{Endpoint, Transport};
pub(crate) use reservation::{CLOSING, is_free, patiently};
pub use reservation::{Held, Reservation, ReserveError, Standing, probe};

/// The pause before a listener that closed by itself is opened again the first time; it doubles up to [`SLOWEST`].
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause between tries. The port is the operator's word to the peers: the node never gives it up.
const SLOWEST: Duration = Duration::from_secs(60);
/// How often it is looked whether the addresses that are listened on are still on an interface. Asked, not watched: a
/// container may forbid netlink, and a bind costs microseconds.
const LOOK: Duration = Duration::from_secs(2);

/// The listening sockets.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    entries: Vec<Entry>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    configured: Multiaddr,
    bound: Multiaddr,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Open. Its address may be on no interface for now: the socket works again when it is back.
    Open { id: ListenerId, away: bool },
    /// Asked to close; counts as gone.
    Closing { id: ListenerId },
    /// Closed by itself, to be opened again.
    Lost { since: Instant, why: String, failures: u32, at: Instant },
}

// === impl Entry ===

impl Entry {
    fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost { .. })
    }

    fn id(&self) -> Option<ListenerId> {
        match self.state {
            State::Open { id, .. } | State::Closing { id } => Some(id),
            State::Lost { .. } => None,
        }
    }

    /// The address that it stands or falls with.
    fn watched(&self) -> Option<IpAddr> {
        let ip = Endpoint::of(&self.bound)?.address.ip();
        (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
    }
}

// === impl Listeners ===

impl Listeners {
    /// Which of the wanted addresses are neither open nor about to be opened again. Several entries may be equal (`/tcp/0`):
    /// each wants a socket.
    pub(crate) fn missing(&self, wanted: &[Multiaddr]) -> Vec<Multiaddr> {
        let present = self.entries.iter().filter(|entry| !entry.is_closing());
        let mut present: Vec<_> = present.map(|entry| &entry.configured).collect();
        let mut missing = Vec::new();
        for address in wanted {
            match present.iter().position(|open| *open == address) {
                Some(index) => drop(present.swap_remove(index)),
                None => missing.push(address.clone()),
            }
        }
        missing
    }

    /// Which of the open sockets are not wanted. Those that would have been opened again, and are not wanted, are forgotten.
    pub(crate) fn extra(&mut self, wanted: &[Multiaddr]) -> Vec<ListenerId> {
        let mut wanted: Vec<_> = wanted.iter().collect();
        let mut extra = Vec::new();
        self.entries.retain(|entry| {
            if entry.is_closing() {
                return true;
            }
            match wanted.iter().position(|address| **address == entry.configured) {
                Some(index) => {
                    wanted.swap_remove(index);
                    true
                }
                None => {
                    extra.extend(entry.id());
                    !entry.is_lost()
                }
            }
        });
        extra
    }

    /// The TCP sockets that are open, for [`Reservation::new`]; the QUIC endpoints are in the view.
    pub(crate) fn held(&self) -> Vec<Held> {
        let open = self.entries.iter().filter(|entry| !entry.is_lost());
        let endpoints = open.filter_map(|entry| Endpoint::of(&entry.bound));
        endpoints.filter(|held| held.transport == Transport::Tcp).map(Held::listening).collect()
    }

    /// A socket was opened: for a new entry, or for one that had lost its own.
    pub(crate) fn opened(&mut self, id: ListenerId, configured: Multiaddr, bound: Multiaddr) {
        let state = State::Open { id, away: false };
        let lost = self.entries.iter_mut().find(|entry| entry.is_lost() && entry.bound == bound);
        match lost {
            Some(entry) => entry.state = state,
            None => self.entries.push(Entry { configured, bound, state }),
        }
    }

    pub(crate) fn closing(&mut self, id: ListenerId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id() == Some(id)) {
            entry.state = State::Closing { id };
        }
    }

    /// A socket is closed. Gives its address if nobody had asked for that: it will be opened again.
    pub(crate) fn closed(&mut self, id: ListenerId, why: &io::Result<()>, now: Instant) -> Option<Multiaddr> {
        let index = self.entries.iter().position(|entry| entry.id() == Some(id))?;
        if self.entries[index].is_closing() {
            self.entries.remove(index);
            return None;
        }
        let why = why.as_ref().err().map_or_else(|| "it closed by itself".to_owned(), ToString::to_string);
        let entry = &mut self.entries[index];
        entry.state = State::Lost { since: now, why, failures: 0, at: now + FIRST };
        Some(entry.bound.clone())
    }

    /// The listeners that are open: in the order of the configuration, then what is about to close. A wildcard stands once, as
    /// it is configured, with its real port.
    pub(crate) fn show(&self, wanted: &[Multiaddr]) -> Vec<Listening> {
        let mut rest: Vec<_> = self.entries.iter().filter(|entry| !entry.is_lost()).collect();
        let mut shown = Vec::with_capacity(rest.len());
        for address in wanted {
            let open = |entry: &&Entry| entry.configured == *address && !entry.is_closing();
            if let Some(index) = rest.iter().position(open) {
                shown.push(rest.remove(index));
            }
        }
        shown.extend(rest);
        let listening =
            |entry: &Entry| Listening { configured: entry.configured.clone(), bound: entry.bound.clone() };
        shown.into_iter().map(listening).collect()
    }

    /// The listeners that cannot be reached, each with the reason.
    pub(crate) fn failing(&self) -> Vec<FailingListener> {
        let failing = |entry: &Entry| {
            let error = match &entry.state {
                State::Lost { why, .. } => why.clone(),
                State::Open { away: true, .. } => "its address is on no interface of this machine".to_owned(),
                State::Open { away: false, .. } | State::Closing { .. } => return None,
            };
            Some(FailingListener { address: entry.bound.clone(), error })
        };
        self.entries.iter().filter_map(failing).collect()
    }

    /// The first address of a listener that was lost at this time or later.
    pub(crate) fn lost_since(&self, began: Instant) -> Option<&Multiaddr> {
        let lost = |entry: &&Entry| matches!(entry.state, State::Lost { since, .. } if since >= began);
        self.entries.iter().find(lost).map(|entry| &entry.bound)
    }

    /// The lost ones that are to be tried now, by the address that they had. Each counts as having failed again until it is
    /// [`Listeners::opened`].
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Multiaddr> {
        let mut due = Vec::new();
        for entry in &mut self.entries {
            if let State::Lost { failures, at, .. } = &mut entry.state
                && *at <= now
            {
                *failures = failures.saturating_add(1);
                *at = now + FIRST.saturating_mul(2u32.saturating_pow(*failures)).min(SLOWEST);
                due.push(entry.bound.clone());
            }
        }
        due
    }

    /// Why a lost one could not be opened.
    pub(crate) fn failed(&mut self, bound: &Multiaddr, error: String) {
        for entry in self.entries.iter_mut().filter(|entry| entry.bound == *bound) {
            if let State::Lost { why, .. } = &mut entry.state {
                why.clone_from(&error);
            }
        }
    }

    /// Looks, if it is time for that, whether the addresses are still there. Gives those for which that has changed.
    pub(crate) fn look(&mut self, now: Instant, is_here: impl Fn(IpAddr) -> bool) -> Vec<(Multiaddr, bool)> {
        if self.looked.is_some_and(|looked| now < looked + LOOK) {
            return Vec::new();
        }
        self.looked = Some(now);
        let mut changed = Vec::new();
        for entry in &mut self.entries {
            let Some(ip) = entry.watched() else { continue };
            if let State::Open { away, .. } = &mut entry.state
                && *away == is_here(ip)
            {
                *away = !*away;
                changed.push((entry.bound.clone(), *away));
            }
        }
        changed
    }

    /// When [`Listeners::due`] or [`Listeners::look`] next has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        let lost = self.entries.iter().filter_map(|entry| match entry.state {
            State::Lost { at, .. } => Some(at),
            _ => None,
        });
        let watches = self.entries.iter().any(|entry| !entry.is_lost() && entry.watched().is_some());
        let look = watches.then_some(self.looked).flatten().map(|looked| looked + LOOK);
        lost.chain(look).min()
    }
}

/// Whether an interface has this address: the system gives no socket on one that it does not have. (With `ip_nonlocal_bind` it
/// gives one on any, and then none is ever missed.)
pub(crate) fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).err().is_none_or(|error| error.kind() != io::ErrorKind::AddrNotAvailable)
}
