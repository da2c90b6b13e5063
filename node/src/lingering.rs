//! Streams that outlive what they began under: a change of a service says beforehand what goes on.

use net::{Metered, ProtocolSection, Services};
use reload::Problem;

use crate::plural::count;

/// A warning for each service that `next` removes or leads elsewhere while streams of it are open.
pub(crate) fn streams(
    services: &Services,
    current: &ProtocolSection,
    next: &ProtocolSection,
) -> Vec<Problem> {
    let exposed = current.expose.iter().filter(|service| !next.expose.contains(service)).map(|service| {
        let stays = next.expose.iter().any(|other| other.name == service.name);
        ("protocol.services.expose", &service.name, stays, services.exposed(service))
    });
    let connected = current.connect.iter().filter(|service| !next.connect.contains(service)).map(|service| {
        let stays = next.connect.iter().any(|other| other.listen == service.listen);
        ("protocol.services.connect", &service.name, stays, services.connected(service))
    });
    let open = exposed.chain(connected).filter(|(.., metered)| metered.open > 0);
    open.map(|(key, name, stays, metered)| warning(key, name, stays, metered)).collect()
}

fn warning(key: &str, name: &str, stays: bool, metered: Metered) -> Problem {
    let open = usize::try_from(metered.open).unwrap_or(usize::MAX);
    let (streams, go) = (count(open, "open stream"), if open == 1 { "goes" } else { "go" });
    let new = if stays { "new streams follow the change" } else { "new streams are refused" };
    Problem::at(key, format!("{streams} of service '{name}' {go} on until they end; {new}"))
        .hint("nothing is lost; to cut them, end them at one of their ends, or remove the member")
}
