//! Files that come out of a ConfigMap or Secret of Kubernetes.

use std::path::{Component, Path};

/// The folder by which a kubelet swaps all files of one at once.
const SWAPPED: &str = "..data";

/// Whether a file, or what it leads to, lies in a folder that a kubelet swaps. What is written there is gone with the next swap, where
/// it is let in at all.
pub(crate) fn is_swapped(path: &Path, target: &Path) -> bool {
    let is_within = |path: &Path| path.components().any(|part| part == Component::Normal(SWAPPED.as_ref()));
    is_within(path) || is_within(target)
}
