//! How many streams services have open, and how much went through them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::PeerKey;
use tokio::sync::watch;

/// Streams of all services together, in both directions: each has a socket and up to 128 KiB of buffers.
pub const MAX_STREAMS: usize = 1024;
/// Streams of one service.
pub const MAX_STREAMS_PER_SERVICE: usize = 256;

/// Which service, as one entry of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// An entry of `expose`.
    Exposed(String),
    /// An entry of `connect`.
    Connected(SocketAddr, String, PeerKey),
}

/// The figures of one service. Kept over reloads that do not name it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// How many streams of whom are open. Bounded by [`MAX_STREAMS_PER_SERVICE`].
    open: Mutex<BTreeMap<PeerKey, usize>>,
    sent: AtomicU64,
    received: AtomicU64,
}

/// The figures of one service at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// Streams that are open.
    pub open: u64,
    /// Bytes that went to the peer, since the service was configured.
    pub sent: u64,
    /// Bytes that came from the peer.
    pub received: u64,
}

/// The figures of all services.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    meters: Mutex<BTreeMap<Role, Arc<Meter>>>,
    open: watch::Sender<usize>,
    /// Bytes in either direction: whether anything flows.
    moved: AtomicU64,
}

/// A stream's place among those that may be open; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    ledger: Arc<Ledger>,
    meter: Arc<Meter>,
    peer: PeerKey,
}

// === impl Role ===

impl Role {
    fn name(&self) -> &str {
        match self {
            Self::Exposed(name) | Self::Connected(_, name, _) => name,
        }
    }
}

// === impl Meter ===

impl Meter {
    fn read(&self) -> Metered {
        Metered {
            open: self.open().values().sum::<usize>() as u64,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<PeerKey, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ledger ===

impl Ledger {
    /// The meter of this service, the one before if there was one.
    pub(crate) fn meter(&self, role: Role) -> Arc<Meter> {
        let mut meters = self.meters();
        // Those that neither the configuration nor a stream has any more: bounded by the configuration and the streams.
        meters.retain(|other, meter| *other == role || Arc::strong_count(meter) > 1);
        Arc::clone(meters.entry(role).or_default())
    }

    /// A place for one more stream with this peer, if there is one.
    pub(crate) fn seat(self: &Arc<Self>, meter: &Arc<Meter>, peer: PeerKey) -> Option<Seat> {
        let mut of_service = meter.open();
        if of_service.values().sum::<usize>() >= MAX_STREAMS_PER_SERVICE {
            return None;
        }
        let is_free = self.open.send_if_modified(|open| {
            let is_free = *open < MAX_STREAMS;
            *open += usize::from(is_free);
            is_free
        });
        if !is_free {
            return None;
        }
        let of_peer = of_service.entry(peer).or_default();
        *of_peer = of_peer.saturating_add(1);
        // From here on its drop gives both back.
        Some(Seat { ledger: Arc::clone(self), meter: Arc::clone(meter), peer })
    }

    pub(crate) fn read(&self, role: &Role) -> Metered {
        self.meters().get(role).map(|meter| meter.read()).unwrap_or_default()
    }

    /// How many streams of this service are open with peers of whom this is true.
    pub(crate) fn open_with(&self, role: &Role, is_one: impl Fn(&PeerKey) -> bool) -> u64 {
        let Some(meter) = self.meters().get(role).map(Arc::clone) else { return 0 };
        let open = meter.open();
        open.iter().filter(|(peer, _)| is_one(peer)).map(|(_, open)| *open as u64).sum()
    }

    /// The services with open streams, in the order of their kind and name.
    pub(crate) fn in_use(&self) -> Vec<(Role, Metered)> {
        let meters = self.meters();
        let read = meters.iter().map(|(role, meter)| (role, meter.read()));
        read.filter(|(_, metered)| metered.open > 0).map(|(role, metered)| (role.clone(), metered)).collect()
    }

    /// By name: an exposed service and a connected one may share one.
    pub(crate) fn by_name(&self) -> BTreeMap<String, Metered> {
        let mut named: BTreeMap<String, Metered> = BTreeMap::new();
        for (role, meter) in self.meters().iter() {
            let (sum, one) = (named.entry(role.name().to_owned()).or_default(), meter.read());
            sum.open = sum.open.saturating_add(one.open);
            sum.sent = sum.sent.saturating_add(one.sent);
            sum.received = sum.received.saturating_add(one.received);
        }
        named
    }

    /// How many streams are open, to be waited for.
    pub(crate) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Goes up whenever anything flows.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn meters(&self) -> MutexGuard<'_, BTreeMap<Role, Arc<Meter>>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seat ===

impl Seat {
    /// So many bytes went to the peer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.meter.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.ledger.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes of the peer were taken by the local end.
    pub(crate) fn received(&self, bytes: usize) {
        self.meter.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.ledger.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.meter.open().entry(self.peer) {
            match open.get().checked_sub(1) {
                None | Some(0) => drop(open.remove()),
                Some(left) => *open.get_mut() = left,
            }
        }
        self.ledger.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn exposed(name: &str) -> Role {
        Role::Exposed(name.to_owned())
    }

    #[test]
    fn one_service_cannot_take_every_seat_and_all_together_no_more_than_there_are() {
        let (ledger, peer) = (Arc::new(Ledger::default()), Identity::generate().public_key());
        let mut seats = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let meter = ledger.meter(exposed(name));
            while let Some(seat) = ledger.seat(&meter, peer) {
                seats.push(seat);
            }
        }
        assert_eq!(seats.len(), MAX_STREAMS);
        assert_eq!(ledger.read(&exposed("a")).open, MAX_STREAMS_PER_SERVICE as u64);
        assert_eq!(ledger.read(&exposed("e")).open, 0, "the others have taken them all");
        drop(seats);
        assert_eq!(*ledger.open().borrow(), 0);
        assert!(ledger.by_name().values().all(|metered| metered.open == 0));
    }

    #[test]
    fn a_meter_lasts_as_long_as_anybody_has_it() {
        let (ledger, peer) = (Arc::new(Ledger::default()), Identity::generate().public_key());
        let seat = {
            let meter = ledger.meter(exposed("a"));
            ledger.seat(&meter, peer).unwrap()
        };
        seat.sent(7);
        let _other = ledger.meter(exposed("b"));
        assert_eq!(ledger.read(&exposed("a")), Metered { open: 1, sent: 7, received: 0 });
        drop(seat);
        let _other = ledger.meter(exposed("c"));
        assert_eq!(ledger.by_name().keys().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn streams_are_counted_by_peer() {
        let ledger = Arc::new(Ledger::default());
        let (one, other) = (Identity::generate().public_key(), Identity::generate().public_key());
        let meter = ledger.meter(exposed("a"));
        let [first, second, third] = [one, one, other].map(|peer| ledger.seat(&meter, peer).unwrap());
        let open_with = |who| ledger.open_with(&exposed("a"), |peer| *peer == who);
        assert_eq!((open_with(one), open_with(other)), (2, 1));
        assert_eq!(ledger.open_with(&exposed("b"), |_| true), 0);
        assert_eq!(ledger.in_use(), [(exposed("a"), Metered { open: 3, sent: 0, received: 0 })]);
        drop((first, third));
        assert_eq!((open_with(one), open_with(other)), (1, 0));
        drop(second);
        assert!(ledger.in_use().is_empty());
    }
}
