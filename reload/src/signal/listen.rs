//! The real signals.

use std::io;

use futures::Stream;

use super::{Sender, Signal};

/// Registers the handlers and returns the stream of signals: SIGHUP, SIGTERM and SIGINT. Signals of a burst may arrive as one;
/// the last one is never lost, because it is read after the work that it asks for could have begun.
///
/// # Errors
/// If the handlers cannot be registered.
///
/// # Panics
/// Outside a tokio runtime.
#[cfg(unix)]
pub fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    use futures::StreamExt as _;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::exfiltrator::origin::WithOrigin;

    let signals = signal_hook_tokio::SignalsInfo::<WithOrigin>::new([SIGHUP, SIGTERM, SIGINT])?;
    Ok(signals.map(|origin| {
        let sender = Sender { process: origin.process.map(|p| (p.pid, p.uid)) };
        if origin.signal == SIGHUP { Signal::Reload(sender) } else { Signal::Stop(sender) }
    }))
}

/// Registers the handler of the console's interrupt (Ctrl-C), which is a stop. There is no SIGHUP here: who wants a reload asks by
/// the API (R26).
///
/// # Errors
/// Never here; each interrupt that cannot be waited for ends the stream.
#[cfg(not(unix))]
pub fn listen() -> io::Result<impl Stream<Item = Signal> + Unpin> {
    Ok(Box::pin(futures::stream::unfold((), |()| async {
        let interrupt = tokio::signal::ctrl_c().await;
        interrupt.ok().map(|()| (Signal::Stop(Sender::default()), ()))
    })))
}
