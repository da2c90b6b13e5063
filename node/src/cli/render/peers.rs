//! Members and learned peers for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::utc;

/// The members of a status, a line each; then whom the node has learned of besides.
pub(crate) fn peers(peers: &Value) -> String {
    let rows = |key: &str| peers[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let (members, known) = (rows("members"), rows("known"));
    let mut text = String::new();
    if members.is_empty() {
        text += "no members\n";
    }
    for member in members {
        let of = |key: &str| member[key].as_str().unwrap_or("-");
        let addresses = addresses(member);
        let addresses = if addresses.is_empty() { "(dials us)".to_owned() } else { addresses };
        let _ = writeln!(text, "{}  {:<13}  {}  {addresses}", of("public_key"), of("state"), of("name"));
    }
    if !known.is_empty() {
        text += "\nlearned:\n";
    }
    for peer in known {
        let of = |key: &str| peer[key].as_str().unwrap_or("-");
        let seen = utc(peer["last_seen"].as_u64().unwrap_or(0).saturating_mul(1000));
        let stale = if peer["stale"] == true { ", stale" } else { "" };
        let source = format!("by {}", of("source"));
        let _ = writeln!(text, "{}  {source:<13}  seen {seen}{stale}  {}", of("public_key"), addresses(peer));
    }
    text
}

fn addresses(peer: &Value) -> String {
    let addresses = peer["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
    addresses.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_learned_peers_are_told_apart() {
        assert_eq!(peers(&json!({"members": [], "known": []})), "no members\n");
        let shown = peers(&json!({
            "members": [
                {"public_key": "A", "name": "alice", "state": "connected", "addresses": ["/x", "/y"]},
                {"public_key": "B", "name": null, "state": null, "addresses": []},
            ],
            "known": [{"public_key": "C", "addresses": ["/z"], "source": "exchange", "last_seen": 0, "stale": true}],
        }));
        assert_eq!(
            shown,
            "A  connected      alice  /x /y\n\
             B  -              -  (dials us)\n\
             \nlearned:\n\
             C  by exchange    seen 1970-01-01T00:00:00Z, stale  /z\n"
        );
    }
}
