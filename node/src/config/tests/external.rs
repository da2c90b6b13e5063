//! Addresses at which others reach the node, and keys and addresses of others: what cannot be meant is refused, in words about the
//! one whose it is.

use super::rules::refuses;
use super::*;

const EXTERNAL: &str = "external_addresses: []";

#[test]
fn external_addresses_are_the_nodes_own() {
    let other = key().peer_id();
    for (address, piece) in [
        ("/ip4/0.0.0.0/tcp/1", "at which others reach this node"),
        ("/ip4/1.2.3.4/tcp/0", "the port at which others reach this node"),
        ("/dns4/127.0.0.1/tcp/1", "a number where the name is to stand"),
        ("\"/dns4/my node/tcp/1\"", "a name that no host can have"),
        (&format!("/ip4/1.2.3.4/tcp/1/p2p/{other}"), "external addresses are this node's own"),
    ] {
        let to = format!("external_addresses: [‸{address}]");
        refuses(&[(EXTERNAL, &to)], "network.external_addresses[0]", piece);
    }
    let folder = Folder::new();
    let own = folder.identity.peer_id();
    let to = format!("external_addresses: [/ip4/1.2.3.4/tcp/1/p2p/{own}]");
    folder.edit(&[(EXTERNAL, &to)]);
    assert_eq!(folder.load().config.network.external[0].to_string(), "/ip4/1.2.3.4/tcp/1");
    // A key that is still to be made is none that stands there already.
    folder.conf(&folder.edited(&[(EXTERNAL, &to), (&folder.identity.to_text(), "")]));
    let problems = folder.rejection();
    assert_eq!(problems[0].path.as_deref(), Some("network.external_addresses[0]"), "{problems:?}");
}

#[test]
fn hints_speak_of_the_family_of_the_address() {
    let addresses = r#"["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000"]"#;
    for (name, wildcard) in
        [("dns6", "/ip6/::/tcp"), ("dns4", "/ip4/0.0.0.0/tcp"), ("dns", "/ip4/0.0.0.0/tcp")]
    {
        let to = format!("[‸/{name}/a.example/tcp/1]");
        refuses(&[(addresses, &to)], "network.addresses[0]", wildcard);
    }
    // Addresses of documentation (RFC 5737, RFC 3849), which no interface has.
    for (address, wildcard) in [
        ("/ip4/192.0.2.1/tcp/9000", "; 0.0.0.0 stands"),
        ("/ip6/2001:db8::1/udp/9000/quic-v1", "; :: stands"),
    ] {
        let folder = Folder::new();
        folder.edit(&[(addresses, &format!("[{address}]"))]);
        let problems = resources(&folder.load().config, None, &[]);
        let shown = texts(&problems, folder.folder.path()).join("\n");
        assert!(shown.contains(wildcard) || shown.contains("has no IPv6"), "{shown}");
    }
}

#[test]
fn keys_and_addresses_of_members_that_cannot_be_meant_are_refused() {
    let nobody = "A".repeat(43) + "=";
    let no_point = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let folder = Folder::new();
    for (public_key, address, piece) in [
        (nobody.as_str(), "/ip4/1.2.3.4/tcp/1", "for which anybody can sign"),
        (no_point, "/ip4/1.2.3.4/tcp/1", "is not a point of the Ed25519 curve"),
        ("", "/dns4/127.0.0.1/tcp/9000", "a number where the name is to stand"),
        ("", "/dns4/my node.example/tcp/9000", "a name that no host can have"),
    ] {
        let public_key = if public_key.is_empty() { key().to_string() } else { public_key.to_owned() };
        let peers = format!("peers:\n  - public_key: \"{public_key}\"\n    addresses: [\"{address}\"]\n");
        folder.write("peers.yaml", peers);
        let problems = folder.rejection();
        let shown = texts(&problems, folder.folder.path()).join("\n");
        assert_eq!(problems.len(), 1, "{shown}");
        assert!(shown.contains(piece) && problems[0].line.is_some() && problems[0].hint.is_some(), "{shown}");
    }
}
