//! For whom there was no room: they are asked for anew once there is.
//!
//! Whoever told of them has said it, and does not say it again by itself: where there is room, its answers are to be read from
//! their beginning. While there is none, that would only turn the same ones away, or push out others, again and again.

use std::time::{Duration, Instant};

/// Between two times that everything is asked for anew because somebody was forgotten. Made-up peers can be signed so that they
/// are forgotten all the time; that must not cost a full exchange with everybody each time. A higher bound counts at once.
const PAUSE: Duration = Duration::from_secs(10 * 60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The bound under which somebody was last turned away or pushed out; `None` if everybody was asked for since.
    lacked: Option<usize>,
    /// When everybody was last asked for.
    asked: Option<Instant>,
}

// === impl Room ===

impl Room {
    /// There was none for somebody, under this bound.
    pub(super) const fn lacks(&mut self, limit: usize) {
        self.lacked = Some(limit);
    }

    /// Whether there is some for those who found none, with so many strangers under this bound; says so once.
    pub(super) fn is_there_again(&mut self, strangers: usize, limit: usize, now: Instant) -> bool {
        let Some(lacked) = self.lacked.filter(|_| strangers < limit) else { return false };
        let paused = |asked: Instant| now.saturating_duration_since(asked) >= PAUSE;
        if limit <= lacked && !self.asked.is_none_or(paused) {
            return false;
        }
        *self = Self { lacked: None, asked: Some(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_who_was_not_turned_away_and_nobody_while_there_is_no_room() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert!(!room.is_there_again(0, 9, now));
        room.lacks(9);
        assert!(!room.is_there_again(9, 9, now));
        assert!(!room.is_there_again(9, 4, now), "a lower bound makes none");
        assert!(!room.is_there_again(0, 0, now), "and none is none");
        assert!(room.is_there_again(8, 9, now));
        assert!(!room.is_there_again(8, 9, now + PAUSE), "once");
    }

    #[test]
    fn a_higher_bound_counts_at_once_and_a_hole_after_a_pause() {
        let (mut room, now) = (Room::default(), Instant::now());
        for limit in 1..9 {
            room.lacks(limit - 1);
            assert!(room.is_there_again(limit - 1, limit, now));
        }
        room.lacks(9);
        assert!(!room.is_there_again(8, 9, now));
        assert!(room.is_there_again(8, 9, now + PAUSE), "it was not lost");
        room.lacks(9);
        assert!(!room.is_there_again(8, 9, now + PAUSE * 2 - Duration::from_millis(1)));
    }
}
