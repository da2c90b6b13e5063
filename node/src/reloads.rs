//! What the reload engine does, as it does it, for whoever listens (contract: `/v1/events`).

use reload::events::{Event, Sink};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// How many events a listener may be behind; then it misses the oldest, and is told how many.
const BEHIND: usize = 256;

/// Where the engine's events go in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads(broadcast::Sender<Value>);

/// The engine's events from now on.
#[derive(Debug)]
pub struct Listening(broadcast::Receiver<Value>);

// === impl Reloads ===

impl Default for Reloads {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Reloads {
    /// A listener.
    #[must_use]
    pub fn listen(&self) -> Listening {
        Listening(self.0.subscribe())
    }
}

impl Sink for Reloads {
    fn emit(&self, event: &Event<'_>) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let told = match event {
            Event::Entered(state) => json!({"event": "reload_state", "state": state.as_str()}),
            Event::Finished(outcome) => json!({"event": "reload_finished", "outcome": outcome}),
            Event::AwaitsConfirmation { generation, target, left } => json!({
                "event": "reload_awaits_confirmation",
                "generation": generation,
                "target": target,
                "left_s": left.as_secs(),
            }),
            Event::Confirmed { generation } => {
                json!({"event": "reload_confirmed", "generation": generation})
            }
            Event::Withdrawn => json!({"event": "reload_withdrawn"}),
            // The outcome has them all.
            Event::Stepped { .. } => return,
        };
        // Fails if the last listener left in this moment.
        let _ = self.0.send(told);
    }
}

// === impl Listening ===

impl Listening {
    /// The next event, or how many were missed. `None` when there is no engine any more.
    pub async fn next(&mut self) -> Option<Result<Value, u64>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
