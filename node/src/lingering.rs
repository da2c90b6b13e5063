//! Streams that outlive what they began under: a change of a service says beforehand what goes on.

use net::Services;
use reload::Problem;

use crate::config::Config;
use crate::plural::count;

/// A warning for each service that `next` removes or leads elsewhere while streams of it are open. Those with members that
/// `next` removes do not count: they are reset with their connections, which stand in `would_close`.
pub(crate) fn streams(services: &Services, current: &Config, next: &Config) -> Vec<Problem> {
    let members = &next.network.members;
    let (now, then) = (&current.protocol, &next.protocol);
    let exposed = now.expose.iter().filter(|service| !then.expose.contains(service)).map(|service| {
        let stays = then.expose.iter().any(|other| other.name == service.name);
        let open = services.exposed_to(service, |peer| members.contains_key(peer));
        ("protocol.services.expose", &service.name, stays, open)
    });
    let connected = now.connect.iter().filter(|service| !then.connect.contains(service)).map(|service| {
        let stays = then.connect.iter().any(|other| other.listen == service.listen);
        let open = if members.contains_key(&service.peer) { services.connected(service).open } else { 0 };
        ("protocol.services.connect", &service.name, stays, open)
    });
    let open = exposed.chain(connected).filter(|(.., open)| *open > 0);
    open.map(|(key, name, stays, open)| warning(key, name, stays, open)).collect()
}

fn warning(key: &str, name: &str, stays: bool, open: u64) -> Problem {
    let streams = count(usize::try_from(open).unwrap_or(usize::MAX), "open stream");
    let new = if stays { "new streams follow the change" } else { "new streams are refused" };
    let (go, cut) = if open == 1 {
        ("goes on until it ends", "to cut it, end it at one of its ends")
    } else {
        ("go on until they end", "to cut them, end them at one of their ends")
    };
    Problem::at(key, format!("{streams} of service '{name}' {go}; {new}"))
        .hint(format!("nothing is lost; {cut}, or remove the member"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stream_ends_and_two_end() {
        let one = warning("protocol.services.expose", "tag", false, 1).to_string();
        assert!(one.contains("1 open stream of service 'tag' goes on until it ends; new"), "{one}");
        let two = warning("protocol.services.expose", "tag", true, 2).to_string();
        assert!(two.contains("2 open streams of service 'tag' go on until they end; new"), "{two}");
    }
}
