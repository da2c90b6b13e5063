//! What the harness itself does to nodes, and what it therefore excuses: as little as it can, and only where and while it did it.

use std::sync::Mutex;

use serde::Serialize;

use crate::world::locked;

/// A process that stood still for so long may be given up by the others: twice their ping interval, with some time for the machine.
pub(crate) const GIVEN_UP_AFTER: u64 = 5_000;

/// What.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Its process was killed, or had no memory; it ends when it serves again.
    Down,
    /// Its process stands still.
    Stopped,
    /// One of the two is no member for the other.
    Removed,
    /// It has no descriptors or the machine no processor left: slow, but nothing may break.
    Strained,
}

/// Whom it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    Node(usize),
    Pair(usize, usize),
    Everybody,
}

/// One.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    pub(crate) who: Who,
    pub(crate) from: u64,
    /// `None` while it lasts.
    pub(crate) to: Option<u64>,
}

/// All of them. The schedule bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<Vec<Trouble>>);

/// One that lasts.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lasting(usize);

// === impl Trouble ===

impl Trouble {
    fn touches(&self, one: usize, other: Option<usize>) -> bool {
        match self.who {
            Who::Everybody => true,
            Who::Node(node) => node == one || Some(node) == other,
            Who::Pair(a, b) => other.is_some_and(|other| (a, b) == (one, other) || (b, a) == (one, other)),
        }
    }

    fn overlaps(&self, from: u64, to: u64) -> bool {
        self.from <= to && self.to.is_none_or(|end| end >= from)
    }

    /// Whether connections end by it.
    pub(crate) fn breaks(&self) -> bool {
        match self.kind {
            Kind::Down | Kind::Removed => true,
            Kind::Stopped => self.to.is_none_or(|to| to.saturating_sub(self.from) >= GIVEN_UP_AFTER),
            Kind::Strained => false,
        }
    }
}

// === impl Troubles ===

impl Troubles {
    pub(crate) fn begin(&self, kind: Kind, who: Who, now: u64) -> Lasting {
        let mut all = locked(&self.0);
        all.push(Trouble { kind, who, from: now, to: None });
        Lasting(all.len() - 1)
    }

    pub(crate) fn end(&self, lasting: Lasting, now: u64) {
        if let Some(trouble) = locked(&self.0).get_mut(lasting.0) {
            trouble.to = Some(now);
        }
    }

    pub(crate) fn all(&self) -> Vec<Trouble> {
        locked(&self.0).clone()
    }

    /// Whether one of this kind touches the node in that time.
    pub(crate) fn is(&self, kind: Kind, node: usize, from: u64, to: u64) -> bool {
        let mut all = self.all().into_iter();
        all.any(|trouble| trouble.kind == kind && trouble.touches(node, None) && trouble.overlaps(from, to))
    }

    /// Whether what connects the two may break in that time.
    pub(crate) fn break_between(&self, one: usize, other: Option<usize>, from: u64, to: u64) -> bool {
        let mut all = self.all().into_iter();
        all.any(|trouble| trouble.breaks() && trouble.touches(one, other) && trouble.overlaps(from, to))
    }

    /// The times between `from` and `to` in which nothing breaks what connects the two.
    pub(crate) fn quiet_between(&self, one: usize, other: usize, from: u64, to: u64) -> Vec<(u64, u64)> {
        let all = self.all().into_iter();
        let mut breaks: Vec<_> =
            all.filter(|trouble| trouble.breaks() && trouble.touches(one, Some(other))).collect();
        breaks.sort_by_key(|trouble| trouble.from);
        let (mut quiet, mut begin) = (Vec::new(), Some(from));
        for trouble in breaks {
            if let Some(since) = begin
                && since < trouble.from
            {
                quiet.push((since, trouble.from));
            }
            // One that lasts has no time after it.
            begin = begin.zip(trouble.to).map(|(since, end)| since.max(end));
        }
        quiet.extend(begin.filter(|since| *since < to).map(|since| (since, to)));
        quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excused_is_between_these_two_and_in_that_time_only() {
        let troubles = Troubles::default();
        let kill = troubles.begin(Kind::Down, Who::Node(1), 100);
        troubles.end(kill, 200);
        let removed = troubles.begin(Kind::Removed, Who::Pair(2, 3), 100);
        troubles.end(removed, 200);
        assert!(troubles.break_between(0, Some(1), 150, 160) && troubles.break_between(1, None, 200, 300));
        assert!(!troubles.break_between(0, Some(1), 0, 99) && !troubles.break_between(0, Some(2), 0, 999));
        assert!(troubles.break_between(3, Some(2), 0, 999) && !troubles.break_between(3, Some(4), 0, 999));
    }

    #[test]
    fn a_short_pause_excuses_nothing() {
        let troubles = Troubles::default();
        let short = troubles.begin(Kind::Stopped, Who::Node(0), 0);
        troubles.end(short, GIVEN_UP_AFTER - 1);
        assert!(!troubles.break_between(0, Some(1), 0, 99_999));
        let long = troubles.begin(Kind::Stopped, Who::Node(0), 0);
        troubles.end(long, GIVEN_UP_AFTER);
        assert!(troubles.break_between(0, Some(1), 0, 99_999));
    }

    #[test]
    fn the_quiet_times_are_what_is_left() {
        let troubles = Troubles::default();
        for (from, to) in [(100, 200), (150, 250), (400, 500)] {
            let kill = troubles.begin(Kind::Down, Who::Node(1), from);
            troubles.end(kill, to);
        }
        assert_eq!(troubles.quiet_between(1, 0, 0, 600), [(0, 100), (250, 400), (500, 600)]);
        assert_eq!(troubles.quiet_between(2, 0, 0, 600), [(0, 600)]);
        let _lasting = troubles.begin(Kind::Down, Who::Node(0), 550);
        assert_eq!(troubles.quiet_between(1, 0, 0, 600), [(0, 100), (250, 400), (500, 550)]);
    }
}
