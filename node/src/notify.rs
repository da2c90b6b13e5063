//! systemd's notify protocol (sd_notify(3)): nothing is sent where `NOTIFY_SOCKET` is not set.

use std::time::Duration;

use sd_notify::NotifyState;

/// What the supervisor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The node serves.
    Ready,
    /// A reload begins.
    Reloading,
    /// A reload has ended so.
    Reloaded(&'a str),
    /// The node stops.
    Stopping,
    /// The node is alive.
    Watchdog,
}

/// Tells the supervisor. A supervisor that cannot be told is logged, no more: the node does not live by it.
pub fn notify(notice: &Notice<'_>) {
    let sent = match notice {
        Notice::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Notice::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        Notice::Reloaded(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
        Notice::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Notice::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, ?notice, "the supervisor was not told");
    }
}

/// How often the watchdog wants to hear from the node: half of what the supervisor allows (sd_watchdog_enabled(3)).
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}
