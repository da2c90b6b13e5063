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

/// Fewer reloads in one life than this say nothing.
const MIN_RELOADS: u64 = 20;

/// Descriptors come and go with connections, listeners, and pools of threads that live as long as a connection on them: a leak is
/// what has added more than this, at more than [`DESCRIPTORS_PER_RELOAD`].
const DESCRIPTORS: f64 = 12.0;
const DESCRIPTORS_PER_RELOAD: f64 = 0.5;

/// Memory is judged only of a life of at least this many milliseconds after its warm-up, ...
const MEMORY_AFTER: u64 = 180_000;
/// ... and may grow in that time by this part of what it was.
const MEMORY_PART: f64 = 0.15;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) at: u64,
    pub(crate) life: u32,
    /// The lines of its audit log until then.
    pub(crate) reloads: u64,
    pub(crate) rss_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) connections: u64,
}

/// Samples one node to the end.
pub(crate) async fn watch(world: Arc<World>, index: usize) {
    let place = &world.places[index];
    while world.wait(BETWEEN, Phase::Rests).await {
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
        connections: 0,
    };
    // Not of one process before and of another after.
    (sample.life == place.life()).then_some(sample)
}

/// Judges all lives of all nodes.
pub(crate) fn judge(world: &World) {
    for place in &world.places {
        let samples = locked(&place.samples).clone();
        for life in samples.chunk_by(|one, next| one.life == next.life) {
            for text in grown(life) {
                let at = life.last().map_or(0, |sample| sample.at);
                world.findings.add(at, Rule::Growth, Some(place.index), text);
            }
        }
    }
}

/// What grows in one life.
fn grown(life: &[Sample]) -> Vec<String> {
    let skip = (life.len() as f64 * WARM_UP) as usize;
    let Some([first, .., last]) = life.get(skip..) else { return Vec::new() };
    let kept = &life[skip..];
    let reloads = last.reloads - first.reloads;
    let mut found = Vec::new();
    if reloads >= MIN_RELOADS {
        let per_reload = slope(kept, |sample| sample.reloads as f64, |sample| sample.descriptors as f64);
        let added = per_reload * reloads as f64;
        if per_reload > DESCRIPTORS_PER_RELOAD && added > DESCRIPTORS {
            found.push(format!(
                "{per_reload:.2} descriptors more with each reload: from {} to {} over {reloads} reloads of one process",
                first.descriptors, last.descriptors
            ));
        }
    }
    let ms = last.at - first.at;
    if ms >= MEMORY_AFTER {
        let per_ms = slope(kept, |sample| sample.at as f64, |sample| sample.rss_kib as f64);
        let added = per_ms * ms as f64;
        if added > first.rss_kib as f64 * MEMORY_PART {
            found.push(format!(
                "{:.0} KiB of memory more per minute: from {} to {} KiB in {:.1} minutes and {reloads} reloads",
                per_ms * 60_000.0,
                first.rss_kib,
                last.rss_kib,
                ms as f64 / 60_000.0
            ));
        }
    }
    found
}

/// The median of the slopes between points that are half of the series apart: single peaks do not move it.
fn slope(samples: &[Sample], x: impl Fn(&Sample) -> f64, y: impl Fn(&Sample) -> f64) -> f64 {
    let half = samples.len() / 2;
    let pairs = samples.iter().zip(&samples[half..]);
    let mut slopes: Vec<f64> = pairs
        .filter(|(one, other)| x(other) > x(one))
        .map(|(one, other)| (y(other) - y(one)) / (x(other) - x(one)))
        .collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(descriptors: impl Fn(u64) -> u64, rss_kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..1000)
            .map(|number| Sample {
                at: number * 500,
                life: 1,
                reloads: number / 3,
                rss_kib: rss_kib(number),
                descriptors: descriptors(number),
                connections: 0,
            })
            .collect()
    }

    #[test]
    fn what_goes_up_and_down_is_flat_and_what_warms_up_too() {
        let noisy = |number: u64| 60 + (number * 7919) % 23;
        assert_eq!(grown(&life(noisy, |number| 40_000 + 20 * number.min(250))), Vec::<String>::new());
    }

    #[test]
    fn one_descriptor_for_each_reload_is_seen_through_the_noise() {
        let leak = |number: u64| 60 + (number * 7919) % 23 + number / 3;
        assert!(grown(&life(leak, |_| 40_000))[0].contains("descriptors"));
        let short: Vec<_> = life(leak, |_| 40_000).into_iter().take(140).collect();
        assert!(grown(&short)[0].contains("descriptors"), "in the 70 s of a smoke test too");
    }

    #[test]
    fn memory_that_grows_on_is_seen() {
        assert!(grown(&life(|_| 60, |number| 40_000 + 20 * number))[0].contains("memory"));
    }
}
