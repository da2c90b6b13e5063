//! `docs/wire.md` says what the code does: its examples are those that the code writes and reads, its names are there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::goodbye::Reason;
use crate::services::wire as service;
use crate::topics::Envelope;
use crate::wire::{Frame, MAX_DATA, Message, Status, WireError};
use crate::{Identity, exchange};

const PAGE: &str = include_str!("../../docs/wire.md");

/// The lines of the blocks that begin with "```hex NAME", as bytes, by name.
fn examples() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let blocks = PAGE.split("\n```hex ").skip(1);
    let mut examples = BTreeMap::new();
    for block in blocks {
        let (name, rest) = block.split_once('\n').unwrap();
        let (lines, _) = rest.split_once("\n```").unwrap();
        let before = examples.insert(name, lines.lines().map(bytes).collect());
        assert!(before.is_none(), "two examples are called {name}");
    }
    examples
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        hex.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("hex")).collect();
    assert_eq!(digits.len() % 2, 0, "{hex}");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// The value of the row of a table that begins with this cell, without its backticks.
fn cell(row: &str) -> &'static str {
    let start = format!("| {row} | ");
    let line = PAGE.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("no {row}"));
    line.trim_end_matches(" |").trim_matches('`')
}

#[test]
fn the_examples_are_the_frames_that_they_say() {
    let message = |sequence, content_type: Option<&str>, data: &[u8]| {
        let content_type = content_type.map(str::to_owned);
        Frame::Message(Message { sequence, content_type, data: data.to_vec() })
    };
    let expected = [
        ("hello", Frame::Hello { session: 0x0123_4567_89ab_cdef }),
        ("message", message(7, Some("text/plain"), b"hi")),
        ("empty-message", message(8, None, b"")),
        ("accepted", Frame::Ack { sequence: 7, status: Status::Accepted }),
        ("rate-limited", Frame::Ack { sequence: 8, status: Status::RateLimited }),
    ];
    let mut examples = examples();
    for (name, frame) in expected {
        let bytes = examples.remove(name).unwrap_or_else(|| panic!("no example {name}")).concat();
        assert_eq!(frame.encode(), bytes, "{name}");
        assert_eq!(Frame::decode(&bytes, MAX_DATA).unwrap(), Some((frame, bytes.len())), "{name}");
    }
    let envelope = Envelope { number: 7, content_type: Some("text/plain".to_owned()), data: b"hi".to_vec() };
    assert_eq!(envelope.encode(), examples.remove("envelope").unwrap().concat());
    let refused = examples.remove("refused").unwrap();
    let errors: Vec<_> = refused.iter().map(|bytes| Frame::decode(bytes, MAX_DATA).unwrap_err()).collect();
    assert!(
        matches!(
            errors[..],
            [
                WireError::Kind(4),
                WireError::Length { kind: 1, length: 9 },
                WireError::Length { kind: 2, length: 10 },
                WireError::ContentType,
                WireError::Length { kind: 2, length: 0x0400_0109 },
                WireError::Status(5),
            ]
        ),
        "{errors:?}"
    );
    examples.retain(|name, _| !name.starts_with("service-"));
    for (name, ..) in exchanged() {
        assert!(examples.remove(name).is_some(), "no example {name}");
    }
    assert!(examples.is_empty(), "nobody checks {:?}", examples.keys());
}

/// The examples of peer exchange, by name.
fn exchanged() -> [(&'static str, Vec<u8>); 5] {
    let identity = Identity::read(cell("in `conf.yaml`")).unwrap().identity;
    exchange::examples(&identity)
}

#[test]
fn the_examples_of_peer_exchange_are_its_messages() {
    let examples = examples();
    for (name, bytes) in exchanged() {
        let written = examples.get(name).map(|lines| lines.concat()).unwrap_or_default();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(written == bytes, "{name} is {hex}");
    }
}

#[test]
fn the_examples_of_services_are_what_the_code_writes() {
    let mut examples = examples();
    let hello = examples.remove("service-hello").unwrap().concat();
    assert_eq!(service::hello("bitcoin-rpc"), hello);
    let [data, end] = &examples.remove("service-data").unwrap()[..] else { panic!("two lines") };
    assert_eq!([&service::head(2)[..], b"hi"].concat(), *data);
    assert_eq!(service::head(0)[..], end[..]);
    assert!(!examples.keys().any(|name| name.starts_with("service-")), "nobody checks {:?}", examples.keys());
    let names = ["accepted", "unknown", "not allowed", "unreachable", "too many", "stopping"];
    for (status, name) in service::Status::ALL.into_iter().zip(names) {
        assert!(cell(&format!("`{:02x}`", status.to_byte())).starts_with(name), "{status:?}");
    }
}

#[test]
fn the_statuses_are_those_of_the_code() {
    for (name, status) in [
        ("accepted", Status::Accepted),
        ("inbox full", Status::InboxFull),
        ("too large", Status::TooLarge),
        ("rate limited", Status::RateLimited),
        ("refused", Status::Refused),
    ] {
        let (byte, _) = cell(name).split_once("` |").unwrap();
        let frame = Frame::Ack { sequence: 1, status };
        assert_eq!(frame.encode().last(), bytes(byte).last(), "{name}");
    }
}

#[test]
fn the_reasons_are_those_of_the_code() {
    for (name, reason) in
        [("removed", Reason::Removed), ("not a member", Reason::NotAMember), ("stopping", Reason::Stopping)]
    {
        let (byte, _) = cell(name).split_once("` |").unwrap();
        assert_eq!([reason.to_byte()], *bytes(byte), "{name}");
    }
}

#[test]
fn every_protocol_is_named() {
    for protocol in [
        crate::direct::PROTOCOL,
        crate::goodbye::PROTOCOL,
        service::PROTOCOL,
        crate::topics::receipts::PROTOCOL,
        exchange::PROTOCOL,
    ] {
        assert!(PAGE.contains(&format!("| `{protocol}` | ")), "{protocol}");
    }
}

#[test]
fn the_key_of_the_example_has_the_other_forms() {
    let identity = Identity::read(cell("in `conf.yaml`")).unwrap().identity;
    assert_eq!(identity.public_key().to_string(), cell("in `peers.yaml`"));
    assert_eq!(identity.peer_id().to_string(), cell("in addresses"));
    let whole = [&bytes("00 24 08 01 12 20")[..], identity.public_key().as_bytes()].concat();
    assert_eq!(identity.peer_id().to_bytes(), whole);
}

#[test]
fn every_name_that_is_pointed_at_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = 0;
    for (before, after) in PAGE.match_indices("` in `net/").map(|(at, _)| PAGE.split_at(at)) {
        let file = after.trim_start_matches("` in `").split('`').next().unwrap();
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let row = before.rsplit("| ").next().unwrap();
        for name in row.split([',', ' ']).map(|name| name.trim_matches('`')).filter(|name| !name.is_empty()) {
            assert!(source.contains(&format!("const {name}: ")), "{file} has no {name}");
            found += 1;
        }
    }
    assert!(found >= 10, "the page points at {found} names only");
}
