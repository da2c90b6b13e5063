//! What a change will not do, though whoever wrote it may think so: told in the plan, before and after.

use std::collections::HashSet;

use net::View;
use reload::Problem;

use crate::config::Config;
use crate::plural::count;

/// The QUIC endpoints that outlive their listeners under this configuration.
pub(super) fn retiring(view: &View, next: &Config) -> Vec<Problem> {
    let retiring = view.would_retire(&next.network.listen);
    let mut warnings: Vec<_> = retiring
        .iter()
        .map(|held| {
            let address = held.endpoint.to_multiaddr();
            let connections = count(held.connections, "connection");
            let keep = match held.connections {
                1 => "keeps its UDP port open until it ends",
                _ => "keep its UDP port open until they end",
            };
            let message = format!("'{address}' takes no new connections any more; {connections} {keep}");
            Problem::at("network.addresses", message).hint(
                "nothing is lost; until then, no QUIC address that overlaps with it can have the port, but itself",
            )
        })
        .collect();
    next.locate(&mut warnings);
    warnings
}

/// Members that may find no room, because others have it: a limit sheds nothing, whoever is there (contract: "Limits").
pub(super) fn crowded(view: &View, current: &Config, next: &Config) -> Option<Problem> {
    let (before, after) = (&current.network, &next.network);
    if before.members == after.members && before.limits.connections == after.limits.connections {
        return None;
    }
    let connections = view.connections();
    let closing = net::would_close(before, after, &connections).len();
    let staying = connections.len().saturating_sub(closing);
    let keys = connections.iter().filter_map(|connection| connection.public_key);
    let present: HashSet<_> = keys.filter(|key| after.members.contains_key(key)).collect();
    let of_members = |key: &_| present.contains(key);
    let members = connections.iter().filter(|c| c.public_key.as_ref().is_some_and(of_members)).count();
    let strangers = staying.saturating_sub(members);
    let absent = after.members.len().saturating_sub(present.len());
    let limit = usize::try_from(after.limits.connections).unwrap_or(usize::MAX);
    // Where the members alone are too many, judging the file says so.
    if strangers == 0 || absent == 0 || staying.saturating_add(absent) <= limit {
        return None;
    }
    let room = limit.saturating_sub(staying);
    let message = format!(
        "{limit} leaves room for {room} of the {} that {} not connected: {} {}, and a reload closes none of them",
        count(absent, "member"),
        if absent == 1 { "is" } else { "are" },
        count(strangers, "connection"),
        if strangers == 1 { "is a stranger's" } else { "are strangers'" },
    );
    let hint = format!(
        "at least {} lets them in at once; `membership: members` closes the strangers' connections",
        staying.saturating_add(absent)
    );
    let mut warning = [Problem::at("network.limits.connections", message).hint(hint)];
    next.locate(&mut warning);
    let [warning] = warning;
    Some(warning)
}
