//! Every rule of `conf.yaml`: what is refused, where, and in which words.

use super::*;

/// Stands in an edit where the problem is expected to be, and is taken out.
const HERE: char = '‸';

/// Loads the default file with the edits, and expects exactly this problem.
pub(super) fn refuses(edits: &[(&str, &str)], path: &str, piece: &str) {
    let folder = Folder::new();
    for name in ["cert.pem", "key.pem", "short.secret", "not.pem"] {
        folder.write(name, "x");
    }
    let marked = folder.edited(edits);
    let at = marked.find(HERE).map(|at| {
        let before = &marked[..at];
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        (u32::try_from(before.matches('\n').count() + 1).unwrap(), u32::try_from(column).unwrap())
    });
    folder.conf(&marked.replace(HERE, ""));
    let problems = folder.rejection();
    let shown = texts(&problems, folder.folder.path()).join("\n");
    assert_eq!(problems.len(), 1, "{edits:?}:\n{shown}");
    let problem = &problems[0];
    assert_eq!(problem.path.as_deref(), Some(path), "{shown}");
    assert!(shown.contains(piece), "{edits:?}: {piece:?} in {shown}");
    assert_eq!(problem.line.zip(problem.column), at, "{edits:?}: {shown}");
    assert!(problem.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{shown}");
    assert!(!shown.contains(&folder.identity.to_text()), "a secret: {shown}");
}

#[test]
fn numbers_durations_and_sizes_have_types_and_bounds() {
    let edits: &[(&str, &str, &str, &str)] = &[
        ("version: 1", "version: ‸2", "version", "2 is out of range"),
        ("worker_threads: 0", "worker_threads: ‸1025", "node.worker_threads", "from 0 to 1024"),
        (
            "worker_threads: 0",
            "worker_threads: ‸two",
            "node.worker_threads",
            "must be a whole number, found \"two\"",
        ),
        ("worker_threads: 0", "worker_threads: ‸-1", "node.worker_threads", "-1 is out of range"),
        (
            "worker_threads: 0",
            "worker_threads: ‸1.5",
            "node.worker_threads",
            "must be a whole number, found 1.5",
        ),
        ("shutdown_timeout: 30s", "shutdown_timeout: ‸2h", "node.shutdown_timeout", "2h is out of range"),
        ("{connections: 1024", "{connections: ‸0", "network.limits.connections", "from 1 to"),
        (
            "connections_per_peer: 2",
            "connections_per_peer: ‸0",
            "network.limits.connections_per_peer",
            "from 1 to",
        ),
        (
            "connections_per_ip: 64",
            "connections_per_ip: ‸x",
            "network.limits.connections_per_ip",
            "whole number",
        ),
        ("pending_incoming: 64", "pending_incoming: ‸0", "network.limits.pending_incoming", "from 1 to"),
        ("exchange_interval: 30s", "exchange_interval: ‸30", "peers.exchange_interval", "is it `30s`?"),
        ("exchange_interval: 30s", "exchange_interval: ‸\"30\"", "peers.exchange_interval", "has no unit"),
        (
            "connection_timeout: 10s",
            "connection_timeout: ‸500ms",
            "peers.connection_timeout",
            "from 1s to 10m",
        ),
        ("reconnect_min: 1s", "reconnect_min: ‸soon", "peers.reconnect_min", "\"soon\" is no duration"),
        (
            "reconnect_max: 5m",
            "reconnect_max: ‸500ms",
            "peers.reconnect_max",
            "reconnect_min 1s is more than reconnect_max 500ms",
        ),
        ("max_known: 10000", "max_known: ‸-5", "peers.max_known", "out of range"),
        ("ping_interval: 15s", "ping_interval: ‸0s", "protocol.ping_interval", "0s is out of range"),
        (
            "max_message_size: 1MiB",
            "max_message_size: ‸1XB",
            "protocol.max_message_size",
            "\"1XB\" is no size",
        ),
        (
            "max_message_size: 1MiB",
            "max_message_size: ‸65MiB",
            "protocol.max_message_size",
            "from 256 to 64MiB",
        ),
        (
            "messages_per_second: 1000",
            "messages_per_second: ‸.nan",
            "protocol.rate_limit.messages_per_second",
            "out of range",
        ),
        ("burst: 2000", "burst: ‸0", "protocol.rate_limit.burst", "out of range"),
        ("file_max_size: 10MB", "file_max_size: ‸0", "logging.file_max_size", "out of range"),
        ("file_max_backups: 5", "file_max_backups: ‸1001", "logging.file_max_backups", "from 0 to 1000"),
        ("budget: 2s", "budget: ‸100ms", "reload.budget", "from 200ms to 30s"),
        ("budget: 2s", "budget: ‸31s", "reload.budget", "from 200ms to 30s"),
        ("settle: 1s", "settle: ‸2m", "reload.settle", "2m is out of range"),
        ("history: 50", "history: ‸0", "reload.history", "from 1 to"),
        ("health_gate: true", "health_gate: ‸1", "reload.health_gate", "must be true or false, found 1"),
        ("watch: false", "watch: ‸\"no\"", "reload.watch", "must be true or false, found \"no\""),
        ("max_known: 10000", "‸max_known:", "peers.max_known", "has no value"),
    ];
    for (from, to, path, piece) in edits {
        refuses(&[(from, to)], path, piece);
    }
}

#[test]
fn names_and_unknown_keys_tell_their_neighbour() {
    let edits: &[(&str, &str, &str, &str)] = &[
        ("membership: open", "membership: ‸closed", "network.membership", "write one of: open, members"),
        ("level: info", "level: ‸inof", "logging.level", "\"inof\" is not known here (did you mean `info`?)"),
        ("format: json", "format: ‸jsn", "logging.format", "did you mean `json`?"),
        (
            "targets: {}",
            "targets: {libp2p_swarm: ‸loud}",
            "logging.targets.libp2p_swarm",
            "debug, info, warn, error",
        ),
        (
            "targets: {}",
            "targets: {libp2p-swarm: ‸debug}",
            "logging.targets.libp2p-swarm",
            "no name of a module",
        ),
        (
            "level: info",
            "level: info\n  ‸levl: info",
            "logging.levl",
            "unknown key \"levl\" (did you mean `level`?)",
        ),
        ("watch: false", "‸wach: false", "reload.wach", "did you mean `watch`?"),
        (
            "pending_incoming: 64}",
            "‸pending: 64}",
            "network.limits.pending",
            "did you mean `pending_incoming`?",
        ),
        ("reload:\n", "‸relaod:\n", "relaod", "did you mean `reload`?"),
        (
            "version: 1",
            "version: 1\n‸zzz: 1",
            "zzz",
            "known here: version, node, network, peers, protocol, logging, admin, reload",
        ),
        ("topics: []", "topics: [‸blocks]", "protocol.topics[0]", "must be a mapping, found \"blocks\""),
        ("topics: []", "topics: [{name: a}, {name: ‸a}]", "protocol.topics[1].name", "stands there twice"),
        ("topics: []", "topics: [{name: ‸\"a b\"}]", "protocol.topics[0].name", "is no name"),
    ];
    for (from, to, path, piece) in edits {
        refuses(&[(from, to)], path, piece);
    }
}

#[test]
fn what_must_be_there_is_missed_at_its_parent() {
    refuses(
        &[("\npeers:", "\n‸peers:"), ("  connection_timeout: 10s    # at least 1s\n", "")],
        "peers.connection_timeout",
        "is missing (write `connection_timeout: 10s`)",
    );
    refuses(
        &[("\nlogging:", "\n‸logging:"), ("  level: info                # debug", "  # debug")],
        "logging.level",
        "is missing",
    );
    refuses(&[("\nlogging:", "\n‸logging:"), ("  format: json ", "  #")], "logging.format", "is missing");
    refuses(
        &[
            ("\nlogging:", "\n‸logging:"),
            ("file_output: false", "file_output: true"),
            ("  file_name: null", "  #"),
        ],
        "logging.file_name",
        "is missing",
    );
    refuses(
        &[
            ("\nnetwork:", "\n‸network:"),
            (r#"  addresses: ["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000"]"#, ""),
        ],
        "network.addresses",
        "is missing",
    );
    refuses(
        &[(r#"["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000"]"#, "‸[]")],
        "network.addresses",
        "is empty: the node would listen nowhere",
    );
    for section in ["node", "network", "peers", "logging"] {
        let folder = Folder::new();
        let text: String = folder.default();
        let start = text.find(&format!("\n{section}:")).unwrap() + 1;
        let end = start + 1 + text[start + 1..].find('\n').unwrap();
        let rest: String = text[end..]
            .lines()
            .skip(1)
            .skip_while(|line| line.starts_with(' '))
            .map(|line| format!("{line}\n"))
            .collect();
        folder.conf(&format!("{}{rest}", &text[..start]));
        let problems = folder.rejection();
        assert_eq!(problems.len(), 1, "{section}");
        assert_eq!(problems[0].path.as_deref(), Some(section));
        assert!(problems[0].message.contains("is missing"));
    }
}

#[test]
fn addresses_to_listen_on() {
    const ADDRESSES: &str = r#"["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000"]"#;
    let edits: &[(&str, &str, &str)] = &[
        ("[‸127.0.0.1:9000]", "network.addresses[0]", "is no multiaddr"),
        ("[/ip4/1.2.3.4/tcp/1, ‸/dns4/a.example/tcp/1]", "network.addresses[1]", "names are for peers.yaml"),
        ("[‸/ip4/1.2.3.4/udp/1]", "network.addresses[0]", "is of no form"),
        ("[‸/ip4/1.2.3.4/tcp/1/ws]", "network.addresses[0]", "is of no form"),
        ("[‸/ip4/1.2.3.4/tcp/99999]", "network.addresses[0]", "is no multiaddr"),
        ("[‸7]", "network.addresses[0]", "must be a text, found 7"),
        ("‸/ip4/1.2.3.4/tcp/1", "network.addresses", "must be a list"),
        (
            "[/ip4/1.2.3.4/tcp/1, ‸/ip4/1.2.3.4/tcp/1]",
            "network.addresses[1]",
            "is the same address as network.addresses[0]",
        ),
        (
            "[/ip4/0.0.0.0/tcp/1, ‸/ip4/1.2.3.4/tcp/1]",
            "network.addresses[1]",
            "1.2.3.4:1 overlaps with network.addresses[0], 0.0.0.0:1",
        ),
        (
            "[/ip6/::/udp/1/quic-v1, /ip6/::/tcp/1, ‸/ip6/::1/udp/1/quic-v1]",
            "network.addresses[2]",
            "[::1]:1 overlaps with network.addresses[0], [::]:1",
        ),
        ("[‸/dns4/a.example/udp/1/quic-v1]", "network.addresses[0]", "is a name"),
        ("[‸/ip4/224.0.0.251/udp/1/quic-v1]", "network.addresses[0]", "224.0.0.251 is a multicast address"),
        ("[‸/ip4/224.0.0.251/tcp/1]", "network.addresses[0]", "224.0.0.251 is a multicast address"),
        ("[‸/ip4/255.255.255.255/tcp/1]", "network.addresses[0]", "255.255.255.255 is a broadcast address"),
        ("[‸/ip6/ff02::1/tcp/0]", "network.addresses[0]", "ff02::1 is a multicast address"),
    ];
    for (to, path, piece) in edits {
        refuses(&[(ADDRESSES, to)], path, piece);
    }
    refuses(
        &[("listen: null", "listen: ‸\"127.0.0.1:9000\"")],
        "admin.listen",
        "127.0.0.1:9000 overlaps with network.addresses[0], 0.0.0.0:9000",
    );
    refuses(&[("listen: null", "listen: ‸\"224.0.0.1:80\"")], "admin.listen", "is a multicast address");
    // Port 0 twice, which is two ports, and IPv4 beside IPv6: all fine.
    let folder = Folder::new();
    folder.edit(&[(
        ADDRESSES,
        "[/ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/tcp/0, /ip6/::1/tcp/0, /ip4/0.0.0.0/tcp/9000, /ip6/::/tcp/9000]",
    )]);
    assert_eq!(folder.load().config.network.listen.len(), 5);
}

#[test]
fn services() {
    let (a, b) = (key(), key());
    let expose = |text: &str| format!("expose: {text}");
    let connect = |text: &str| format!("connect: {text}").replace("KEY", &a.to_string());
    let edits = [
        (true, "[{name: x, target: ‸nowhere}]", "expose[0].target", "is no host with a port"),
        (true, "[{name: x, target: ‸\"h:0\"}]", "expose[0].target", "is no host with a port"),
        (true, "[{name: x, ‸targt: \"h:1\", target: \"h:1\"}]", "expose[0].targt", "did you mean `target`?"),
        (true, "[‸{name: x}]", "expose[0].target", "is missing"),
        (
            true,
            "[{name: x, target: \"h:1\"}, {name: ‸x, target: \"h:2\"}]",
            "expose[1].name",
            "stands there twice",
        ),
        (
            true,
            "[{name: x, target: \"h:1\", allow: [‸me]}]",
            "expose[0].allow[0]",
            "is neither base64 nor a peer id",
        ),
        (false, "[{name: x, peer: ‸KEY, listen: \"127.0.0.1:7001\"}]", "connect[0].peer", "is no member"),
    ];
    for (exposed, text, path, piece) in edits {
        let (from, to) = if exposed { ("expose: []", expose(text)) } else { ("connect: []", connect(text)) };
        refuses(&[(from, &to)], &format!("protocol.services.{path}"), piece);
    }

    let folder = Folder::new();
    folder.write("peers.yaml", format!("peers:\n- public_key: {a}\n"));
    let own = folder.identity.public_key();
    folder.edit(&[
        ("expose: []", &format!("expose: [{{name: x, target: \"h:1\", allow: [{a}, {b}]}}]")),
        ("connect: []", &format!("connect: [{{name: x, peer: {own}, listen: \"127.0.0.1:0\"}}, {{name: x, peer: {a}, listen: here}}]")),
    ]);
    let problems = folder.rejection();
    let found: Vec<_> =
        problems.iter().map(|problem| (problem.path.clone().unwrap(), problem.message.clone())).collect();
    let at = |path: &str, message: String| (format!("protocol.services.{path}"), message);
    assert_eq!(
        found,
        [
            at("expose[0].allow[1]", format!("{b} is no member")),
            at("connect[0].peer", format!("{own} is this node itself")),
            at("connect[0].listen", "has port 0, which nobody could find".into()),
            at("connect[1].listen", "\"here\" is no address with a port".into()),
        ]
    );
}

#[test]
fn the_admin_server() {
    let jwt = |text: &str| format!("jwt: {text}");
    let long = "s".repeat(32);
    let edits: &[(String, &str, &str)] = &[
        (jwt("{algorithm: ‸HS257, secret: x}"), "algorithm", "did you mean `HS256`?"),
        (jwt("{algorithm: ‸none, secret: x}"), "algorithm", "HS256, HS384, HS512, RS256, ES256, EdDSA"),
        (jwt("{algorithm: HS256, secret: ‸hunter2}"), "secret", "the secret has 7 bytes (at least 32"),
        ("‸jwt: {algorithm: HS256}".into(), "secret", "is missing"),
        (jwt("{algorithm: HS256, secret_file: ‸none}"), "secret_file", "the file \"none\" does not exist"),
        (jwt("{algorithm: HS256, secret_file: ‸short.secret}"), "secret_file", "the secret has 1 bytes"),
        ("‸jwt: {algorithm: EdDSA}".into(), "public_key_file", "is missing"),
        (jwt("{algorithm: EdDSA, public_key_file: ‸not.pem}"), "public_key_file", "BEGIN PUBLIC KEY"),
        (
            jwt(&format!("{{algorithm: HS256, secret: {long}, public_key_file: ‸key.pem}}")),
            "public_key_file",
            "is for RS256",
        ),
        (
            jwt(&format!(
                "{{algorithm: HS256, secret: {long}, claims: [{{claim: a, operator: ‸is, value: b}}]}}"
            )),
            "claims[0].operator",
            "did you mean `in`?",
        ),
        (
            jwt(&format!(
                "{{algorithm: HS256, secret: {long}, claims: [{{claim: a, operator: in, value: ‸b}}]}}"
            )),
            "claims[0].value",
            "is no value for this operator",
        ),
        (
            jwt(&format!("{{algorithm: HS256, secret: {long}, sources: [‸{{}}]}}")),
            "sources[0]",
            "names no single place",
        ),
        (
            jwt(&format!("{{algorithm: HS256, secret: {long}, sources: [{{header: ‸\"a b\"}}]}}")),
            "sources[0].header",
            "is no such name",
        ),
        (jwt("‸hunter2"), "", "must be a mapping, found a text"),
    ];
    for (to, path, piece) in edits {
        let dot = if path.is_empty() { "" } else { "." };
        refuses(&[("jwt: null", to)], &format!("admin.jwt{dot}{path}"), piece);
    }
    refuses(&[("listen: null", "listen: ‸localhost:1")], "admin.listen", "names are not resolved here");
    refuses(
        &[("socket: admin.sock", &format!("socket: ‸/{}", "s".repeat(107)))],
        "admin.socket",
        "too long for a socket",
    );
    let tls = "‸tls: {private_key: key.pem}";
    let folder = Folder::new();
    folder.edit(&[("tls: null", &tls.replace(HERE, ""))]);
    let paths: Vec<_> = folder.rejection().into_iter().filter_map(|problem| problem.path).collect();
    assert_eq!(paths, ["admin.tls.certificate", "admin.tls.private_key"], "missing key, missing file");
}

#[test]
fn the_private_key() {
    let folder = Folder::new();
    let text = folder.identity.to_text();
    let line = |key: &str| folder.default().replace(&format!("private_key: \"{text}\""), key);
    for (key, piece) in [
        ("private_key: hunter2!", "the key is not base64"),
        ("private_key: c2hvcnQ=", "the key decodes to 5 bytes"),
        ("private_key: 12", "must be a text, found a number"),
        ("private_key: [a]", "must be a text, found a list"),
        ("key_file: data\n  data_dir: data #", "the file \"data\" is not a regular file"),
    ] {
        fs::create_dir_all(folder.path("data")).unwrap();
        folder.conf(&line(key).replacen("#   # base64", "# base64", 1));
        let problems = folder.load_against(None).expect_err(key).problems;
        let shown = problems_text(&problems);
        assert!(shown.contains(piece) && !shown.contains("hunter2"), "{key}: {shown}");
    }
    folder.conf(&line(&format!("private_key: \"{text}\"\n  key_file: node.key")));
    assert_eq!(folder.rejection()[0].path.as_deref(), Some("node.key_file"));
}
