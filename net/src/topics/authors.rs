//! What is remembered of those who write to topics: how much more they may, and what they have written already.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use storage::PeerKey;

use crate::RateLimit;
use crate::inbox::Bucket;

/// Of how many authors that are no members something is remembered; beyond, the one that was quiet longest is forgotten. (Of the
/// members, all: `peers.yaml` bounds them.)
const STRANGERS: usize = 256;
/// How far a message may come behind later ones of its author, by another way through the mesh, and still be told from a
/// repetition.
const WINDOW: usize = 4096;
/// An author keeps to its rate where it writes. On the way, messages close up by as much as the way is uneven: who receives them
/// allows for this much of it.
const UNEVEN: Duration = Duration::from_secs(2);

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new.
    Take,
    /// It was here before, or is too old to tell.
    Seen,
    /// Its author writes more than `protocol.rate_limit`.
    TooMany,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Authors(HashMap<PeerKey, Author>);

#[derive(Debug)]
struct Author {
    is_member: bool,
    used: Instant,
    bucket: Bucket,
    numbers: Numbers,
}

/// The newest numbers of one author: at most [`WINDOW`].
#[derive(Debug, Default)]
struct Numbers {
    /// Nothing up to this one is taken any more.
    floor: u64,
    above: BTreeSet<u64>,
}

// === impl Authors ===

impl Authors {
    /// Judges a message of an author. One that is not taken for its rate may come again.
    pub(super) fn judge(
        &mut self,
        author: PeerKey,
        is_member: bool,
        number: u64,
        limit: RateLimit,
        now: Instant,
    ) -> Verdict {
        let allowance = allowance(limit);
        let known = self.author(author, is_member, allowance, now);
        (known.is_member, known.used) = (is_member, now);
        if known.numbers.has(number) {
            return Verdict::Seen;
        }
        if !known.bucket.take(allowance, now) {
            return Verdict::TooMany;
        }
        known.numbers.insert(number);
        Verdict::Take
    }

    fn author(&mut self, key: PeerKey, is_member: bool, limit: RateLimit, now: Instant) -> &mut Author {
        if !is_member && !self.0.contains_key(&key) {
            let strangers = || self.0.iter().filter(|(_, author)| !author.is_member);
            if strangers().count() >= STRANGERS {
                let quiet = strangers().min_by_key(|(_, author)| author.used).map(|(key, _)| *key);
                quiet.map(|key| self.0.remove(&key));
            }
        }
        self.0.entry(key).or_insert_with(|| Author {
            is_member,
            used: now,
            bucket: Bucket::full(limit, now),
            numbers: Numbers::default(),
        })
    }
}

/// What is allowed to arrive of an author that keeps to the limit.
fn allowance(limit: RateLimit) -> RateLimit {
    let uneven = limit.messages_per_second * UNEVEN.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is positive")]
    let uneven = uneven.ceil() as u32;
    RateLimit { burst: limit.burst.saturating_add(uneven), ..limit }
}

// === impl Numbers ===

impl Numbers {
    fn has(&self, number: u64) -> bool {
        number <= self.floor || self.above.contains(&number)
    }

    fn insert(&mut self, number: u64) {
        self.above.insert(number);
        if self.above.len() > WINDOW
            && let Some(lowest) = self.above.pop_first()
        {
            self.floor = lowest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    const LIMIT: RateLimit = RateLimit { messages_per_second: 10.0, burst: 5 };
    const FREE: RateLimit = RateLimit { messages_per_second: 1e6, burst: 1_000_000 };

    fn key() -> PeerKey {
        Identity::generate().public_key()
    }

    #[test]
    fn a_message_is_taken_once_however_old() {
        let (mut authors, author, now) = (Authors::default(), key(), Instant::now());
        let mut judge = |number| authors.judge(author, true, number, FREE, now);
        for number in 1..=2 * WINDOW as u64 {
            assert_eq!(judge(number), Verdict::Take);
        }
        for number in 1..=2 * WINDOW as u64 {
            assert_eq!(judge(number), Verdict::Seen);
        }
    }

    #[test]
    fn messages_may_overtake_one_another() {
        let (mut authors, author, now) = (Authors::default(), key(), Instant::now());
        for number in [2, 1, 4, 3, 100, 5] {
            assert_eq!(authors.judge(author, true, number, FREE, now), Verdict::Take);
        }
    }

    #[test]
    fn one_author_that_floods_leaves_the_others_alone() {
        let (mut authors, loud, quiet, now) = (Authors::default(), key(), key(), Instant::now());
        let taken = (1..=1000).filter(|n| authors.judge(loud, true, *n, LIMIT, now) == Verdict::Take).count();
        assert_eq!(taken, 25, "the burst, and two seconds' worth for an uneven way");
        assert_eq!(authors.judge(quiet, true, 1, LIMIT, now), Verdict::Take);
        // What was refused for the rate alone may come again.
        let later = now + Duration::from_secs(1);
        assert_eq!(authors.judge(loud, true, 26, LIMIT, later), Verdict::Take);
    }

    #[test]
    fn strangers_by_the_thousand_do_not_make_a_member_be_forgotten() {
        let (mut authors, member, now) = (Authors::default(), key(), Instant::now());
        authors.judge(member, true, 1, FREE, now);
        for n in 0..1000 {
            authors.judge(key(), false, 1, FREE, now + Duration::from_millis(n));
        }
        assert_eq!(authors.0.len(), STRANGERS + 1);
        assert_eq!(authors.judge(member, true, 1, FREE, now), Verdict::Seen);
    }
}
