//! The same event over and over is written so many times and then counted.
//!
//! "The same" is to the letter: callsite, message and every field. A loop that fails the same way each time fills no disk, and two
//! events that tell different things are never taken for one. What strangers can vary as they like has bounds of its own where it
//! happens (`net`, hush).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::Metadata;

use super::line::Line;
use crate::config::logging::LogFormat;

/// So often the same event is written in one window.
const TIMES: u32 = 100;
/// The length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// So many different events are told apart in one window; those beyond are written as they come.
const REMEMBERED: usize = 4096;

/// What was written in this window.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Its own per process: a peer that knew the hash could make one event pass for another.
    hasher: RandomState,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    /// At most [`REMEMBERED`].
    seen: HashMap<u64, Seen>,
}

#[derive(Debug)]
struct Seen {
    times: u32,
    metadata: &'static Metadata<'static>,
}

/// Events of one kind that were not written, told when their window is over.
#[derive(Debug)]
pub(super) struct LeftOut {
    times: u32,
    metadata: &'static Metadata<'static>,
}

// === impl Repeats ===

impl Repeats {
    /// Whether this event is written, and what is to be told of the window that it closes.
    pub(super) fn admit(
        &self,
        line: &Line,
        metadata: &'static Metadata<'static>,
        now: Instant,
    ) -> (bool, Vec<LeftOut>) {
        let key = self.hasher.hash_one((metadata.callsite(), line.body()));
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = window.close(now);
        (window.admit(key, metadata), over)
    }
}

// === impl Window ===

impl Window {
    /// Begins another window if this one is over.
    fn close(&mut self, now: Instant) -> Vec<LeftOut> {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) < WINDOW) {
            return Vec::new();
        }
        self.since = Some(now);
        let seen = self.seen.drain().map(|(_, seen)| seen);
        seen.filter(|seen| seen.times > TIMES)
            .map(|Seen { times, metadata }| LeftOut { times: times.saturating_sub(TIMES), metadata })
            .collect()
    }

    fn admit(&mut self, key: u64, metadata: &'static Metadata<'static>) -> bool {
        if self.seen.len() >= REMEMBERED && !self.seen.contains_key(&key) {
            return true;
        }
        let seen = self.seen.entry(key).or_insert(Seen { times: 0, metadata });
        seen.times = seen.times.saturating_add(1);
        seen.times <= TIMES
    }
}

// === impl LeftOut ===

impl LeftOut {
    pub(super) fn line(&self, format: LogFormat) -> Line {
        let mut line = Line::default();
        let place = self.metadata.line().map_or_else(String::new, |number| number.to_string());
        let fields = [
            ("of", self.metadata.target()),
            ("source_line", place.as_str()),
            ("left_out", &self.times.to_string()),
            ("seconds", &WINDOW.as_secs().to_string()),
        ];
        line.notice(format, SystemTime::now(), "the same event was left out of the log", &fields);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::metadata;
    use super::*;

    fn said(text: &str) -> Line {
        let mut line = Line::default();
        line.notice(LogFormat::Text, SystemTime::now(), "it failed", &[("why", text)]);
        line
    }

    #[test]
    fn the_same_event_is_written_so_often_and_then_counted() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let written = |line: &Line, now| (0..1000).filter(|_| repeats.admit(line, metadata(), now).0).count();
        assert_eq!(written(&said("a"), now), TIMES as usize);
        assert_eq!(written(&said("b"), now), TIMES as usize, "another reason is another event");
        let (admitted, over) = repeats.admit(&said("a"), metadata(), now + WINDOW);
        assert!(admitted, "a new window");
        let mut told: Vec<_> = over.iter().map(|left_out| left_out.times).collect();
        told.sort_unstable();
        assert_eq!(told, [900, 900]);
        let line = over[0].line(LogFormat::Text);
        let line = std::str::from_utf8(line.as_bytes()).unwrap();
        assert!(
            line.contains("the same event was left out of the log of=")
                && line.ends_with(" left_out=900 seconds=10\n"),
            "{line}"
        );
        let (_, over) = repeats.admit(&said("a"), metadata(), now + 2 * WINDOW);
        assert!(over.is_empty(), "nothing was left out in that one");
    }

    #[test]
    fn what_differs_is_written_whatever_its_number() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        for number in 0..2 * REMEMBERED {
            assert!(repeats.admit(&said(&number.to_string()), metadata(), now).0, "{number}");
        }
        let window = repeats.window.lock().unwrap();
        assert!(window.seen.len() <= REMEMBERED);
    }
}
