//! Three ways to one: what file and memory last had in common, the file as a person left it, the memory as the node learned it.
//!
//! What only one side changed is as that side has it. What both changed: a person's removal stands, and so does a person's entry;
//! of facts that were learned, the one seen last.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use super::KnownEntry;
use crate::{PeerKey, side_by_side};

/// So far may a clock be ahead, in seconds. What was seen later than that was seen by a clock that was wrong.
const AHEAD: u64 = 600;

/// What file and memory last had in common: of each entry a hash, which is all that it takes to see who changed it.
#[derive(Debug, Default)]
pub struct Common {
    hashes: HashMap<PeerKey, u64>,
    state: RandomState,
}

/// What comes of a merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// What both are from now on, by key.
    pub entries: Vec<KnownEntry>,
    /// Those that the node has to take over: other than its memory has them.
    pub taken: Vec<PeerKey>,
    /// Those that the node has to forget.
    pub forgotten: Vec<PeerKey>,
    /// Those that both sides had changed.
    pub conflicts: Vec<PeerKey>,
}

// === impl Common ===

impl Common {
    /// Both are these entries now.
    #[must_use]
    pub fn of(entries: &[KnownEntry]) -> Self {
        let state = RandomState::new();
        let hashes = entries.iter().map(|entry| (entry.public_key, state.hash_one(entry))).collect();
        Self { hashes, state }
    }

    /// Whether a side has what both had.
    fn is(&self, key: &PeerKey, entry: Option<&KnownEntry>) -> bool {
        self.hashes.get(key).copied() == entry.map(|entry| self.state.hash_one(entry))
    }
}

/// Merges; see the module. `now` is in Unix seconds.
#[must_use]
pub fn merge(common: &Common, file: &[KnownEntry], memory: &[KnownEntry], now: u64) -> Merged {
    let by_key = |entries: &'_ [KnownEntry]| -> BTreeMap<PeerKey, usize> {
        entries.iter().enumerate().map(|(at, entry)| (entry.public_key, at)).collect()
    };
    let (in_file, in_memory) = (by_key(file), by_key(memory));
    let mut merged = Merged::default();
    for (key, at_file, at_memory) in side_by_side(&in_file, &in_memory) {
        let theirs = at_file.and_then(|at| file.get(*at));
        let ours = at_memory.and_then(|at| memory.get(*at));
        let result = match (common.is(&key, theirs), common.is(&key, ours)) {
            (true, _) => ours.cloned(),
            (false, true) => theirs.cloned(),
            (false, false) if theirs == ours => ours.cloned(),
            (false, false) => {
                merged.conflicts.push(key);
                match (theirs, ours) {
                    (Some(theirs), Some(ours)) => Some(both(theirs, ours, now)),
                    (theirs, _) => theirs.cloned(),
                }
            }
        };
        match result {
            Some(entry) => {
                if ours != Some(&entry) {
                    merged.taken.push(key);
                }
                merged.entries.push(entry);
            }
            None if ours.is_some() => merged.forgotten.push(key),
            None => {}
        }
    }
    merged
}

/// One entry of two that both sides changed. What was signed is kept of both: the newest statement is told by its signature.
fn both(theirs: &KnownEntry, ours: &KnownEntry, now: u64) -> KnownEntry {
    let seen =
        |entry: &KnownEntry| if entry.last_seen > now.saturating_add(AHEAD) { 0 } else { entry.last_seen };
    let newer = if seen(theirs) > seen(ours) { theirs } else { ours };
    let mut records = newer.records.clone();
    for record in theirs.records.iter().chain(&ours.records) {
        if !records.contains(record) {
            records.push(record.clone());
        }
    }
    KnownEntry {
        public_key: ours.public_key,
        addresses: newer.addresses.clone(),
        source: newer.source.clone(),
        first_seen: theirs.first_seen.min(ours.first_seen),
        last_seen: seen(newer),
        failures: newer.failures,
        records,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::ed25519;
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> PeerKey {
        let secret = ed25519::SecretKey::try_from_bytes([n; 32]).expect("32 bytes");
        PeerKey::from_bytes(ed25519::Keypair::from(secret).public().to_bytes()).expect("a key")
    }

    fn entry(n: u8) -> impl Strategy<Value = KnownEntry> {
        (0..3_u64, 0..3_u64, 0..2_u32, prop::collection::vec("[ab]", 0..2)).prop_map(
            move |(first_seen, last_seen, failures, records)| KnownEntry {
                public_key: key(n),
                addresses: records.clone(),
                source: "exchange".to_owned(),
                first_seen,
                last_seen: if last_seen == 2 { u64::MAX } else { last_seen },
                failures,
                records,
            },
        )
    }

    fn entries() -> impl Strategy<Value = Vec<KnownEntry>> {
        let some = (0..4_u8).map(|n| prop::option::of(entry(n + 1))).collect::<Vec<_>>();
        some.prop_map(|some| {
            let mut all: Vec<KnownEntry> = some.into_iter().flatten().collect();
            all.sort_by_key(|entry| entry.public_key);
            all
        })
    }

    fn find<'e>(entries: &'e [KnownEntry], key: &PeerKey) -> Option<&'e KnownEntry> {
        entries.iter().find(|entry| entry.public_key == *key)
    }

    proptest! {
        #[test]
        fn one_side_s_changes_are_the_result(base in entries(), changed in entries()) {
            let common = Common::of(&base);
            prop_assert_eq!(&merge(&common, &base, &changed, 9).entries, &changed);
            prop_assert_eq!(&merge(&common, &changed, &base, 9).entries, &changed);
            prop_assert_eq!(&merge(&common, &changed, &changed, 9).entries, &changed);
        }

        #[test]
        fn nothing_is_invented_and_no_word_of_a_person_lost(base in entries(), file in entries(), memory in entries()) {
            let common = Common::of(&base);
            let merged = merge(&common, &file, &memory, 9);
            for n in 1..5 {
                let key = key(n);
                let (was, theirs, ours) = (find(&base, &key), find(&file, &key), find(&memory, &key));
                let result = find(&merged.entries, &key);
                if theirs != was {
                    prop_assert_eq!(result.is_some(), theirs.is_some(), "a person's entry stays, a removal stands");
                }
                if let Some(result) = result {
                    prop_assert!(theirs.is_some() || ours.is_some());
                    let from: Vec<&String> = [theirs, ours].into_iter().flatten().flat_map(|e| &e.records).collect();
                    prop_assert!(result.records.iter().all(|record| from.contains(&record)));
                }
                prop_assert_eq!(merged.taken.contains(&key), result.is_some() && result != ours);
                prop_assert_eq!(merged.forgotten.contains(&key), result.is_none() && ours.is_some());
            }
        }

        #[test]
        fn a_second_merge_changes_nothing(base in entries(), file in entries(), memory in entries()) {
            let merged = merge(&Common::of(&base), &file, &memory, 9).entries;
            let again = merge(&Common::of(&merged), &merged, &merged, 9);
            prop_assert_eq!(&again, &Merged { entries: merged.clone(), ..Merged::default() });
            // Nor does the same merge, when a save was interrupted after memory had taken it over; but where that took memory back
            // to what both had, only the file says anything new.
            let again = merge(&Common::of(&base), &file, &merged, 9);
            for n in 1..5 {
                let key = key(n);
                let (was, result) = (find(&base, &key), find(&merged, &key));
                let expected = if was == result { find(&file, &key) } else { result };
                prop_assert_eq!(find(&again.entries, &key), expected);
            }
        }

        /// What was learned on both sides: whose side it was makes no difference, unless both were seen at one time.
        #[test]
        fn facts_that_were_learned_commute(file in entries(), memory in entries()) {
            let common = Common::default();
            let (one, two) = (merge(&common, &file, &memory, 9), merge(&common, &memory, &file, 9));
            prop_assert_eq!(&one.conflicts, &two.conflicts);
            prop_assert_eq!(one.entries.len(), two.entries.len());
            for (one, two) in one.entries.iter().zip(&two.entries) {
                let sorted = |entry: &KnownEntry| {
                    let mut records = entry.records.clone();
                    records.sort();
                    records
                };
                prop_assert_eq!((one.first_seen, one.last_seen), (two.first_seen, two.last_seen));
                prop_assert_eq!(sorted(one), sorted(two));
                let seen = |entries: &[KnownEntry]| find(entries, &one.public_key).map(|entry| honest(entry.last_seen));
                if seen(&file) != seen(&memory) {
                    prop_assert_eq!((&one.addresses, one.failures), (&two.addresses, two.failures));
                }
            }
        }

        #[test]
        fn a_clock_that_jumped_does_not_decide(theirs in entry(1), ours in entry(1)) {
            let merged = both(&theirs, &ours, 9);
            prop_assert_eq!(merged.last_seen, honest(theirs.last_seen).max(honest(ours.last_seen)));
            // Whoever was seen at a time that can be is believed before one that was seen in the future.
            for (ahead, other) in [(&theirs, &ours), (&ours, &theirs)] {
                if ahead.last_seen > 9 + AHEAD && honest(other.last_seen) > 0 {
                    prop_assert_eq!((&merged.addresses, merged.failures), (&other.addresses, other.failures));
                }
            }
        }
    }

    /// As far as it can be believed at 9.
    fn honest(last_seen: u64) -> u64 {
        if last_seen > 9 + AHEAD { 0 } else { last_seen }
    }
}
