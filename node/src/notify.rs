//! systemd's notify protocol (sd_notify(3)): nothing is sent where `NOTIFY_SOCKET` is not set. Written here because it is a
//! datagram, and the crates that send it know no abstract sockets or want `unsafe`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use reload::fault;
use rustix::time::{ClockId, clock_gettime};

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

// === impl Notice ===

impl Notice<'_> {
    fn text(&self) -> String {
        match self {
            Self::Ready => "READY=1\n".to_owned(),
            // Without the time, `Type=notify-reload` waits for ever (systemd.service(5)).
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_usec()),
            // A status is one line.
            Self::Reloaded(status) => format!("READY=1\nSTATUS={}\n", status.replace(['\n', '\r'], " ")),
            Self::Stopping => "STOPPING=1\n".to_owned(),
            Self::Watchdog => "WATCHDOG=1\n".to_owned(),
        }
    }
}

/// Tells the supervisor, without waiting for it. A supervisor that cannot be told is logged, no more: the node does not live
/// by it.
pub fn notify(notice: &Notice<'_>) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, notice.text().as_bytes()) {
        tracing::warn!(%error, socket = %socket.display(), ?notice, "the supervisor was not told");
    }
}

/// How often the watchdog wants to hear from the node: half of what the supervisor allows (sd_watchdog_enabled(3)).
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    // Meant for another process of the unit?
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|usec| *usec > 0).map(|usec| Duration::from_micros(usec) / 2)
}

fn send(socket: &OsStr, text: &[u8]) -> io::Result<()> {
    fault::io("supervisor::notify")?;
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(text, &address).map(drop)
}

fn monotonic_usec() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(now.tv_nsec / 1000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(Notice::Reloaded("a\nREADY=0").text(), "READY=1\nSTATUS=a READY=0\n");
    }

    #[test]
    fn both_kinds_of_sockets_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("fednode-notify-test-{}", std::process::id());
        let there = UnixDatagram::bind(&path).unwrap();
        let nowhere =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        for (socket, name) in [(there, path.into_os_string()), (nowhere, format!("@{abstract_name}").into())]
        {
            send(&name, b"READY=1\n").unwrap();
            let mut text = [0; 64];
            let size = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..size], b"READY=1\n");
        }
    }
}
