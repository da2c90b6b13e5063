//! Listeners that nobody can reach: seen, said, and opened again, without end and without taking the node down.

use std::time::Instant;

use super::{Network, start};
use crate::listeners::{self, Reservation};

// === impl Network ===

impl Network {
    /// Looks after the listeners, if it is time for that.
    pub(super) fn recover(&mut self, now: Instant) {
        let mut changed = false;
        for (address, away) in self.listeners.look(now, listeners::is_here) {
            changed = true;
            if away {
                tracing::error!(%address, "a listener's address is on no interface any more; it works again when it is back");
            } else {
                tracing::info!(%address, "a listener's address is back");
            }
        }
        for address in self.listeners.due(now) {
            changed = true;
            match self.open_again(&address) {
                Ok(()) => tracing::info!(%address, "a listener is open again"),
                Err(error) => {
                    tracing::warn!(%address, %error, "a listener cannot be opened again yet");
                    self.listeners.failed(&address, error);
                }
            }
        }
        if changed {
            self.show_listeners();
        }
    }

    /// On the port that it had, also where the configuration leaves that open: peers know it.
    fn open_again(&mut self, bound: &libp2p::Multiaddr) -> Result<(), String> {
        let held = start::held(&self.listeners, &self.view);
        let reservation = Reservation::new(bound, &held).map_err(|error| error.to_string())?;
        start::open(&mut self.swarm, &mut self.listeners, &self.pool, reservation).map_err(|(_, error)| error)
    }
}
