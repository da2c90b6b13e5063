//! The signals of the process as a stream, and how they are held back while something must not be cut in two.
//!
//! [`listen`] registers the handlers as the first thing inside the runtime, before the configuration is read: a SIGHUP that
//! comes while the program starts must neither kill it nor be lost. [`Signals`] is what a program reads. Any stream can stand
//! for the real one, so that the whole path runs in a unit test.
//!
//! # Holding signals back
//!
//! A *critical section* is a change in several steps that makes sense only as a whole: a key is generated, written into a file and
//! used; a record is written and then told. A reload or a stop in the middle of it would meet half of it. While a
//! [`Hold`] lives, [`Signals`] yields neither:
//!
//! ```
//! # use reload::signal::{Signal, Signals};
//! # use std::time::Duration;
//! # fn write_both_files() {}
//! # fn example(listened: impl futures::Stream<Item = Signal> + Unpin) {
//! let (signals, holder) = Signals::new(listened, Duration::from_secs(2));
//! {
//!     let _hold = holder.hold();
//!     write_both_files();
//! } // What came meanwhile is there now.
//! # drop(signals);
//! # }
//! ```
//!
//! - Holds nest and are counted, from any thread. A guard lets go when it is dropped, by a panic too.
//! - Nothing is lost: any number of reloads are one reload (of the newest sender), which is read after the last of them came.
//! - A stop is kept for at most the limit, counted from when the stream saw it: a critical section that hangs does not keep a program alive. A
//!   second stop means it, and lets both through at once; so does any that comes after the first was let through.
//! - A stop overtakes reloads: what it stops has no use for them, and a flood of them cannot starve it.
//! - A flood costs bounded work: one reload is kept whatever comes, and at most two stops.

mod hold;
mod listen;

use std::fmt;

pub use hold::{Hold, Holder, Signals};
pub use listen::listen;

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

#[cfg(test)]
mod tests;
