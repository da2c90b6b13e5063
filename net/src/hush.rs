//! How much strangers can make this node write into its log.
//!
//! What they do at a rate of their own choice is an event each, but of each address only so many are written, and of all
//! together; the rest is counted, and the count is written when the window is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::Block;
use crate::pool::Pool;

/// Events of one address, or IPv6 /64, in one window.
const EVENTS: u32 = 20;
/// Events of all addresses in one window: a flood from a whole network of machines costs some hundred lines a minute.
const TOTAL: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);

/// What is written one by one, within bounds. Each kind has bounds of its own, so that none silences another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A peer was turned away.
    Denied,
    /// A peer broke the rules of a protocol.
    Violation,
    /// Connections of peers that are no members come and go.
    Stranger,
}

/// Says what may be written. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Hush {
    windows: Arc<[Mutex<Window>; Kind::ALL.len()]>,
    pool: Pool,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    /// By address: at most [`TOTAL`] entries.
    events: HashMap<Option<Block>, u32>,
    written: u32,
    left_out: u64,
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 3] = [Self::Denied, Self::Violation, Self::Stranger];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "peer_denied",
            Self::Violation => "a peer broke the rules of a protocol",
            Self::Stranger => "connections of strangers",
        }
    }
}

// === impl Hush ===

impl Hush {
    /// The count of what is left out is written by this pool's permanent thread.
    pub(crate) fn new(pool: Pool) -> Self {
        Self { windows: Arc::new(Kind::ALL.map(|_| Mutex::default())), pool }
    }

    /// Whether one more event of this kind may be written. To be asked once for each: those that may not are counted.
    pub(crate) fn may_say(&self, kind: Kind, whose: Option<Block>) -> bool {
        let mut window = self.window(kind).lock().unwrap_or_else(PoisonError::into_inner);
        let may = window.admit(whose, Instant::now());
        if window.left_out == 1 && !may {
            let hush = self.clone();
            self.pool.spawn_for_good(async move {
                // The window itself: the count is written when it is over.
                tokio::time::sleep(WINDOW).await;
                hush.settle(kind);
            });
        }
        may
    }

    fn settle(&self, kind: Kind) {
        let left_out = {
            let mut window = self.window(kind).lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut window.left_out)
        };
        tracing::warn!(
            of = kind.as_str(),
            left_out,
            seconds = WINDOW.as_secs(),
            "events were left out of the log"
        );
    }

    fn window(&self, kind: Kind) -> &Mutex<Window> {
        &self.windows[kind as usize]
    }
}

// === impl Window ===

impl Window {
    fn admit(&mut self, whose: Option<Block>, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.events.clear();
            self.written = 0;
        }
        let of_address = self.events.get(&whose).copied().unwrap_or_default();
        let may = self.written < TOTAL && of_address < EVENTS;
        if may {
            self.written = self.written.saturating_add(1);
            self.events.insert(whose, of_address.saturating_add(1));
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn block(n: u32) -> Option<Block> {
        Some(Block::of(IpAddr::from(n.to_be_bytes())))
    }

    #[test]
    fn one_address_cannot_fill_the_log_and_others_are_still_heard() {
        let (mut window, now) = (Window::default(), Instant::now());
        let heard = (0..1000).filter(|_| window.admit(block(1), now)).count();
        assert_eq!(heard, EVENTS as usize);
        assert!(window.admit(block(2), now));
        assert_eq!(window.left_out, 1000 - u64::from(EVENTS));
        assert!(window.admit(block(1), now + WINDOW), "a new window");
    }

    #[test]
    fn many_addresses_cannot_fill_it_either() {
        let (mut window, now) = (Window::default(), Instant::now());
        let heard = (0..100_000).filter(|n| window.admit(block(*n), now)).count();
        assert_eq!(heard, TOTAL as usize);
        assert_eq!(window.left_out, 100_000 - u64::from(TOTAL));
        assert!(window.events.len() <= TOTAL as usize);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (mut window, now) = (Window::default(), Instant::now());
        let of = |n: u128| Some(Block::of(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into()));
        assert_eq!((0..100).filter(|n| window.admit(of(*n), now)).count(), EVENTS as usize);
    }

    #[test]
    fn one_kind_does_not_silence_another() {
        let hush = Hush::new(Pool::start(1).unwrap());
        while hush.may_say(Kind::Denied, block(1)) {}
        assert!(hush.may_say(Kind::Violation, block(1)));
        hush.settle(Kind::Denied);
        assert!(!hush.may_say(Kind::Denied, block(1)), "the count was written, the window goes on");
    }
}
