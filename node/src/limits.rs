//! The process's own limits.

use reload::Problem;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, files, actors' pipes, the admin socket's clients.
const RESERVE: u64 = 128;

/// Raises the limit of open descriptors as far as the system lets an ordinary process (contract: "Limits").
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::debug!(%error, "the descriptor limit stays as it is");
    }
}

/// A warning if so many connections do not fit under the limit of open descriptors.
#[must_use]
pub fn too_few_descriptors(connections: u32) -> Option<Problem> {
    let needed = u64::from(connections) + RESERVE;
    let allowed = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed)?;
    let message =
        format!("{connections} connections do not fit under the limit of {allowed} open descriptors");
    let problem = Problem::at("network.limits.connections", message);
    Some(problem.hint("raise it (ulimit -n, LimitNOFILE=), or lower the key"))
}
