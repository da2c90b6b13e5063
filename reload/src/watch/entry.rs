//! What is known about one file: no clock and no file system in it, so that its rules can be read, and tested, by themselves.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::look::{Look, State};
use super::{Seen, Watched};

/// That a file is gone is believed after so many times `settle`: some editors and tools delete before they create.
const GONE: u32 = 3;

/// And never sooner than this, however short `settle` is.
const GONE_AT_LEAST: Duration = Duration::from_millis(250);

/// A file that never stands still is compared after this long all the same: a change is live within 30 seconds (R24), and
/// whoever touches a file without end must not keep an edit from being seen.
const UNREST: Duration = Duration::from_secs(20);

/// One file of the set.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it was named.
    pub(super) path: PathBuf,
    /// What the reader said that it has read.
    seen: Option<Seen>,
    /// What it was told last, or has seen since.
    told: Option<State>,
    /// What it looked like last.
    look: Option<Look>,
    /// Since when it stands still, as far as is known.
    since: Instant,
    /// Something happened since its contents were compared.
    open: bool,
    /// When the first of that was.
    restless: Instant,
    /// Its contents when they were read last.
    last: Option<State>,
    /// When they have to be read again, although nothing is known to have happened.
    again: Option<Instant>,
    /// At rest in this state, which is to be told; since then.
    news: Option<(State, Instant)>,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(file: Watched, now: Instant) -> Self {
        Self {
            path: file.path,
            told: file.seen.map(State::Seen),
            seen: file.seen,
            look: None,
            since: now,
            open: true,
            restless: now,
            last: None,
            again: None,
            news: None,
        }
    }

    /// The reader says what it has read, or is about to write: the file settles anew, and is compared then.
    pub(super) fn is_seen(&mut self, seen: Option<Seen>, now: Instant) {
        if seen.is_some() && seen != self.seen {
            self.seen = seen;
            self.told = seen.map(State::Seen);
            self.touch(now);
        }
    }

    /// Something happened to it.
    pub(super) fn touch(&mut self, now: Instant) {
        self.since = now;
        if !std::mem::replace(&mut self.open, true) {
            self.restless = now;
        }
        self.news = None;
    }

    /// It looks like this.
    pub(super) fn looks(&mut self, look: Look, now: Instant) {
        if self.look.as_ref() != Some(&look) {
            self.look = Some(look);
            self.touch(now);
        }
    }

    /// When its contents have to be compared, if they have to; the past means now.
    pub(super) fn due(&self, settle: Duration) -> Option<Instant> {
        if self.open {
            let begins = self.told.is_none() && self.last.is_none();
            let rested = self.since + self.rest(settle);
            Some(if begins { self.since } else { rested.min(self.restless + settle.max(UNREST)) })
        } else {
            self.again
        }
    }

    /// What it looks like, if its contents have to be compared now.
    pub(super) fn wants_comparison(&self, settle: Duration, now: Instant) -> Option<&Look> {
        self.due(settle).filter(|due| *due <= now).and(self.look.as_ref())
    }

    /// It stands still in this state. Timestamps are trusted when they are older than `coarse`.
    pub(super) fn rests(&mut self, state: State, now: Instant, coarse: Duration) {
        let differs = self.last.as_ref() != Some(&state);
        if !self.open && differs {
            // It was written to without looking any different: then it may still be.
            self.last = Some(state);
            self.again = None;
            self.touch(now);
            return;
        }
        self.open = false;
        let fresh = self.since + coarse;
        self.again = (now < fresh && self.look.as_ref().is_some_and(Look::is_file)).then_some(fresh);
        self.last = Some(state.clone());
        match &self.told {
            Some(told) if *told == state => self.news = None,
            Some(_) => {
                let since = self.news.as_ref().map_or(now, |(_, since)| *since);
                self.news = Some((state, since));
            }
            // Where the watching begins.
            None => self.told = Some(state),
        }
    }

    /// Whether it may still be changing.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Since when it is known to be at rest in a state that is to be told.
    pub(super) fn news_since(&self) -> Option<Instant> {
        self.news.as_ref().map(|(_, since)| *since)
    }

    /// Takes the news: they are told.
    pub(super) fn tell(&mut self) -> Option<PathBuf> {
        let (state, _) = self.news.take()?;
        self.told = Some(state);
        Some(self.path.clone())
    }

    fn rest(&self, settle: Duration) -> Duration {
        match self.look {
            Some(Look::Missing) => (settle * GONE).max(GONE_AT_LEAST),
            _ => settle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(1);
    const COARSE: Duration = Duration::from_secs(2);

    fn content(value: u64) -> State {
        State::Seen(Seen::Content(value))
    }

    fn file(number: i32) -> Look {
        // Two looks differ when their kinds do: enough for rules that only ask whether they are the same.
        if number == 0 { Look::NoFile } else { Look::Barred(std::io::ErrorKind::Other) }
    }

    fn rested(told: u64, at: Instant) -> Entry {
        let mut entry = Entry::new(Watched::seen("/a", Seen::Content(told)), at);
        entry.looks(file(0), at);
        entry.rests(content(told), at + SETTLE, COARSE);
        assert_eq!(entry.news_since(), None);
        entry
    }

    #[test]
    fn every_touch_begins_the_wait_anew() {
        let start = Instant::now();
        let mut entry = rested(1, start);
        for second in 2..10 {
            let now = start + SETTLE * second;
            entry.touch(now);
            assert_eq!(entry.due(SETTLE), Some(now + SETTLE));
            assert!(entry.wants_comparison(SETTLE, now + SETTLE / 2).is_none());
        }
        let now = start + SETTLE * 10;
        assert!(entry.wants_comparison(SETTLE, now).is_some());
        entry.rests(content(2), now, COARSE);
        assert_eq!(entry.tell(), Some("/a".into()));
        assert_eq!(entry.tell(), None);
    }

    #[test]
    fn a_file_that_never_stands_still_is_compared_all_the_same() {
        let start = Instant::now();
        let mut entry = rested(1, start);
        let first = start + SETTLE * 2;
        let mut now = first;
        while now < first + UNREST {
            entry.touch(now);
            assert!(entry.wants_comparison(SETTLE, now).is_none());
            now += SETTLE / 2;
        }
        entry.touch(now);
        assert!(entry.wants_comparison(SETTLE, now).is_some());
        entry.rests(content(2), now, COARSE);
        assert_eq!(entry.tell(), Some("/a".into()));
        entry.touch(now);
        assert_eq!(entry.due(SETTLE), Some(now + SETTLE), "and from then on as before");
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let start = Instant::now();
        let mut entry = rested(1, start);
        entry.touch(start + SETTLE);
        entry.rests(content(1), start + SETTLE * 2, COARSE);
        assert_eq!(entry.tell(), None);
        assert!(!entry.is_open());
    }

    #[test]
    fn what_the_reader_took_by_itself_is_compared_with_what_is_there() {
        let start = Instant::now();
        let mut entry = rested(1, start);
        // It read 2, and now there is 1 again.
        entry.is_seen(Some(Seen::Content(2)), start);
        entry.rests(content(1), start + SETTLE * 2, COARSE);
        assert_eq!(entry.tell(), Some("/a".into()));
        // It refused 1 and says that it runs on 2: not told a second time.
        entry.is_seen(Some(Seen::Content(2)), start);
        assert!(!entry.is_open());
        // It took it, later: nothing is new.
        entry.is_seen(Some(Seen::Content(1)), start);
        entry.rests(content(1), start + SETTLE * 3, COARSE);
        assert_eq!(entry.tell(), None);
    }

    #[test]
    fn that_a_file_is_gone_is_believed_later() {
        let start = Instant::now();
        let mut entry = rested(1, start);
        entry.looks(Look::Missing, start + SETTLE);
        assert_eq!(entry.due(SETTLE), Some(start + SETTLE * 4));
        assert_eq!(entry.due(Duration::ZERO), Some(start + SETTLE + GONE_AT_LEAST));
        // It is back before that.
        entry.looks(file(0), start + SETTLE * 2);
        assert_eq!(entry.due(SETTLE), Some(start + SETTLE * 3));
    }

    #[test]
    fn bytes_that_changed_without_a_trace_settle_too() {
        let start = Instant::now();
        let mut entry = rested(1, start);
        let later = start + COARSE;
        entry.rests(content(2), later, COARSE);
        assert_eq!(entry.tell(), None, "it may still be written to");
        assert_eq!(entry.due(SETTLE), Some(later + SETTLE));
        entry.rests(content(2), later + SETTLE, COARSE);
        assert_eq!(entry.tell(), Some("/a".into()));
    }

    #[test]
    fn without_a_word_of_the_reader_it_begins_with_what_is_there() {
        let now = Instant::now();
        let mut entry = Entry::new(Watched::new("/a"), now);
        entry.looks(file(0), now);
        assert!(entry.wants_comparison(SETTLE, now).is_some(), "at once");
        entry.rests(content(1), now, COARSE);
        assert_eq!(entry.tell(), None);
        entry.looks(file(1), now);
        entry.rests(content(2), now + SETTLE, COARSE);
        assert_eq!(entry.tell(), Some("/a".into()));
    }
}
