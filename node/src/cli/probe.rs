//! `fednode check --probe`: whether what the files name can be reached from here. All is tried side by side, within one deadline.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::Multiaddr;
use net::Probe;
use reload::{Class, Problem};
use storage::PeerKey;
use tokio::net::TcpStream;

use crate::config::Config;

/// How long a service's target may take: it is next door.
const TARGET_WITHIN: Duration = Duration::from_secs(1);

/// How long all of it may take.
const ALL_WITHIN: Duration = Duration::from_secs(5);

/// How many are tried at once: well below what a process may open.
const AT_ONCE: usize = 256;

/// What was found.
pub(super) struct Found {
    /// What cannot be reached, in the order of the files.
    pub(super) warnings: Vec<Problem>,
    /// How many were tried.
    pub(super) tried: usize,
}

/// One thing to try.
struct Try {
    path: String,
    whom: Whom,
}

enum Whom {
    Target(String),
    Address(Multiaddr),
}

/// Tries every service's target and every member's address.
pub(super) async fn probe(config: &Config) -> Found {
    let tries: Vec<Try> = targets(config).chain(addresses(config)).collect();
    let errors = errors(&tries).await;
    let mut in_conf = Vec::new();
    let mut in_peers = Vec::new();
    for (Try { path, whom }, error) in tries.iter().zip(errors) {
        let Some(error) = error else { continue };
        let (what, hint, list) = match whom {
            Whom::Target(target) => (target.clone(), "is the service running?", &mut in_conf),
            Whom::Address(address) => {
                let hint = "is the address right, and does the member run and listen there?";
                (address.to_string(), hint, &mut in_peers)
            }
        };
        let message = format!("{what} cannot be reached from here: {error}");
        list.push(Problem { class: Class::System, ..Problem::at(path.clone(), message) }.hint(hint));
    }
    config.locate(&mut in_conf);
    locate_in_peers(config, &mut in_peers);
    in_conf.append(&mut in_peers);
    Found { warnings: in_conf, tried: tries.len() }
}

/// What is wrong with each.
async fn errors(tries: &[Try]) -> Vec<Option<String>> {
    let mut probe = Probe::new();
    // Whoever is not heard of until the end has not answered.
    let silence = format!("no answer within {} s", ALL_WITHIN.as_secs());
    let mut errors = vec![Some(silence); tries.len()];
    let pending: Vec<_> = tries
        .iter()
        .zip(&mut errors)
        .map(|(item, error)| match &item.whom {
            Whom::Address(address) => {
                let reached = probe.reach(address);
                async move { *error = reached.await.err().map(|error| error.to_string()) }.boxed()
            }
            Whom::Target(target) => async move { *error = target_error(target).await }.boxed(),
        })
        .collect();
    let all = futures::stream::iter(pending).buffer_unordered(AT_ONCE).for_each(async |()| {});
    // What is over by then is known.
    let _ = tokio::time::timeout(ALL_WITHIN, all).await;
    errors
}

async fn target_error(target: &str) -> Option<String> {
    match tokio::time::timeout(TARGET_WITHIN, TcpStream::connect(target)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", TARGET_WITHIN.as_secs())),
    }
}

fn targets(config: &Config) -> impl Iterator<Item = Try> {
    config.protocol.expose.iter().enumerate().map(|(index, service)| Try {
        path: format!("protocol.services.expose[{index}].target"),
        whom: Whom::Target(service.target.clone()),
    })
}

/// Each address with its place in the file. The members themselves are in the order of their keys.
fn addresses(config: &Config) -> impl Iterator<Item = Try> {
    let members = &config.peers.members;
    places(config).into_iter().flat_map(move |(index, key)| {
        let addresses = members.get(&key).map(|member| member.addresses.clone()).unwrap_or_default();
        addresses.into_iter().enumerate().map(move |(at, address)| Try {
            path: format!("peers[{index}].addresses[{at}]"),
            whom: Whom::Address(address),
        })
    })
}

/// The keys of the entries of `peers.yaml`, in the file's order.
fn places(config: &Config) -> Vec<(usize, PeerKey)> {
    let Some(bytes) = config.source.snapshot.peers.as_deref() else { return Vec::new() };
    // It was read already, with its bounds.
    let document: serde_yaml::Value = serde_yaml::from_slice(bytes).unwrap_or_default();
    let entries = document.get("peers").and_then(serde_yaml::Value::as_sequence);
    let keys = entries.into_iter().flatten().enumerate();
    keys.filter_map(|(index, entry)| Some((index, entry.get("public_key")?.as_str()?.parse().ok()?)))
        .collect()
}

fn locate_in_peers(config: &Config, problems: &mut [Problem]) {
    let Some(Ok(text)) = config.source.snapshot.peers.as_deref().map(std::str::from_utf8) else { return };
    storage::document::place::locate(text, problems);
    for problem in problems {
        problem.file = Some(config.source.peers_name.clone());
    }
}
