//! Endpoints that are closed while their ports are not free yet.
//!
//! The socket of an endpoint that libp2p has closed stays until the connections on it have said their last words (0.1 s on one
//! machine, and half a second at the most: see `thread`). Nobody tells when it is gone, so the system is asked.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::Endpoint;
use crate::listeners::{CLOSING, is_free};

/// How often the system is asked: a bind costs microseconds.
const LOOK: Duration = Duration::from_millis(5);
/// So many are watched; the oldest is forgotten for another.
const MOST: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// The newest first.
    ports: Vec<(Endpoint, Instant)>,
    /// What the sockets belong to, and the clock: it outlives every pool of workers.
    runtime: Option<Handle>,
    look: Option<Pin<Box<Sleep>>>,
}

// === impl Closed ===

impl Closed {
    /// To be called where sockets are opened.
    pub(super) fn set_runtime(&mut self) {
        self.runtime = Handle::try_current().ok();
    }

    /// One is closed now.
    pub(super) fn push(&mut self, endpoint: Endpoint) {
        self.ports.truncate(MOST - 1);
        self.ports.insert(0, (endpoint, Instant::now()));
    }

    /// Their ports are in use again.
    pub(super) fn taken(&mut self, endpoint: &Endpoint) {
        self.ports.retain(|(closed, _)| !closed.overlaps(endpoint));
    }

    /// Those whose ports may be taken, and since when they are closed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Endpoint, Instant)> + Clone + '_ {
        self.ports.iter().copied()
    }

    /// Forgets those whose ports are free, and has the task woken while there are others.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let (false, Some(runtime)) = (self.ports.is_empty(), &self.runtime) {
            let _entered = runtime.enter();
            // The system tells nobody when a port is free.
            let look = self.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
            if look.as_mut().poll(cx).is_pending() {
                return;
            }
            self.look = None;
            // One that is taken for longer is somebody else's.
            self.ports.retain(|(endpoint, since)| since.elapsed() < CLOSING && !is_free(endpoint));
        }
        self.look = None;
    }
}
