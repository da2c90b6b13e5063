//! The tables. In the order of the contract's listing; bounds are those of `decode` and its neighbours.

use super::Need::{Default, Optional, Required};
use super::{Key, Kind, Need};

/// An hour in milliseconds.
const HOUR: u64 = 3_600_000;

/// An address that this node listens on.
const LISTEN: Kind = Kind::Form(
    r"^/(ip4|ip6)/[0-9A-Fa-f:.]+/(tcp/[0-9]{1,5}|udp/[0-9]{1,5}/quic-v1)$",
    "address to listen on",
);
/// An address that others dial.
const DIAL: Kind = Kind::Form(
    r"^/(ip4|ip6|dns|dns4|dns6)/[^/ ]+/(tcp/[0-9]{1,5}|udp/[0-9]{1,5}/quic-v1)(/p2p/[1-9A-HJ-NP-Za-km-z]+)?$",
    "address",
);
/// A local TCP address.
const SOCKET: Kind = Kind::Form(r"^([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}$", "ADDRESS:PORT");
/// A TCP service.
const TARGET: Kind = Kind::Form(r"^([^:/ \[\]]{1,253}|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}$", "HOST:PORT");
/// The public key of a member.
const PUBLIC_KEY: Kind = Kind::Form(
    r"^\s*([A-Za-z0-9+/]{43}=*|[A-Za-z0-9_-]{43}=*|12D3KooW[1-9A-HJ-NP-Za-km-z]{44})\s*$",
    "public key",
);
/// The name of a topic or service.
const NAME: Kind = Kind::Form(r"^[A-Za-z0-9_./-]{1,128}$", "name");
/// The name of a member.
const CALLED: Kind = Kind::Form(r"^[^\x00-\x1f\x7f-\x9f]{0,128}$", "text of at most 128 characters");
/// A level of the log.
const LEVEL: Kind = Kind::OneOf(&["debug", "info", "warn", "error"]);
/// A path of Rust modules.
const MODULE: &str = r"^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*$";
/// The name of a header (RFC 9110, 5.1).
const HEADER: Kind = Kind::Form(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", "header name");
/// The name of a query parameter.
const PARAMETER: Kind = Kind::Form(r"^[^&=# ]{1,128}$", "parameter name");

const fn key(path: &'static str, kind: Kind, need: Need, doc: &'static str) -> Key {
    Key { path, kind, need, doc }
}

/// The keys of `conf.yaml`.
pub const CONF: &[Key] = &[
    key("version", Kind::Integer(1, 1), Default("1"), "The version of this file's format."),
    key("node", Kind::Section, Required, "Who the node is, and where its data is."),
    key(
        "node.private_key",
        Kind::AnyText,
        Default("\"\""),
        "Base64 of the 64-byte Ed25519 key pair (seed, public half): a secret. Empty: generated at the first start, and written back here.",
    ),
    key(
        "node.key_file",
        Kind::Path,
        Optional,
        "A file of mode 0600 with the same text, instead of `private_key`. Generated if it is missing.",
    ),
    key(
        "node.data_dir",
        Kind::Path,
        Default("data"),
        "Generations, audit log, admin socket, pid and what the node learns. A change moves it while the node runs.",
    ),
    key(
        "node.worker_threads",
        Kind::Integer(0, 1024),
        Default("0"),
        "Threads that drive connections; 0 is one for each core.",
    ),
    key(
        "node.shutdown_timeout",
        Kind::Duration(0, HOUR),
        Default("30s"),
        "How long a graceful stop may take.",
    ),
    key("network", Kind::Section, Required, "Where the node listens, and whom it lets in."),
    key(
        "network.addresses",
        Kind::List(&LISTEN),
        Required,
        "Where the node listens, TCP or QUIC; 1 to 64 addresses. New ones are opened before old ones are closed; TCP connections stay.",
    ),
    key(
        "network.external_addresses",
        Kind::List(&DIAL),
        Default("[]"),
        "Announced to peers besides what is observed; at most 64.",
    ),
    key(
        "network.membership",
        Kind::OneOf(&["open", "members"]),
        Default("open"),
        "`members`: only keys in peers.yaml may hold a connection.",
    ),
    key("network.limits", Kind::Section, Default("{}"), "Bounds on connections. Lowering one sheds nothing."),
    key("network.limits.connections", Kind::Integer(1, 1_000_000), Default("1024"), "Connections in all."),
    key(
        "network.limits.connections_per_peer",
        Kind::Integer(1, 1_000_000),
        Default("2"),
        "Connections with one peer.",
    ),
    key(
        "network.limits.connections_per_ip",
        Kind::Integer(1, 1_000_000),
        Default("64"),
        "Connections from one IP address. Members and loopback do not count.",
    ),
    key(
        "network.limits.pending_incoming",
        Kind::Integer(1, 1_000_000),
        Default("64"),
        "Connections that are still shaking hands.",
    ),
    key("peers", Kind::Section, Required, "How members are found, dialled and remembered."),
    key(
        "peers.file",
        Kind::Path,
        Default("peers.yaml"),
        "The file of members. Its content belongs to the configuration.",
    ),
    key(
        "peers.exchange_interval",
        Kind::Duration(100, 24 * HOUR),
        Default("30s"),
        "Between two exchanges of addresses with a peer.",
    ),
    key(
        "peers.connection_timeout",
        Kind::Duration(1_000, 600_000),
        Required,
        "How long connecting may take, handshake included; at least 1s.",
    ),
    key(
        "peers.reconnect_min",
        Kind::Duration(10, HOUR),
        Default("1s"),
        "The first pause before a member is dialled again; it doubles from there.",
    ),
    key("peers.reconnect_max", Kind::Duration(10, 24 * HOUR), Default("5m"), "The longest such pause."),
    key(
        "peers.max_known",
        Kind::Integer(0, 1_000_000),
        Default("10000"),
        "Learned peers that are kept; members do not count.",
    ),
    key("protocol", Kind::Section, Default("{}"), "What is spoken over connections."),
    key(
        "protocol.ping_interval",
        Kind::Duration(100, HOUR),
        Default("15s"),
        "Between two pings on a connection.",
    ),
    key(
        "protocol.max_message_size",
        Kind::Size(256, 64 << 20),
        Default("1MiB"),
        "The largest message, sent or received.",
    ),
    key("protocol.rate_limit", Kind::Section, Default("{}"), "How much one peer may send."),
    key(
        "protocol.rate_limit.messages_per_second",
        Kind::Number(0.001, 1e6),
        Default("1000"),
        "Messages per second from one peer, over time.",
    ),
    key(
        "protocol.rate_limit.burst",
        Kind::Integer(1, 1_000_000),
        Default("2000"),
        "Messages at once from one peer.",
    ),
    key(
        "protocol.topics",
        Kind::Entries,
        Default("[]"),
        "Topics that messages are published to and received from; at most 1024.",
    ),
    key("protocol.topics[].name", NAME, Required, "The topic's name: letters, digits and any of - _ . /"),
    key("protocol.services", Kind::Section, Default("{}"), "TCP services that members use of one another."),
    key(
        "protocol.services.expose",
        Kind::Entries,
        Default("[]"),
        "Services of this machine that members may use; at most 1024.",
    ),
    key(
        "protocol.services.expose[].name",
        NAME,
        Required,
        "The service's name, by which others connect to it.",
    ),
    key(
        "protocol.services.expose[].target",
        TARGET,
        Required,
        "Where the service listens, as 127.0.0.1:18443.",
    ),
    key(
        "protocol.services.expose[].allow",
        Kind::List(&PUBLIC_KEY),
        Optional,
        "The members that may use it. Left out: every member; empty: nobody.",
    ),
    key(
        "protocol.services.connect",
        Kind::Entries,
        Default("[]"),
        "Services of members that are used here; at most 1024.",
    ),
    key("protocol.services.connect[].name", NAME, Required, "The service's name, as the member exposes it."),
    key("protocol.services.connect[].peer", PUBLIC_KEY, Required, "The member's public key."),
    key(
        "protocol.services.connect[].listen",
        SOCKET,
        Required,
        "The local TCP address at which the service is used, as 127.0.0.1:7001.",
    ),
    key("logging", Kind::Section, Required, "What is logged, in which form, and to where."),
    key("logging.level", LEVEL, Required, "From which level on events are logged."),
    key(
        "logging.targets",
        Kind::Map(MODULE, &LEVEL),
        Default("{}"),
        "Other levels for some modules, as libp2p_swarm: debug; at most 256.",
    ),
    key(
        "logging.format",
        Kind::OneOf(&["json", "text"]),
        Required,
        "A JSON object for each event, or a line for people.",
    ),
    key("logging.console_output", Kind::Flag, Default("true"), "Log to stdout."),
    key("logging.console_color", Kind::Flag, Default("true"), "Colours, in format text on a terminal."),
    key("logging.file_output", Kind::Flag, Default("false"), "Log to a file; then file_name must be there."),
    key("logging.file_name", Kind::Path, Optional, "The log file; rotated to NAME.1, NAME.2 and so on."),
    key(
        "logging.file_max_size",
        Kind::Size(1, 1 << 40),
        Default("10MB"),
        "The size from which the log file is rotated.",
    ),
    key("logging.file_max_backups", Kind::Integer(0, 1_000), Default("5"), "Rotated files that are kept."),
    key("admin", Kind::Section, Default("{}"), "How the node is asked and told."),
    key(
        "admin.socket",
        Kind::Path,
        Default("admin.sock"),
        "The Unix socket, mode 0600, in data_dir; at most 107 bytes long.",
    ),
    key(
        "admin.listen",
        SOCKET,
        Optional,
        "A TCP address to serve HTTP on, as 127.0.0.1:9100. Without jwt, only health and metrics are served there.",
    ),
    key(
        "admin.tls",
        Kind::Section,
        Optional,
        "HTTPS on `listen`. New connections meet the new certificate at once.",
    ),
    key("admin.tls.certificate", Kind::Path, Required, "The certificate chain, a PEM file."),
    key("admin.tls.private_key", Kind::Path, Required, "The certificate's private key, a PEM file."),
    key(
        "admin.tls.client_ca",
        Kind::Path,
        Optional,
        "Demands client certificates that these authorities have signed, a PEM file.",
    ),
    key(
        "admin.jwt",
        Kind::Section,
        Optional,
        "Tokens that requests on `listen` must carry. Each request is judged by what runs.",
    ),
    key(
        "admin.jwt.algorithm",
        Kind::OneOf(&["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]),
        Required,
        "The only signature algorithm that is accepted.",
    ),
    key(
        "admin.jwt.secret",
        Kind::AnyText,
        Optional,
        "HS…: the shared secret, 32 bytes or more, as they stand.",
    ),
    key(
        "admin.jwt.secret_file",
        Kind::Path,
        Optional,
        "HS…: a file that holds the secret, instead of `secret`.",
    ),
    key(
        "admin.jwt.public_key_file",
        Kind::Path,
        Optional,
        "RS256, ES256, EdDSA: the public key, a PEM file.",
    ),
    key(
        "admin.jwt.claims",
        Kind::Entries,
        Default("[]"),
        "What a token must say; all of it, and at most 32.",
    ),
    key("admin.jwt.claims[].claim", Kind::Text, Required, "The claim's name."),
    key(
        "admin.jwt.claims[].operator",
        Kind::OneOf(&["equals", "contains", "in"]),
        Required,
        "`equals`: the claim is the value. `contains`: it is a list, or a text of words, with the value in it. `in`: it is one of the values.",
    ),
    key(
        "admin.jwt.claims[].value",
        Kind::Plain,
        Required,
        "What it is compared with; a list where the operator is `in`.",
    ),
    key(
        "admin.jwt.sources",
        Kind::Entries,
        Default("[{header: Authorization}]"),
        "Where a token is looked for, in this order; at most 32.",
    ),
    key(
        "admin.jwt.sources[].header",
        HEADER,
        Optional,
        "A request header; from Authorization, what stands after `Bearer`.",
    ),
    key(
        "admin.jwt.sources[].query",
        PARAMETER,
        Optional,
        "A query parameter. It ends up in other people's logs: prefer a header.",
    ),
    key("reload", Kind::Section, Default("{}"), "How the configuration itself is taken over."),
    key(
        "reload.budget",
        Kind::Duration(200, 30_000),
        Default("2s"),
        "From the start of a reload to rest, whatever happens on the way.",
    ),
    key("reload.watch", Kind::Flag, Default("false"), "Reload by itself when a file changes."),
    key(
        "reload.settle",
        Kind::Duration(0, 60_000),
        Default("1s"),
        "How long a watched file must stand still before.",
    ),
    key("reload.history", Kind::Integer(1, 100_000), Default("50"), "Generations that are kept."),
    key(
        "reload.health_gate",
        Kind::Flag,
        Default("true"),
        "After a commit, health is looked at; a component that is not well rolls the reload back.",
    ),
];

/// The keys of `peers.yaml`.
pub const PEERS: &[Key] = &[
    key("version", Kind::Integer(1, 1), Default("1"), "The version of this file's format."),
    key(
        "peers",
        Kind::Entries,
        Required,
        "The members of the federation. An entry with the node's own key is passed over, so that one file serves all.",
    ),
    key(
        "peers[].public_key",
        PUBLIC_KEY,
        Required,
        "Base64 of the 32-byte Ed25519 public key: what `fednode id` prints on the member's machine.",
    ),
    key(
        "peers[].addresses",
        Kind::List(&DIAL),
        Default("[]"),
        "Where the member is dialled. Without one, it is a member that only dials.",
    ),
    key("peers[].name", CALLED, Optional, "What people call it."),
    key(
        "peers[].connection_timeout",
        Kind::Duration(1_000, 600_000),
        Optional,
        "Instead of peers.connection_timeout in conf.yaml.",
    ),
    key(
        "peers[].max_retries",
        Kind::Integer(0, 4_294_967_295),
        Optional,
        "After so many failures in a row it is not dialled any more; left out: for ever.",
    ),
];
