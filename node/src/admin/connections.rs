//! The connections of the TCP side: how many there may be, and which of them goes when there are too many.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ServerConfig;
use tokio::sync::{Notify, watch};

/// The most connections at a time: a team, its dashboards and its scripts many times over, and a small part of the descriptors.
pub const MAX_CONNECTIONS: usize = 256;

/// All connections, of every listener, old and new.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    open: watch::Sender<usize>,
    /// The node stops: whoever has nothing under way goes.
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    by_id: BTreeMap<u64, Arc<Connection>>,
}

/// One connection, as its stream, its requests and the table see it.
#[derive(Debug)]
pub struct Connection {
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// The TLS that it was accepted under.
    pub tls: Option<Arc<ServerConfig>>,
    /// Its listener does not listen any more.
    retired: Arc<AtomicBool>,
    /// Requests whose answer is not out.
    requests: AtomicUsize,
    /// Whether an answer waits for its reader.
    unwritten: AtomicBool,
    /// Since when it has had nothing under way.
    idle_since: Mutex<Instant>,
    /// It has to go.
    end: Notify,
}

/// A connection's place in the table. Dropped, it is free.
#[derive(Debug)]
pub struct Seat {
    id: u64,
    connection: Arc<Connection>,
    connections: Connections,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Answering(Arc<Connection>);

// === impl Connections ===

impl Default for Connections {
    fn default() -> Self {
        let (table, open) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Inner { table, open, closing: AtomicBool::new(false) }))
    }
}

impl Connections {
    /// Takes a connection in. Where there are too many, the one that has had nothing under way for longest goes: one that is silent,
    /// slow to say what it wants, or kept open in case.
    ///
    /// `None` if all are busy.
    #[must_use]
    pub fn admit(&self, connection: Connection) -> Option<Seat> {
        let connection = Arc::new(connection);
        let mut table = self.table();
        if table.by_id.len() >= MAX_CONNECTIONS {
            let idle = table.by_id.iter().filter_map(|(id, other)| Some((other.idle_since()?, *id)));
            let (_, oldest) = idle.min()?;
            let gone = table.by_id.remove(&oldest)?;
            gone.end.notify_one();
        }
        let id = table.next;
        table.next += 1;
        table.by_id.insert(id, Arc::clone(&connection));
        self.0.open.send_replace(table.by_id.len());
        Some(Seat { id, connection, connections: self.clone() })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Lets requests that are under way end, and all else at once. Returns when no connection is left.
    pub async fn close(&self) {
        self.0.closing.store(true, Ordering::SeqCst);
        for connection in self.table().by_id.values() {
            if connection.idle_since().is_some() {
                connection.end.notify_one();
            }
        }
        // Fails only without a sender, and this is one.
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }

    fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::SeqCst)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Connection ===

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(peer: SocketAddr, tls: Option<Arc<ServerConfig>>, retired: Arc<AtomicBool>) -> Self {
        Self {
            peer,
            tls,
            retired,
            requests: AtomicUsize::new(0),
            unwritten: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            end: Notify::new(),
        }
    }

    /// A request arrived.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Answering {
        self.requests.fetch_add(1, Ordering::SeqCst);
        Answering(Arc::clone(self))
    }

    /// Whether its listener does not listen any more: it ends with the answer that is being given.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Whether an answer waits for its reader.
    pub fn set_unwritten(&self, unwritten: bool) {
        self.unwritten.store(unwritten, Ordering::SeqCst);
    }

    fn idle_since(&self) -> Option<Instant> {
        let busy = self.requests.load(Ordering::SeqCst) > 0 || self.unwritten.load(Ordering::SeqCst);
        (!busy).then(|| *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Seat ===

impl Seat {
    /// Whose it is.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Returns when the connection has to go.
    pub async fn revoked(&self) {
        if self.connections.is_closing() && self.connection.idle_since().is_some() {
            return;
        }
        self.connection.end.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        // Not there if it was revoked.
        table.by_id.remove(&self.id);
        self.connections.0.open.send_replace(table.by_id.len());
    }
}

// === impl Answering ===

impl Drop for Answering {
    fn drop(&mut self) {
        let Self(connection) = self;
        *connection.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        connection.requests.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn connection() -> Connection {
        Connection::new(([127, 0, 0, 1], 1).into(), None, Arc::default())
    }

    #[test]
    fn the_one_that_was_silent_for_longest_makes_room() {
        let connections = Connections::default();
        let mut seats: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| connections.admit(connection()).unwrap()).collect();
        let busy: Vec<_> =
            seats.iter().filter(|seat| seat.id != 7).map(|seat| seat.connection.begin()).collect();
        assert_eq!(connections.count(), MAX_CONNECTIONS);
        let newest = connections.admit(connection()).expect("number 7 makes room");
        assert!(!connections.table().by_id.contains_key(&7));
        let _busy = newest.connection.begin();
        assert!(connections.admit(connection()).is_none(), "all are busy");
        assert_eq!(connections.count(), MAX_CONNECTIONS);
        drop(busy);
        assert!(connections.admit(connection()).is_some());
        seats.clear();
        drop(newest);
        assert_eq!(connections.count(), 0);
    }

    #[tokio::test]
    async fn at_the_end_the_idle_go_at_once_and_the_busy_when_they_are_done() {
        let connections = Connections::default();
        let (idle, busy) =
            (connections.admit(connection()).unwrap(), connections.admit(connection()).unwrap());
        let answering = busy.connection.begin();
        let mut revoked = polled(idle.revoked());
        assert!(revoked().is_none());
        let mut closed = polled(connections.close());
        assert!(closed().is_none());
        assert!(revoked().is_some(), "who waits for it is told");
        drop(revoked);
        drop(idle);
        assert!(closed().is_none(), "one has a request under way");
        let late = connections.admit(connection()).unwrap();
        late.revoked().await;
        drop(late);
        drop(answering);
        busy.revoked().await;
        drop(busy);
        assert!(closed().is_some());
    }

    /// Polls once, each time it is called.
    fn polled(future: impl Future<Output = ()>) -> impl FnMut() -> Option<()> {
        let mut future = Box::pin(future);
        move || future.as_mut().now_or_never()
    }
}
