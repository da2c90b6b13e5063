//! The effective configuration written out.

use super::*;

/// Every option that is off by default, on.
pub(super) fn everything(folder: &Folder) -> String {
    let (a, b) = (key(), key());
    let key = rcgen::KeyPair::generate().unwrap();
    folder.write("cert.pem", certificate(&key));
    folder.write("key.pem", key.serialize_pem());
    folder.write("ca.pem", certificate(&key));
    folder.write("peers.yaml", format!("peers:\n- {{public_key: {a}, name: one, max_retries: 3}}\n- {{public_key: {b}, addresses: [/dns4/b.example/tcp/1], connection_timeout: 5s}}\n"));
    folder.edited(&[
        ("external_addresses: []", "external_addresses: [/dns4/me.example/tcp/9000]"),
        ("topics: []", "topics: [{name: blocks}, {name: votes}]"),
        ("expose: []", &format!("expose: [{{name: rpc, target: \"127.0.0.1:18443\", allow: [{a}]}}, {{name: ssh, target: \"h:22\"}}]")),
        ("connect: []", &format!("connect: [{{name: rpc, peer: {b}, listen: \"127.0.0.1:7001\"}}]")),
        ("targets: {}", "targets: {libp2p_swarm: debug, \"a::b\": warn}"),
        ("file_output: false", "file_output: true"),
        ("file_name: null", "file_name: logs/node.log"),
        ("listen: null", "listen: \"127.0.0.1:9100\""),
        ("tls: null", "tls: {certificate: cert.pem, private_key: key.pem, client_ca: ca.pem}"),
        ("jwt: null", "jwt: {algorithm: HS256, secret: \"SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS\", claims: [{claim: role, operator: in, value: [admin, 7]}], sources: [{header: Authorization}, {query: token}]}"),
    ])
}

#[test]
fn what_is_written_out_reads_back_as_the_same() {
    let folder = Folder::new();
    folder.conf(&everything(&folder));
    let config = folder.load().config;
    let (text, peers) = (config.canonical(), config.canonical_peers());
    let key = fs::read_to_string(folder.path("key.pem")).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    for secret in [folder.identity.to_text().as_str(), "SSSSSSSS", key_line] {
        assert!(!text.contains(secret), "{text}");
        assert!(!config.to_json().to_string().contains(secret));
    }
    let with_secrets = text
        .replacen("private_key: '[redacted]'", &format!("private_key: {}", folder.identity.to_text()), 1)
        .replacen("secret: '[redacted]'", "secret: SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS", 1);
    assert_eq!(text.matches("[redacted]").count(), 2, "{text}");
    folder.conf(&with_secrets);
    folder.write("peers.yaml", &peers);
    let again = folder.load().config;
    assert_eq!(config.changes(&again), []);
    assert_eq!(*config, *again);
    assert_eq!((again.canonical(), again.canonical_peers()), (text, peers));
}

#[test]
fn the_default_is_written_out_in_the_order_of_the_contract() {
    let folder = Folder::new();
    folder.edit(&[("worker_threads: 0", "worker_threads: 3")]);
    let text = folder.load().config.canonical();
    let expected = "version: 1
node:
  private_key: '[redacted]'
  data_dir: data
  worker_threads: 3
  shutdown_timeout: 30s
network:
  addresses:
  - /ip4/0.0.0.0/tcp/9000
  - /ip6/::/tcp/9000
  external_addresses: []
  membership: open
  limits:
    connections: 1024
    connections_per_peer: 2
    connections_per_ip: 64
    pending_incoming: 64
peers:
  file: peers.yaml
  exchange_interval: 30s
  connection_timeout: 10s
  reconnect_min: 1s
  reconnect_max: 5m
  max_known: 10000
protocol:
  ping_interval: 15s
  max_message_size: 1MiB
  rate_limit:
    messages_per_second: 1000
    burst: 2000
  topics: []
  services:
    expose: []
    connect: []
logging:
  level: info
  targets: {}
  format: json
  console_output: true
  console_color: true
  file_output: false
  file_name: null
  file_max_size: 10MB
  file_max_backups: 5
admin:
  socket: admin.sock
  listen: null
  tls: null
  jwt: null
reload:
  budget: 2s
  watch: false
  settle: 1s
  history: 50
  health_gate: true
";
    assert_eq!(text, expected);
}
