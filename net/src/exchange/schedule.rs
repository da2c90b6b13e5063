//! When what is said to one peer. Knows no clock; `unit`, from 0 to 1, is chance: nodes that were started together, or learned
//! something together, do not speak together.

use std::time::{Duration, Instant};

/// A new connection is asked after a part of this, by chance, and after a part of half an interval where that is less.
const WINDOW: Duration = Duration::from_secs(2);
/// A change of this node's own addresses is announced within this time.
const ANNOUNCE: Duration = Duration::from_millis(100);
/// That something else has changed is told within this time; most peers know it from its source by then.
const TELL: Duration = Duration::from_secs(1);
/// A peer that has told of a change is asked within this time, and no sooner than [`GAP`] after the last question.
const ASK: Duration = Duration::from_millis(100);
/// Between two questions to one peer; half an interval where that is less.
const GAP: Duration = Duration::from_secs(1);
/// A peer with whom exchange has failed again and again is left alone for this many intervals at most.
const MOST: u32 = 64;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// To say where this node is.
    Announce,
    /// To say that something has changed.
    Tell,
    /// To ask what has.
    Ask,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    asked: Option<Instant>,
    ask: Instant,
    announce: Option<Instant>,
    tell: Option<Instant>,
}

/// How long to wait before a peer is asked for the first time.
pub(super) fn first(interval: Duration, unit: f64) -> Duration {
    WINDOW.min(interval / 2).mul_f64(unit.clamp(0.0, 1.0))
}

/// How long to leave a peer alone with whom it has failed so many times in a row.
pub(super) fn after_failures(failures: u32, interval: Duration, unit: f64) -> Duration {
    let times = 2_u32.saturating_pow(failures.saturating_sub(1)).min(MOST);
    spread(interval.max(GAP).saturating_mul(times), unit)
}

/// A quarter more or less.
fn spread(time: Duration, unit: f64) -> Duration {
    time.mul_f64(0.75 + unit.clamp(0.0, 1.0) / 2.0)
}

// === impl Schedule ===

impl Schedule {
    /// To ask is due at once.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, asked: None, ask: now, announce: None, tell: None }
    }

    /// Another interval, which counts from the last question on.
    pub(super) fn set_interval(&mut self, interval: Duration, unit: f64) {
        if std::mem::replace(&mut self.interval, interval) != interval
            && let Some(asked) = self.asked
        {
            self.ask = asked + spread(interval, unit);
        }
    }

    /// The peer was asked.
    pub(super) fn asked(&mut self, now: Instant, unit: f64) {
        self.asked = Some(now);
        self.ask = now + spread(self.interval, unit);
    }

    /// This node's own addresses have changed.
    pub(super) fn own_changed(&mut self, now: Instant, unit: f64) {
        self.announce.get_or_insert(now + ANNOUNCE.mul_f64(unit));
    }

    /// Something has changed.
    pub(super) fn changed(&mut self, now: Instant, unit: f64) {
        self.tell.get_or_insert(now + TELL.mul_f64(0.25 + unit * 0.75));
    }

    /// The peer says that something has changed over there.
    pub(super) fn told(&mut self, now: Instant, unit: f64) {
        let gap = GAP.min(self.interval / 2);
        let earliest = self.asked.map_or(now, |asked| asked + gap);
        self.ask = self.ask.min(earliest.max(now + ASK.mul_f64(unit)));
    }

    /// What is due now, which then is done.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.announce.take_if(|at| *at <= now).is_some() {
            Some(Due::Announce)
        } else if self.tell.take_if(|at| *at <= now).is_some() {
            Some(Due::Tell)
        } else {
            (self.ask <= now).then_some(Due::Ask)
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Instant {
        [self.announce, self.tell].into_iter().flatten().fold(self.ask, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn questions_come_an_interval_apart_by_and_large() {
        let now = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, now);
        assert_eq!(schedule.due(now), Some(Due::Ask));
        for unit in [0.0, 0.5, 1.0] {
            schedule.asked(now, unit);
            assert_eq!(schedule.due(now), None);
            assert_eq!(schedule.next() - now, INTERVAL.mul_f64(0.75 + unit / 2.0));
        }
        assert_eq!(schedule.due(schedule.next()), Some(Due::Ask));
    }

    #[test]
    fn another_interval_counts_from_the_last_question() {
        let now = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, now);
        schedule.asked(now, 0.5);
        schedule.set_interval(Duration::from_secs(1), 0.5);
        assert_eq!(schedule.next(), now + Duration::from_secs(1));
        schedule.set_interval(INTERVAL, 0.5);
        assert_eq!(schedule.next(), now + INTERVAL);
    }

    #[test]
    fn a_burst_of_changes_is_said_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, now);
        schedule.asked(now, 0.5);
        for n in 0..100 {
            schedule.own_changed(now + Duration::from_micros(n), 1.0);
            schedule.changed(now + Duration::from_micros(n), 1.0);
        }
        let later = now + TELL + ANNOUNCE;
        let said: Vec<_> = std::iter::from_fn(|| schedule.due(later)).collect();
        assert_eq!(said, [Due::Announce, Due::Tell]);
    }

    #[test]
    fn a_peer_that_tells_again_and_again_is_asked_no_sooner() {
        let now = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, now);
        schedule.asked(now, 0.5);
        for n in 0..1000 {
            schedule.told(now + Duration::from_micros(n), 0.0);
        }
        assert_eq!(schedule.next(), now + GAP);
        schedule.asked(now + GAP, 0.5);
        assert_eq!(schedule.due(now + GAP), None);
    }

    #[test]
    fn whoever_fails_is_left_alone_longer_each_time() {
        let pauses: Vec<_> = (1..10).map(|n| after_failures(n, INTERVAL, 0.5)).collect();
        assert_eq!(pauses[0], INTERVAL);
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&(INTERVAL * MOST)));
        assert_eq!(after_failures(1, Duration::from_millis(100), 0.5), GAP, "not less for a short interval");
        assert_eq!(first(INTERVAL, 1.0), WINDOW);
        assert_eq!(first(Duration::from_millis(100), 1.0), Duration::from_millis(50));
    }
}
