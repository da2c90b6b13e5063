//! What a node costs, over time: does it grow with reloads?

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::finding::Rule;
use crate::world::{Phase, Place, World, locked};

const BETWEEN: Duration = Duration::from_millis(500);

/// What a process takes until its caches and pools are full is no leak: this part of its life is left out.
const WARM_UP: f64 = 0.3;

/// Fewer reloads between the first quarter and the last of what is left say nothing.
const MIN_RELOADS: f64 = 20.0;

/// Descriptors come and go with connections, listeners, and pools of threads, one for each size, that live as long as a connection
/// on them: a leak is what has added more than this, at more than [`DESCRIPTORS_PER_RELOAD`], in
/// a time in which what comes has gone again.
const DESCRIPTORS: f64 = 15.0;
const DESCRIPTORS_AFTER: f64 = 20_000.0;
const DESCRIPTORS_PER_RELOAD: f64 = 0.7;

/// Memory is judged only where there are so many milliseconds between these: buffers and the allocator's free lists need minutes of
/// every kind of reload until they have all that they will ever need, ...
const MEMORY_AFTER: f64 = 300_000.0;
/// ... and may grow in that time by this part of what it was.
const MEMORY_PART: f64 = 0.2;

/// A life that takes more and more until its end may leak, or still be filling up. What leaks leaks in other lives, too, and most in
/// those that are longer by this factor: one of these that ends no higher than this one, but for so much, tells that it fills up.
const LONGER: f64 = 1.5;
const HIGHER: f64 = 1.05;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) at: u64,
    pub(crate) life: u32,
    /// The lines of its audit log until then.
    pub(crate) reloads: u64,
    pub(crate) rss_kib: u64,
    pub(crate) descriptors: u64,
}

/// Samples one node to the end.
pub(crate) async fn watch(world: Arc<World>, index: usize) {
    let place = &world.places[index];
    // Also at rest, when what comes and goes has gone.
    while world.wait(BETWEEN, Phase::Ends).await {
        if place.serves()
            && let Some(sample) = sample(&world, place)
        {
            locked(&place.samples).push(sample);
        }
    }
}

fn sample(world: &World, place: &Place) -> Option<Sample> {
    let process = format!("/proc/{}", place.pid()?);
    let status = fs::read_to_string(format!("{process}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let sample = Sample {
        at: world.now(),
        life: place.life(),
        reloads: place.book.len() as u64,
        rss_kib: resident.split_whitespace().next()?.parse().ok()?,
        descriptors: fs::read_dir(format!("{process}/fd")).ok()?.count() as u64,
    };
    // Not of one process before and of another after.
    (sample.life == place.life()).then_some(sample)
}

/// Judges all lives of all nodes.
pub(crate) fn judge(world: &World) {
    let samples: Vec<_> = world.places.iter().map(|place| locked(&place.samples).clone()).collect();
    let lives: Vec<_> = world
        .places
        .iter()
        .zip(&samples)
        .flat_map(|(place, samples)| {
            samples.chunk_by(|one, next| one.life == next.life).map(|life| (place.index, life))
        })
        .collect();
    let all: Vec<_> = lives.iter().map(|(_, life)| *life).collect();
    for &(index, life) in &lives {
        for text in grown(life, &all) {
            let at = life.last().map_or(0, |sample| sample.at);
            world.findings.add(at, Rule::Growth, Some(index), text);
        }
    }
}

/// What grows in one life, among `all` of the run.
fn grown(life: &[Sample], all: &[&[Sample]]) -> Vec<String> {
    let skip = (life.len() as f64 * WARM_UP) as usize;
    let kept = &life[skip..];
    let quarter = kept.len() / 4;
    if quarter == 0 {
        return Vec::new();
    }
    let (first, last) = (&kept[..quarter], &kept[kept.len() - quarter..]);
    // What comes and goes does not move the middle of a quarter.
    let added = |of: fn(&Sample) -> u64| middle(last, of) as f64 - middle(first, of) as f64;
    let reloads = added(|sample| sample.reloads);
    let descriptors = added(|sample| sample.descriptors);
    let (ms, before) = (added(|sample| sample.at), middle(first, |sample| sample.rss_kib));
    let mut found = Vec::new();
    let is_long = reloads >= MIN_RELOADS && ms >= DESCRIPTORS_AFTER;
    if is_long && descriptors > DESCRIPTORS && descriptors / reloads > DESCRIPTORS_PER_RELOAD {
        found.push(format!(
            "{:.2} descriptors more with each reload: from {} to {} over {reloads} reloads of one process",
            descriptors / reloads,
            middle(first, |sample| sample.descriptors),
            middle(last, |sample| sample.descriptors),
        ));
    }
    let kib = added(|sample| sample.rss_kib);
    let grows = ms >= MEMORY_AFTER && kib > before as f64 * MEMORY_PART;
    let level = middle(last, |sample| sample.rss_kib) as f64 * HIGHER;
    let is_level = |other: &[Sample]| at_the_end(other) as f64 <= level;
    if grows && !all.iter().any(|other| has_more_behind_it(other, life) && is_level(other)) {
        found.push(format!(
            "{:.0} KiB of memory more per minute: from {before} KiB on, in {:.1} minutes and {reloads} reloads",
            kib / ms * 60_000.0,
            ms / 60_000.0
        ));
    }
    found
}

/// Whether a life is much longer than another one, in time and in reloads.
fn has_more_behind_it(one: &[Sample], other: &[Sample]) -> bool {
    let span = |of: fn(&Sample) -> u64, life: &[Sample]| {
        life.last().map_or(0, of).saturating_sub(life.first().map_or(0, of)) as f64
    };
    [|sample: &Sample| sample.at, |sample: &Sample| sample.reloads]
        .into_iter()
        .all(|of| span(of, one) >= span(of, other) * LONGER)
}

/// The memory that a life takes in the quarter that is its last.
fn at_the_end(life: &[Sample]) -> u64 {
    middle(&life[life.len() - life.len() / 4..], |sample| sample.rss_kib)
}

fn middle(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(descriptors: impl Fn(u64) -> u64, rss_kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        lived(1500, descriptors, rss_kib)
    }

    fn lived(len: u64, descriptors: impl Fn(u64) -> u64, rss_kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..len)
            .map(|number| Sample {
                at: number * 500,
                life: 1,
                reloads: number / 3,
                rss_kib: rss_kib(number),
                descriptors: descriptors(number),
            })
            .collect()
    }

    fn grown_alone(life: &[Sample]) -> Vec<String> {
        grown(life, &[life])
    }

    #[test]
    fn what_goes_up_and_down_is_flat_and_what_warms_up_too() {
        let noisy = |number: u64| 60 + (number * 7919) % 23;
        assert_eq!(grown_alone(&life(noisy, |number| 40_000 + 20 * number.min(250))), Vec::<String>::new());
    }

    #[test]
    fn one_descriptor_for_each_reload_is_seen_through_the_noise() {
        let leak = |number: u64| 60 + (number * 7919) % 23 + number / 3;
        assert!(grown_alone(&life(leak, |_| 40_000))[0].contains("descriptors"));
        let short: Vec<_> = life(leak, |_| 40_000).into_iter().take(150).collect();
        assert!(grown_alone(&short)[0].contains("descriptors"), "in the 75 s of a smoke test too");
    }

    #[test]
    fn memory_that_grows_on_is_seen() {
        assert!(grown_alone(&life(|_| 60, |number| 40_000 + 20 * number))[0].contains("memory"));
    }

    #[test]
    fn memory_that_a_longer_life_does_not_need_more_of_is_no_leak() {
        let fills = |number: u64| 40_000 + 20 * number.min(1500);
        let (short, long) = (life(|_| 60, fills), lived(4000, |_| 60, fills));
        assert!(grown_alone(&short)[0].contains("memory"), "by itself it cannot be told");
        assert_eq!(grown(&short, &[&short, &long]), Vec::<String>::new());
        // Twice as long, or as many more reloads, and as much more memory.
        let leaks = |number: u64| 40_000 + 20 * number;
        let (short, long) = (life(|_| 60, leaks), lived(4000, |_| 60, leaks));
        for life in [&short, &long] {
            assert!(grown(life, &[&short, &long])[0].contains("memory"));
        }
        // One that is hardly longer is no witness.
        let (short, other) = (life(|_| 60, fills), lived(1600, |_| 60, |_| 40_000));
        assert!(grown(&short, &[&short, &other])[0].contains("memory"));
    }
}
