//! How long to wait before what failed is tried again.

use std::time::Duration;

/// After the `failures`th failure in a row: `first` after one, doubled with each, and never more than `longest`.
pub(super) fn backoff(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest_and_stays_there() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        let waits = [1, 2, 3, 6, 7, 40, u32::MAX].map(|failures| backoff(first, longest, failures).as_secs());
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
    }
}
