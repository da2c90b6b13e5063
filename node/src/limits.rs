//! The process's own limits.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, files, actors' pipes, the admin socket's clients.
const RESERVE: u64 = 128;

/// Raises the limit of open descriptors as far as the system lets an ordinary process, and warns when the configured
/// connections do not fit under it (contract: "Limits").
pub fn raise_descriptor_limit(connections: u32) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => limit.current = limit.maximum,
            Err(error) => tracing::debug!(%error, "the descriptor limit stays as it is"),
        }
    }
    let needed = u64::from(connections) + RESERVE;
    if let Some(descriptors) = limit.current.filter(|descriptors| *descriptors < needed) {
        tracing::warn!(
            descriptors,
            connections,
            "network.limits.connections does not fit under the limit of open descriptors; raise it (ulimit -n, LimitNOFILE=)"
        );
    }
}
