//! The signals of the process as a stream.
//!
//! Registered as the first thing inside the runtime, before the configuration is read: a SIGHUP that comes while the program
//! starts must neither kill it nor be lost. Signals of a burst may arrive as one; the last one is never lost, because it
//! is read after the work that it asks for could have begun.

use std::fmt;
use std::io;

use futures::{Stream, StreamExt};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook_tokio::SignalsInfo;

/// What a signal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload.
    Reload(Sender),
    /// SIGTERM or SIGINT: stop.
    Stop(Sender),
}

/// Who sent a signal, as far as the kernel tells. Of a burst, one of the senders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The process and the user it ran as.
    pub process: Option<(i32, u32)>,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some((pid, uid)) => write!(f, "uid:{uid} pid:{pid}"),
            None => f.write_str("unknown"),
        }
    }
}

/// Registers the handlers and returns the stream of signals.
///
/// # Errors
/// If the handlers cannot be registered.
///
/// # Panics
/// Outside a tokio runtime.
pub fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    let signals = SignalsInfo::<WithOrigin>::new([SIGHUP, SIGTERM, SIGINT])?;
    Ok(signals.map(|origin| {
        let sender = Sender { process: origin.process.map(|p| (p.pid, p.uid)) };
        if origin.signal == SIGHUP { Signal::Reload(sender) } else { Signal::Stop(sender) }
    }))
}
