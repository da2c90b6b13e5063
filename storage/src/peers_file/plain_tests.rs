//! What the plain reader reads, the parser reads alike: for documents of every shape, and for what becomes of them when they
//! are edited at random.

use libp2p::identity::ed25519;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::document::MAX_NODES;

/// A few keys that everybody uses, so that repeated members and the node's own come up.
fn keys() -> Vec<PeerKey> {
    keys_from(1..7)
}

fn keys_from(numbers: std::ops::Range<u8>) -> Vec<PeerKey> {
    let key = |n: u8| {
        let secret = ed25519::SecretKey::try_from_bytes([n; 32]).expect("32 bytes");
        PeerKey::from_bytes(ed25519::Keypair::from(secret).public().to_bytes()).expect("a key")
    };
    numbers.map(key).collect()
}

/// Members that were read before; some of the keys are theirs.
fn known(keys: &[PeerKey]) -> Members {
    let member = |key: &PeerKey| Member {
        key: *key,
        addresses: Vec::new(),
        name: None,
        connection_timeout: None,
        max_retries: None,
    };
    keys.iter().take(3).map(|key| (*key, member(key))).collect()
}

/// The rule itself. Returns whether the plain reader has read the text.
fn assert_alike(text: &str, context: Context<'_>) -> bool {
    let bytes = Arc::from(text.as_bytes());
    // As `PeersFile::parse` has it.
    let plain = source::text("peers.yaml", text.as_bytes()).ok();
    let Some(plain) = plain.and_then(|text| plain::members(text, context)) else { return false };
    let parsed = PeersFile::parse_any("peers.yaml", bytes, context)
        .unwrap_or_else(|error| panic!("the parser refuses {text:?}: {:?}", error.problems));
    assert_eq!(parsed.warnings, [], "{text:?}");
    assert_eq!(plain, parsed.members, "{text:?}");
    true
}

/// At the borders of what YAML takes for something else.
const VALUES: &[&str] = &[
    "",
    "~",
    "null",
    "True",
    "no",
    "1",
    "0",
    "007",
    "1e3",
    "0x1F",
    "-1",
    "+7",
    ".inf",
    "inf",
    "nan",
    "4294967295",
    "4294967296",
    "10s",
    "1m30s",
    "0s",
    "1h",
    "10",
    "one",
    "Bank of one",
    "a - b",
    "a: b",
    "a:b",
    "a #b",
    "a#b",
    "é",
    "naïve",
    "\u{661}",
    "&a x",
    "*a",
    "!t x",
    "| ",
    ">",
    "- x",
    "?",
    "@x",
    "`x",
    "%x",
    "{}",
    "[]",
    "[",
    "]",
    "a,b",
    "...",
    "---",
    "a...",
    "<<",
    "a\\nb",
    "a''b",
    "a\"b",
    "/",
    "/ip4/1.2.3.4/tcp/1",
    "/ip4/1.2.3.4/tcp/2",
    "/ip6/::1/tcp/1",
    "/ip6/::/tcp/9",
    "/ip4/1.2.3.4/tcp/0",
    "/dns4/a_b.example/tcp/65535",
    "/dns/x/udp/1/quic-v1",
    "/dns4/a/tcp/1:",
];

/// What somebody's hand may leave anywhere.
const PIECES: &[&str] = &[
    " ", "  ", "\n", "\n\n", "\t", "\r", "#", " #", ":", ": ", "- ", "-", "\"", "'", "\\", "[", "]", "{",
    "}", ",", "&a ", "*a", "!", "|", ">", "?", "%", "@", "`", "=", "~", "\u{85}", "\u{2028}", "\u{a0}",
    "\u{feff}", "é", "\u{7f}", "\0", "0", "null", "peers:\n", "---\n", "...\n", "<<: *a\n", "? ",
];

fn value() -> impl Strategy<Value = String> {
    (select(VALUES), 0..6_u8).prop_map(|(text, quote)| match quote {
        0 | 1 => format!("\"{text}\""),
        2 => format!("'{text}'"),
        _ => text.to_owned(),
    })
}

fn key_value() -> impl Strategy<Value = String> {
    (select(keys()), 0..8_u8).prop_map(|(key, form)| match form {
        0 | 1 => key.to_string(),
        2 => format!("'{key}'"),
        3 => key.to_string().trim_end_matches('=').to_owned(),
        4 => key.peer_id().to_string(),
        _ => format!("\"{key}\""),
    })
}

fn list(indent: usize) -> impl Strategy<Value = String> {
    let address = prop_oneof![
        6 => (1..9_u8, 1..9_u16, any::<bool>()).prop_map(|(host, port, quoted)| {
            let address = format!("/ip4/127.0.0.{host}/tcp/{port}");
            if quoted { format!("\"{address}\"") } else { address }
        }),
        1 => value(),
    ];
    (vec(address, 0..5), 0..4_u8).prop_map(move |(items, form)| match form {
        0 | 1 => format!(" [{}]", items.join(", ")),
        2 => items.iter().map(|item| format!("\n{}- {item}", " ".repeat(indent))).collect(),
        _ => items.iter().map(|item| format!("\n{}- {item}", " ".repeat(indent + 2))).collect(),
    })
}

fn field(indent: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        5 => list(indent).prop_map(|list| format!("addresses:{list}")),
        1 => value().prop_map(|value| format!("name: {value}")),
        1 => value().prop_map(|value| format!("connection_timeout: {value}")),
        1 => value().prop_map(|value| format!("max_retries: {value}")),
    ]
}

fn comment() -> impl Strategy<Value = &'static str> {
    select(
        &["", "", "", "", "", "", " # of the north", "  #x", "\n# a line", "\n\n", "\n      # deeper", " "][..],
    )
}

fn entry(dash: usize) -> impl Strategy<Value = String> {
    let fields = vec((field(dash + 2), comment()), 0..3);
    (key_value(), comment(), fields, 0..8_u8).prop_map(move |(key, comment, mut fields, place)| {
        let key = (format!("public_key: {key}"), comment);
        // Not always the first.
        fields.insert(if place == 0 { fields.len() } else { 0 }, key);
        let line = |(at, (field, comment)): (usize, &(String, &str))| {
            let lead = if at == 0 { "- " } else { "  " };
            format!("{}{lead}{field}{comment}\n", " ".repeat(dash))
        };
        fields.iter().enumerate().map(line).collect()
    })
}

fn document() -> impl Strategy<Value = String> {
    let heads = ["", "", "version: 1\n", "# ours\nversion: 1\n", "---\n", "version: '1'\n", "\u{feff}"];
    let tails = ["", "", "", "notes: x\n", "...\n", "version: 1\n"];
    (select(heads.to_vec()), 0..4_usize, select(tails.to_vec())).prop_flat_map(|(head, dash, tail)| {
        vec(entry(dash), 0..4).prop_map(move |entries| format!("{head}peers:\n{}{tail}", entries.concat()))
    })
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, &'static str),
    Remove(Index, usize),
    RepeatLine(Index),
    Indent(Index, bool),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        3 => (any::<Index>(), 1..4_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => any::<Index>().prop_map(Edit::RepeatLine),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(at, deeper)| Edit::Indent(at, deeper)),
    ]
}

fn edited(text: &str, edit: &Edit) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    match edit {
        Edit::Insert(at, piece) => {
            let at = at.index(chars.len() + 1);
            chars.splice(at..at, piece.chars());
            return chars.into_iter().collect();
        }
        Edit::Remove(at, count) => {
            let at = at.index(chars.len() + 1);
            chars.drain(at..(at + count).min(chars.len()));
            return chars.into_iter().collect();
        }
        Edit::RepeatLine(at) if !lines.is_empty() => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at].clone());
        }
        Edit::Indent(at, deeper) if !lines.is_empty() => {
            let at = at.index(lines.len());
            let line = &lines[at];
            lines[at] = if *deeper {
                format!("  {line}")
            } else {
                line.strip_prefix("  ").unwrap_or(line).to_owned()
            };
        }
        Edit::RepeatLine(_) | Edit::Indent(..) => {}
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), ..ProptestConfig::default() })]

    #[test]
    fn both_readers_read_alike(text in document(), edits in vec(edit(), 0..3), knows in any::<bool>()) {
        let keys = keys();
        let known = known(&keys);
        let context = Context { own: keys.first(), known: knows.then_some(&known), plain_text: None };
        assert_alike(&text, context);
        let mut text = text;
        for edit in &edits {
            text = edited(&text, edit);
            assert_alike(&text, context);
        }
    }

    #[test]
    fn an_edit_is_read_as_the_whole(text in document(), edits in vec(edit(), 1..4), owns in any::<bool>()) {
        let keys = keys();
        let context = Context { own: keys.first().filter(|_| owns), ..Context::default() };
        // Enough around it that an edit is a small part.
        let more: String = keys_from(20..40).iter().map(|key| format!("- public_key: {key}\n")).collect();
        let mut old = format!("peers:\n{more}{}", text.split_once("peers:\n").map_or("", |(_, entries)| entries));
        for edit in &edits {
            let new = edited(&old, edit);
            let Some(known) = plain::members(&old, context) else { break };
            let context = Context { known: Some(&known), ..context };
            let by_difference = edited::members(&new, Context { plain_text: Some(&old), ..context });
            if by_difference.is_some() {
                prop_assert_eq!(&by_difference, &plain::members(&new, context), "{:?} after {:?}", new, old);
                assert_alike(&new, context);
            }
            old = new;
        }
    }

    #[test]
    fn values_are_what_the_parser_takes_them_for(value in value(), field in 0..4_u8) {
        let key = keys().remove(0);
        let field = match field {
            0 => format!("name: {value}"),
            1 => format!("connection_timeout: {value}"),
            2 => format!("max_retries: {value}"),
            _ => format!("addresses: [{value}, /ip4/1.1.1.1/tcp/1]"),
        };
        assert_alike(&format!("peers:\n- public_key: {key}\n  {field}\n"), Context::default());
        assert_alike(&format!("peers:\n- public_key: {key}\n  addresses:\n  - {value}\n"), Context::default());
    }
}

/// The shapes that people and programs write are read without the parser: otherwise the rule above says nothing.
#[test]
fn usual_files_are_plain() {
    let (one, two) = (keys()[0], keys()[1]);
    for text in [
        // The contract's.
        format!(
            "version: 1                   # may be left out\npeers:\n  - public_key: \"{one}\"\n    addresses: \
             [\"/ip4/192.168.1.100/tcp/9000\", \"/dns4/node1.example.com/tcp/9000\"]\n    # optional: name, \
             connection_timeout, max_retries\n"
        ),
        // As serde_yaml writes one.
        format!(
            "version: 1\npeers:\n- public_key: {one}\n  addresses:\n  - /ip4/1.2.3.4/tcp/1\n  - \
             /ip6/::1/udp/2/quic-v1\n- public_key: {two}\n  addresses: []\n  name: Bank of Two\n  \
             connection_timeout: 5s\n  max_retries: 3\n"
        ),
        format!("# ours\n\npeers:\n- name: 'é'\n  public_key: {one}\n- public_key: '{two}'"),
        format!(
            "peers:\n    - public_key: {one}\n      addresses:\n          - \"/ip4/1.2.3.4/tcp/1\" # north\n"
        ),
    ] {
        assert!(assert_alike(&text, Context::default()), "{text}");
    }
}

#[test]
fn a_small_edit_of_a_large_file_is_read_by_its_difference() {
    let keys = keys_from(1..40);
    let file = |keys: &[PeerKey], port: u16| {
        let entry = |key| format!("  - public_key: \"{key}\"\n    addresses: [/ip4/1.2.3.4/tcp/{port}]\n");
        keys.iter().map(entry).collect::<String>()
    };
    let whole = |keys: &[PeerKey]| format!("version: 1\npeers:\n{}", file(keys, 1));
    let old = whole(&keys);
    let known = plain::members(&old, Context::default()).unwrap();
    let context = Context { known: Some(&known), plain_text: Some(&old), own: None };
    let (some, others) = keys.split_at(20);
    let moved = format!("{}{}{}", whole(&some[..19]), file(&some[19..], 2), file(others, 1));
    let removed = whole(&[&some[..19], others].concat());
    let swapped = whole(&[&some[..18], &some[19..], &some[18..19], others].concat());
    let appended = format!("{old}{}", file(&keys_from(50..51), 1));
    for new in [moved, removed, swapped, appended, format!("{old}# the end\n")] {
        let members = edited::members(&new, context).unwrap_or_else(|| panic!("{new}"));
        assert_eq!(Some(members), plain::members(&new, Context::default()));
    }
    let twice = format!("{old}{}", file(&keys[3..4], 2));
    assert_eq!(edited::members(&twice, context), None, "a member that stands twice is an error");

    // The node itself is no member, and may not stand twice all the same.
    let own = Context { own: keys.first(), ..Context::default() };
    let known = plain::members(&old, own).unwrap();
    let twice = format!("{old}{}", file(&keys[..1], 2));
    let context = Context { known: Some(&known), plain_text: Some(&old), ..own };
    assert_eq!((plain::members(&twice, own), edited::members(&twice, context)), (None, None));
}

#[test]
fn a_large_file_is_plain_as_long_as_the_parser_would_take_it() {
    let key = keys()[0];
    let long = format!("peers:\n- public_key: {key}\n{}", "  # a comment of some length\n".repeat(1 << 19));
    assert!(long.len() > plain::MAX_UNCOUNTED && long.len() < 16 << 20);
    assert_eq!(plain::members(&long, Context::default()).map(|members| members.len()), Some(1));
    let many = "/dns/a/tcp/1,".repeat(MAX_NODES);
    let many = format!("peers:\n- public_key: {key}\n  addresses: [{}]\n", many.trim_end_matches(','));
    assert!(plain::members(&many, Context::default()).is_none());
    assert!(PeersFile::parse("peers.yaml", many.as_bytes().into(), Context::default()).is_err());
}

#[test]
fn what_is_wrong_or_unusual_is_for_the_parser() {
    let key = keys()[0];
    let entry = format!("peers:\n- public_key: {key}\n");
    for text in [
        String::new(),
        "peers: []\n".to_owned(),
        format!("{entry}- public_key: {key}\n"),
        format!("{entry}  addresses: []\n  addresses: []\n"),
        format!("{entry}  addresses: [/ip4/1.2.3.4/tcp/0]\n"),
        format!("{entry}  name: &a x\n"),
        format!("{entry}  name: \"a\\tb\"\n"),
        format!("{entry}  name: {}\n", "x".repeat(MAX_NAME + 1)),
        format!("{entry}  name: x\n    y\n"),
        format!("{entry}  connection_timeout: 10\n"),
        format!("{entry}\tname: x\n"),
        format!("{{\"peers\": [{{\"public_key\": \"{key}\"}}]}}"),
        format!("{entry}version: 2\n"),
    ] {
        assert!(plain::members(&text, Context::default()).is_none(), "{text}");
    }
}
