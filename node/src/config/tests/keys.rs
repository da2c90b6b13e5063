//! The tables of keys against the decoder, and what is made of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use storage::document::{ByteSize, Span};

use super::*;
use crate::config::keys::{CONF, Key, Kind, Need, PEERS, below, conf_schema, peers_schema, reference};

/// A document with every key that goes together, and each list with one item.
fn full(key: &str) -> Value {
    json!({
        "version": 1,
        "node": {"private_key": key, "data_dir": "data", "worker_threads": 0, "shutdown_timeout": "30s"},
        "network": {
            "addresses": ["/ip4/127.0.0.1/tcp/9000"], "external_addresses": [], "membership": "open",
            "limits": {"connections": 1024, "connections_per_peer": 2, "connections_per_ip": 64, "pending_incoming": 64},
        },
        "peers": {
            "file": "peers.yaml", "exchange_interval": "30s", "connection_timeout": "10s", "reconnect_min": "1s",
            "reconnect_max": "5m", "max_known": 10000,
        },
        "protocol": {
            "ping_interval": "15s", "max_message_size": "1MiB", "rate_limit": {"messages_per_second": 1000, "burst": 2000},
            "topics": [{"name": "blocks"}],
            "services": {
                "expose": [{"name": "rpc", "target": "127.0.0.1:18443", "allow": [MEMBER]}],
                "connect": [{"name": "rpc", "peer": MEMBER, "listen": "127.0.0.1:7001"}],
            },
        },
        "logging": {
            "level": "info", "targets": {"net": "debug"}, "format": "json", "console_output": true, "console_color": true,
            "file_output": false, "file_name": null, "file_max_size": "10MB", "file_max_backups": 5,
        },
        "admin": {
            "socket": "admin.sock", "listen": "127.0.0.1:9100",
            "tls": {"certificate": "cert.pem", "private_key": "key.pem", "client_ca": "cert.pem"},
            "jwt": {
                "algorithm": "HS256", "secret_file": "jwt.secret",
                "claims": [{"claim": "role", "operator": "equals", "value": "admin"}],
                "sources": [{"header": "Authorization"}],
            },
        },
        "reload": {"budget": "2s", "watch": false, "settle": "1s", "history": 50, "health_gate": true},
    })
}

/// A member (RFC 8032's test vectors). The certificate and its key were made by openssl for this test, for a hundred years.
const MEMBER: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("cert.pem", include_str!("keys/cert.pem"));
    folder.write("key.pem", include_str!("keys/key.pem"));
    folder.write("jwt.secret", "x".repeat(40));
    folder.write("peers.yaml", json!({"peers": [{"public_key": MEMBER}]}).to_string());
    // What is refused in a test is refused for the sake of the key that it changes.
    folder.conf(&full(&folder.identity.to_text()).to_string());
    folder.load();
    folder
}

/// Every problem of the document, warnings too.
fn judged(folder: &Folder, document: &Value) -> Vec<Problem> {
    folder.conf(&document.to_string());
    match folder.load_against(None) {
        Ok(loaded) => loaded.warnings,
        Err(rejection) => rejection.problems,
    }
}

/// Whether the decoder refuses something at this key or below it.
fn refuses_at(folder: &Folder, document: &Value, path: &str) -> Option<String> {
    folder.conf(&document.to_string());
    let problems = folder.load_against(None).err()?.problems;
    let at = |problem: &&Problem| problem.path.as_deref().is_some_and(|found| found.starts_with(path));
    problems.iter().find(at).map(ToString::to_string)
}

/// The place of a key in a document; made, where a mapping on the way is not there.
fn place<'v>(document: &'v mut Value, path: &str) -> &'v mut Value {
    path.split('.').filter(|part| !part.is_empty()).fold(document, |at, part| match part.strip_suffix("[]") {
        Some(list) => &mut at[list][0],
        None => &mut at[part],
    })
}

fn shown(path: &str) -> String {
    path.replace("[]", "[0]")
}

fn names(keys: &[Key], parent: &str) -> BTreeSet<String> {
    below(keys, parent).map(|key| key.name().to_owned()).collect()
}

/// Whoever asks for an unknown key is told the known ones: the decoder itself says what its keys are.
fn known_to_the_decoder(problems: &[Problem], parent: &str) -> BTreeSet<String> {
    let path = if parent.is_empty() { "zzzzzzzz".to_owned() } else { format!("{}.zzzzzzzz", shown(parent)) };
    let hints: Vec<_> = problems
        .iter()
        .filter(|problem| problem.path.as_deref() == Some(&*path))
        .filter_map(|problem| problem.hint.as_deref())
        .collect();
    let [hint] = hints.as_slice() else { panic!("{path}: {problems:#?}") };
    let list = hint.strip_prefix("known here: ").unwrap_or_else(|| panic!("{path}: {hint}"));
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_tables_have_the_keys_that_the_decoder_knows_and_no_others() {
    let folder = folder();
    let parents: BTreeSet<&str> = CONF.iter().map(Key::parent).collect();
    for parent in parents {
        let mut document = full(&folder.identity.to_text());
        place(&mut document, parent)["zzzzzzzz"] = json!(1);
        let problems = judged(&folder, &document);
        assert_eq!(names(CONF, parent), known_to_the_decoder(&problems, parent), "{parent}");
    }
    folder.conf(&full(&folder.identity.to_text()).to_string());
    for parent in ["", "peers[]"] {
        let mut document = json!({"version": 1, "peers": [{"public_key": MEMBER}]});
        place(&mut document, parent)["zzzzzzzz"] = json!(1);
        folder.write("peers.yaml", document.to_string());
        assert_eq!(names(PEERS, parent), known_to_the_decoder(&folder.load().warnings, parent), "{parent}");
    }
}

#[test]
fn bounds_are_the_decoders() {
    let folder = folder();
    for key in CONF {
        // Values within the bounds, and the ones beside them.
        let span = |ms: u64| json!(Span(std::time::Duration::from_millis(ms)).to_string());
        let (within, beyond) = match key.kind {
            Kind::Integer(low, high) => (
                vec![json!(low), json!(high)],
                vec![low.checked_sub(1).map(Value::from), Some(json!(high + 1))],
            ),
            Kind::Duration(low, high) => {
                (vec![span(low), span(high)], vec![low.checked_sub(1).map(span), Some(span(high + 1))])
            }
            Kind::Size(low, high) => (
                vec![json!(low), json!(ByteSize(high).to_string())],
                vec![low.checked_sub(1).map(Value::from), Some(json!(high + 1))],
            ),
            Kind::Number(low, high) => {
                (vec![json!(low), json!(high)], vec![Some(json!(low / 2.0)), Some(json!(high * 2.0))])
            }
            _ => continue,
        };
        for value in within {
            let mut document = full(&folder.identity.to_text());
            *place(&mut document, key.path) = value.clone();
            // What it is compared with beside it is not looked at here.
            let refused = refuses_at(&folder, &document, key.path);
            let out = refused.filter(|text| !text.contains("is more than"));
            assert_eq!(out, None, "{} takes {value}", key.path);
        }
        for value in beyond.into_iter().flatten() {
            let mut document = full(&folder.identity.to_text());
            *place(&mut document, key.path) = value.clone();
            assert!(refuses_at(&folder, &document, key.path).is_some(), "{} refuses {value}", key.path);
        }
    }
}

#[test]
fn a_default_that_is_spelled_out_changes_nothing() {
    let folder = folder();
    let key = folder.identity.to_text();
    let bare = json!({
        "node": {"private_key": key}, "network": {"addresses": ["/ip4/127.0.0.1/tcp/9000"]},
        "peers": {"connection_timeout": "10s"}, "logging": {"level": "info", "format": "json"},
    });
    folder.conf(&bare.to_string());
    let without = folder.load().config;
    let mut spelled = bare;
    let mut count = 0;
    for key in CONF.iter().filter(|key| !key.path.contains("[]") && !key.path.starts_with("admin.jwt.")) {
        let Need::Default(text) = key.need else { continue };
        if matches!(key.kind, Kind::Section) || key.path == "node.private_key" {
            continue;
        }
        *place(&mut spelled, key.path) = serde_yaml::from_str(text).unwrap();
        count += 1;
    }
    assert!(count > 30, "{count}");
    folder.conf(&spelled.to_string());
    let with = folder.load().config;
    assert!(*with == *without, "{:#?}", without.changes(&with));
}

/// What the schema refuses the decoder refuses; and a value of the wrong type, or none, both do.
#[test]
fn the_schema_is_never_stricter_than_the_decoder_and_knows_its_types() {
    let folder = folder();
    let schema = Schema::of(conf_schema());
    let values = json!([
        null, true, 0, 1, 1.5, -1, 70000, "", " ", "x", "x y", "10s", "10", "1h1m1s1ms", "1s1m", "1MiB", "1 kb", "1XB", "open", "debug",
        "equals", "HS256", "/ip4/127.0.0.1/tcp/1", "/dns4/a/tcp/1", "/ip6/::1/udp/1/quic-v1", "/ip4/1.2.3.4", "127.0.0.1:80", "[::1]:80", "a:b",
        MEMBER, MEMBER.trim_end_matches('='), "12D3KooWQYzRAr3JxtHhGdPdM6eHvxGCy3kDBPvJGXgmQEDqzm6M", [], ["x"], [{}], [null], {}, {"x": 1},
    ]);
    let mut compared = 0;
    for key in CONF {
        for value in values.as_array().unwrap() {
            let mut document = full(&folder.identity.to_text());
            *place(&mut document, key.path) = value.clone();
            folder.conf(&document.to_string());
            let problems = folder.load_against(None).err().map(|rejection| rejection.problems);
            let judgement = schema.judge(&document);
            compared += 1;
            if let Err(error) = &judgement {
                assert!(problems.is_some(), "{}: {value}: only the schema refuses: {error}", key.path);
            }
            let path = shown(key.path);
            for problem in problems.into_iter().flatten() {
                let is_here = problem.path.as_deref().is_some_and(|at| at.starts_with(&path));
                let is_type =
                    problem.message.contains("must be a ") || problem.message.contains("has no value");
                if is_here && is_type {
                    assert!(judgement.is_err(), "{}: {value}: the schema lets it pass: {problem}", key.path);
                }
            }
        }
    }
    assert!(compared > 2000);
}

#[test]
fn the_schemas_take_what_the_program_writes_and_what_the_contract_shows() {
    let folder = folder();
    let conf = Schema::of(conf_schema());
    let yaml = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
    for ipv6 in [false, true] {
        conf.judge(&yaml(&default_config_text(&folder.identity, ipv6))).unwrap();
    }
    conf.judge(&full("")).unwrap();
    conf.judge(&yaml(&folder.load().config.canonical())).unwrap();
    let jwt = |jwt: Value| {
        let mut document = full("");
        document["admin"]["jwt"] = jwt;
        conf.judge(&document)
    };
    jwt(json!({"algorithm": "EdDSA", "public_key_file": "k.pem", "sources": [{"query": "token"}, {"header": "X-Token"}]})).unwrap();
    jwt(json!({"algorithm": "HS512", "secret": "x", "claims": [{"claim": "a", "operator": "in", "value": ["b"]}]})).unwrap();
    for wrong in [
        json!({"algorithm": "EdDSA", "secret": "x"}),
        json!({"algorithm": "HS256", "public_key_file": "k.pem"}),
        json!({"algorithm": "none"}),
        json!({"algorithm": "HS256", "secret": "x", "sources": [{"header": "a", "query": "b"}]}),
        json!({}),
    ] {
        assert!(jwt(wrong.clone()).is_err(), "{wrong}");
    }
    let mut no_name = full("");
    no_name["logging"]["file_output"] = json!(true);
    assert!(conf.judge(&no_name).is_err(), "a log file without a name");
    no_name["logging"]["file_name"] = json!("node.log");
    conf.judge(&no_name).unwrap();

    let peers = Schema::of(peers_schema());
    peers.judge(&yaml(DEFAULT_PEERS)).unwrap();
    peers.judge(&json!({"peers": null, "somebody's own": 1})).unwrap();
    peers
        .judge(&json!({"peers": [{
            "public_key": MEMBER, "addresses": ["/ip4/192.168.1.100/tcp/9000", "/dns4/node1.example.com/tcp/9000"],
            "name": "one", "connection_timeout": "5s", "max_retries": 3,
        }]}))
        .unwrap();
    assert!(peers.judge(&json!({"peers": [{"addresses": []}]})).is_err());
    assert!(peers.judge(&json!({})).is_err());
}

#[test]
fn every_key_with_a_value_has_a_row_of_what_a_reload_does() {
    for key in CONF.iter().filter(|key| !matches!(key.kind, Kind::Section) && key.path != "version") {
        assert!(crate::config::changes::row_of(key.path).is_some(), "{}", key.path);
    }
    for (path, ..) in crate::config::changes::KEYS {
        assert!(CONF.iter().any(|key| key.path == *path), "{path} is no key");
    }
}

#[test]
fn the_reference_in_docs_is_what_the_tables_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is old: write it with `fednode reference > docs/configuration.md`"
    );
}

/// A schema, compiled.
struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    fn of(schema: Value) -> Self {
        let mut compiler = boon::Compiler::new();
        let mut schemas = boon::Schemas::new();
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, index }
    }

    fn judge(&self, value: &Value) -> Result<(), String> {
        self.schemas.validate(value, self.index).map_err(|error| format!("{error:#}"))
    }
}
