//! Local connections that wait for a stream to a member: a line for each peer, which any connection to it serves.
//!
//! As with the outboxes, the line belongs to the peer and not to a connection: one that is lost before the member has
//! answered loses nobody who waits.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::PeerKey;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::meter::{Meter, Seat};

/// Where the connections of a local listener go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) listen: SocketAddr,
    pub(crate) service: String,
    pub(crate) peer: PeerKey,
    pub(crate) meter: Arc<Meter>,
}

/// A local connection on its way to a member.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) number: u64,
    pub(super) socket: TcpStream,
    pub(super) route: Arc<Route>,
    pub(super) seat: Seat,
    /// Until then it may wait in line.
    pub(super) until: Instant,
    /// How often it was asked for on a stream that broke before the answer.
    pub(super) tries: u32,
    /// Dropped with the call: nobody needs to look after it any more.
    pub(super) _waits: oneshot::Sender<()>,
}

/// So often a call goes back into the line.
const TRIES: u32 = 3;

/// The calls that wait for one peer, in order. Bounded by the seats.
#[derive(Debug, Default)]
pub(crate) struct Line {
    calls: Mutex<VecDeque<Call>>,
    changed: Notify,
}

/// A call that was taken out of the line; back in it when dropped before [`Taken::keep`], if it may still wait.
#[derive(Debug)]
pub(crate) struct Taken {
    call: Option<Call>,
    line: Arc<Line>,
}

// === impl Line ===

impl Line {
    /// A new call, at the end.
    pub(super) fn push(&self, call: Call) {
        self.calls().push_back(call);
        self.changed.notify_waiters();
    }

    /// Takes this call back, if nobody has taken it yet.
    pub(super) fn withdraw(&self, number: u64) -> Option<Call> {
        let mut calls = self.calls();
        let index = calls.iter().position(|call| call.number == number)?;
        calls.remove(index)
    }

    /// Waits for a call, and takes it.
    pub(super) async fn next(self: Arc<Self>) -> Taken {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no call falls between the two.
            changed.as_mut().enable();
            let call = self.calls().pop_front();
            if call.is_some() {
                return Taken { call, line: Arc::clone(&self) };
            }
            changed.await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls().is_empty()
    }

    fn calls(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Taken ===

impl Taken {
    /// Which service it asks for.
    pub(super) fn service(&self) -> &str {
        self.call.as_ref().map(|call| call.route.service.as_str()).unwrap_or_default()
    }

    /// Whether it would go back into the line.
    pub(super) fn may_return(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.tries < TRIES && Instant::now() < call.until)
    }

    /// It will not go back into the line.
    pub(super) fn keep(mut self) -> Option<Call> {
        self.call.take()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.may_return()
            && let Some(mut call) = self.call.take()
        {
            call.tries = call.tries.saturating_add(1);
            self.line.calls().push_front(call);
            self.line.changed.notify_waiters();
        }
    }
}
