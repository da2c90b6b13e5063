//! The `conf.yaml` that `init` and a first `run` write: the contract's listing, with a key.

use net::Identity;
use socket2::{Domain, Protocol, Socket, Type};

/// The text of a new `conf.yaml`: every key with its default and what it is for. It holds the private key: mode 0600.
#[must_use]
pub fn default_config_text(identity: &Identity, ipv6: bool) -> String {
    let addresses = if ipv6 {
        r#"["/ip4/0.0.0.0/tcp/9000", "/ip6/::/tcp/9000"]"#
    } else {
        r#"["/ip4/0.0.0.0/tcp/9000"]"#
    };
    format!(
        r#"# yaml-language-server: $schema=conf.schema.json (made by: fednode schema > conf.schema.json)
# After an edit: `fednode check`, then `fednode reload` or SIGHUP. Durations are 500ms, 10s, 1m30s; sizes 64KiB, 10MB. Paths start here.
version: 1
node:
  private_key: "{key}"   # base64 of the Ed25519 key pair (seed, public); a secret
  # key_file: node.key       # instead of private_key: a 0600 file with the same text; generated if missing
  data_dir: data             # generations, audit.jsonl, admin socket, pid
  worker_threads: 0          # threads that drive connections; 0 = one per core
  shutdown_timeout: 30s
network:
  addresses: {addresses}
  external_addresses: []     # announced to peers besides what is observed
  membership: open           # open | members: only keys in peers.yaml may hold a connection
  limits: {{connections: 1024, connections_per_peer: 2, connections_per_ip: 64, pending_incoming: 64}}
peers:
  file: peers.yaml
  exchange_interval: 30s
  connection_timeout: 10s    # at least 1s
  reconnect_min: 1s
  reconnect_max: 5m
  max_known: 10000           # learned peers that are kept
protocol:
  ping_interval: 15s
  max_message_size: 1MiB
  rate_limit: {{messages_per_second: 1000, burst: 2000}}   # per peer
  topics: []                 # - name: blocks
  services:
    expose: []               # - {{name: bitcoin-rpc, target: "127.0.0.1:18443", allow: ["<public key>"]}}
    connect: []              # - {{name: bitcoin-rpc, peer: "<public key>", listen: "127.0.0.1:7001"}}
logging:
  level: info                # debug | info | warn | error
  targets: {{}}                # libp2p_swarm: debug
  format: json               # json | text
  console_output: true
  console_color: true
  file_output: false
  file_name: null            # rotated to NAME.1, NAME.2, …
  file_max_size: 10MB
  file_max_backups: 5
admin:
  socket: admin.sock         # in data_dir, 0600
  listen: null               # "127.0.0.1:9100"
  tls: null                  # {{certificate: cert.pem, private_key: key.pem, client_ca: ca.pem}}
  jwt: null                  # {{algorithm: HS256, secret_file: jwt.secret}}
reload:
  budget: 2s                 # 200ms to 30s
  watch: false               # reload by itself when a file changes
  settle: 1s                 # a watched file must stand still this long
  history: 50                # generations that are kept
  health_gate: true          # after a commit, health is checked; failing it rolls back
"#,
        key = identity.to_text(),
    )
}

/// Whether this machine can listen on IPv6: a wildcard socket is bound for a moment.
#[must_use]
pub fn host_has_ipv6() -> bool {
    let any = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| socket.bind(&any.into()))
        .is_ok()
}
