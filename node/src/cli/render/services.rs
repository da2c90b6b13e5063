//! Services for people.

use std::fmt::Write as _;

use serde_json::Value;

use crate::plural::count;

/// What is exposed and what is connected, a service a line; then what goes on of those that were removed.
pub(crate) fn services(services: &Value) -> String {
    let rows = |key: &str| services[key].as_array().cloned().unwrap_or_default();
    let (exposed, connected) = (rows("expose"), rows("connect"));
    if exposed.is_empty() && connected.is_empty() {
        return "no services (protocol.services in conf.yaml)\n".to_owned();
    }
    let text_of = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let names = exposed.iter().chain(&connected).map(|row| text_of(row, "name").len());
    let width = names.max().unwrap_or(0);
    let mut text = String::new();
    for row in &exposed {
        let whom = match row["allow"].as_array() {
            None => "every member".to_owned(),
            Some(keys) => count(keys.len(), "member"),
        };
        let (name, target) = (text_of(row, "name"), text_of(row, "target"));
        let what = if row["removed"] == true { "removed".to_owned() } else { format!("{target} for {whom}") };
        let _ = writeln!(text, "expose   {name:width$}  {what}, {}", flow(row));
    }
    for row in &connected {
        let (name, listen) = (text_of(row, "name"), text_of(row, "listen"));
        let peer = row["peer_name"].as_str().map_or_else(|| text_of(row, "peer"), str::to_owned);
        // A key that is in no peers.yaml has no state.
        let state = row["peer_state"].as_str().unwrap_or("no member");
        let removed = if row["removed"] == true { "removed, " } else { "" };
        let _ =
            writeln!(text, "connect  {name:width$}  {removed}{listen} to {peer} ({state}), {}", flow(row));
    }
    text
}

fn flow(row: &Value) -> String {
    let open = row["open_streams"].as_u64().and_then(|open| usize::try_from(open).ok()).unwrap_or(0);
    format!("{}, {} bytes sent, {} received", count(open, "stream"), row["bytes_sent"], row["bytes_received"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_a_line() {
        assert!(services(&json!({"expose": [], "connect": []})).starts_with("no services"));
        let flow = |mut row: Value| {
            row["open_streams"] = json!(1);
            row["bytes_sent"] = json!(2);
            row["bytes_received"] = json!(3);
            row
        };
        let shown = services(&json!({
            "expose": [
                flow(json!({"name": "rpc", "target": "h:1", "allow": null})),
                flow(json!({"name": "web", "target": "h:2", "allow": ["a", "b"]})),
                flow(json!({"name": "tag", "removed": true})),
            ],
            "connect": [
                flow(json!({"name": "database", "listen": "127.0.0.1:5", "peer": "KEY", "peer_name": null, "peer_state": "connected"})),
            ],
        }));
        assert_eq!(
            shown,
            "expose   rpc       h:1 for every member, 1 stream, 2 bytes sent, 3 received\n\
             expose   web       h:2 for 2 members, 1 stream, 2 bytes sent, 3 received\n\
             expose   tag       removed, 1 stream, 2 bytes sent, 3 received\n\
             connect  database  127.0.0.1:5 to KEY (connected), 1 stream, 2 bytes sent, 3 received\n"
        );
    }
}
