//! What drives the socket of an endpoint.
//!
//! quinn closes a socket when the last connection on it has drained, three times its probe timeout after its end (RFC 9000, 10.2).
//! That timeout follows the round trips that were measured: of a peer that had stood still for a minute it is more than a minute, and a
//! port that was given up would stay taken for that long, also for the next configuration of this very node. Draining is not worth
//! that: what it hears is dropped, or answered with the same goodbye once more. So each endpoint is driven by a thread of its own, and
//! when the endpoint is closed, the thread ends after the last words; quinn then takes everything that is left for lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::EnterGuard;

use crate::pool::Workers;

/// So long after the end of its last connection the socket of a closed endpoint is still driven. Goodbyes are sent within one turn of
/// the connections' tasks.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// See the module. `None` where the machine has no thread: then the socket is driven by whoever opens it, and drains as quinn
/// wants.
pub(super) struct Thread(Option<Arc<Workers>>);

// === impl Thread ===

impl Thread {
    pub(super) fn start() -> Self {
        let workers = Workers::of_endpoint().inspect_err(
            |error| tracing::info!(%error, "no thread for a QUIC endpoint: its port may stay taken for a while after it is closed"),
        );
        Self(workers.ok().map(Arc::new))
    }

    /// Makes this what drives the sockets that are opened on the caller's thread, while the guard lives.
    pub(super) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_deref().map(Workers::enter)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(workers) = &self.0 {
            workers.linger(LAST_WORDS);
        }
    }
}
