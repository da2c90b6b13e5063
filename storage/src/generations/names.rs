//! What the files of the store are called.

use reload::Generation;

use super::Checksum;

/// Whether a file of this name belongs to a store.
pub(crate) fn is_own(name: &str) -> bool {
    number_of(name).is_some() || blob_of(name).is_some()
}

/// The generation that a file's name stands for: `NNNNNNNN.gen`, with more digits where there are more.
pub(super) fn number_of(name: &str) -> Option<Generation> {
    let digits = name.strip_suffix(".gen")?;
    // Bounded, so that a stray file cannot bring the numbers to their end.
    let plain = (8..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().and_then(Generation::new) } else { None }
}

/// The `peers.yaml` that a file's name stands for: `peers-<sha256>.yaml`.
pub(super) fn blob_of(name: &str) -> Option<Checksum> {
    Checksum::parse(name.strip_prefix("peers-")?.strip_suffix(".yaml")?)
}
