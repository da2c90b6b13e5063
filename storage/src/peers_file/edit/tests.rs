use libp2p::identity::ed25519;
use proptest::prelude::*;

use super::*;
use crate::PeersFile;
use crate::peers_file::Context;

pub(super) fn key(n: u8) -> PeerKey {
    let secret = ed25519::SecretKey::try_from_bytes([n; 32]).expect("32 bytes");
    PeerKey::from_bytes(ed25519::Keypair::from(secret).public().to_bytes()).expect("a key")
}

/// `A` to `Z` in a text are keys.
pub(super) fn with_keys(text: &str) -> String {
    ('A'..='Z').fold(text.to_owned(), |text, c| text.replace(&format!("<{c}>"), &key(c as u8).to_string()))
}

fn without_keys(text: &str) -> String {
    ('A'..='Z').fold(text.to_owned(), |text, c| text.replace(&key(c as u8).to_string(), &format!("<{c}>")))
}

pub(super) fn set(c: char, addresses: &[&str], name: Option<&str>) -> Order {
    Order::Set(Entry {
        key: key(c as u8),
        addresses: Some(addresses.iter().map(|a| (*a).to_owned()).collect()),
        name: name.map(str::to_owned),
    })
}

pub(super) fn remove(c: char) -> Order {
    Order::Remove(key(c as u8))
}

fn edited(text: &str, orders: &[Order]) -> Result<String, EditError> {
    let text = with_keys(text);
    let edited = edit(Some(text.as_bytes()), orders)?;
    Ok(without_keys(std::str::from_utf8(&edited.text).unwrap()))
}

const A: &str = "/ip4/192.0.2.1/tcp/1";
const B: &str = "/ip4/192.0.2.2/tcp/2";

const BLOCKS: &str = "\
# Members of the federation, see the wiki.
version: 1
peers:   # in the order of joining
  # ACME, call Bob first
  - public_key: \"<A>\"   # since 2024
    addresses:
      # behind the firewall
      - \"/ip4/192.0.2.1/tcp/1\"   # main
      - '/ip4/192.0.2.2/tcp/2'
    x-contact: bob@example.com

  # Initech
  - {public_key: <B>, addresses: []}
# the end
";

#[test]
fn one_is_added_at_the_end_and_nothing_else_changes() {
    let after = edited(BLOCKS, &[set('C', &[A, B], Some("Umbrella \"Ltd\""))]).unwrap();
    let new = "  - public_key: \"<C>\"
    name: \"Umbrella \\\"Ltd\\\"\"
    addresses: [\"/ip4/192.0.2.1/tcp/1\", \"/ip4/192.0.2.2/tcp/2\"]
# the end
";
    assert_eq!(after, BLOCKS.replace("# the end\n", new));
}

#[test]
fn one_is_removed_and_the_comments_between_entries_stay() {
    let after = edited(BLOCKS, &[remove('A')]).unwrap();
    let expected = "\
# Members of the federation, see the wiki.
version: 1
peers:   # in the order of joining
  # ACME, call Bob first

  # Initech
  - {public_key: <B>, addresses: []}
# the end
";
    assert_eq!(after, expected);
    let none = edited(expected, &[remove('B')]).unwrap();
    assert_eq!(
        none,
        expected.replace("peers:", "peers: []").replace("  - {public_key: <B>, addresses: []}\n", "")
    );
    assert_eq!(edited(BLOCKS, &[remove('A'), remove('B')]).unwrap(), none);
}

#[test]
fn one_is_changed_where_it_stands() {
    for (orders, from, to) in [
        (set('A', &[A], None), "      - '/ip4/192.0.2.2/tcp/2'\n", ""),
        (set('A', &[B], None), "      - \"/ip4/192.0.2.1/tcp/1\"   # main\n", ""),
        (
            set('A', &[A, B, "/dns4/a/tcp/3"], None),
            "      - '/ip4/192.0.2.2/tcp/2'\n",
            "      - '/ip4/192.0.2.2/tcp/2'\n      - \"/dns4/a/tcp/3\"\n",
        ),
        (
            set('A', &[A, "/dns4/a/tcp/3"], None),
            "      - '/ip4/192.0.2.2/tcp/2'\n",
            "      - \"/dns4/a/tcp/3\"\n",
        ),
        (set('A', &[A, B], Some("ACME")), "# since 2024\n", "# since 2024\n    name: \"ACME\"\n"),
        (set('B', &[A], None), "addresses: []", "addresses: [\"/ip4/192.0.2.1/tcp/1\"]"),
        (set('B', &[], Some("b")), "<B>, addresses", "<B>, name: \"b\", addresses"),
    ] {
        assert_eq!(edited(BLOCKS, &[orders]).unwrap(), BLOCKS.replace(from, to));
    }
}

#[test]
fn what_an_entry_leaves_out_stays() {
    let order = Order::Set(Entry { key: key(b'A'), addresses: None, name: Some("ACME".to_owned()) });
    let after = edited(BLOCKS, &[order]).unwrap();
    assert_eq!(after, BLOCKS.replace("# since 2024\n", "# since 2024\n    name: \"ACME\"\n"));
}

#[test]
fn what_the_file_says_already_changes_no_byte() {
    let text = with_keys(BLOCKS);
    let after = edit(Some(text.as_bytes()), &[set('A', &[A, B], None), set('B', &[], None)]).unwrap();
    assert_eq!(after, Edited { text: text.into_bytes(), effects: vec![Effect::Unchanged; 2] });
}

#[test]
fn every_style_has_a_place_for_a_first_member_and_for_the_next() {
    let entry = "- public_key: \"<C>\"\n    addresses: []\n";
    for (before, after) in [
        ("peers: []\n", format!("peers:\n  {entry}")),
        ("peers:\n", format!("peers:\n  {entry}")),
        ("peers:", format!("peers:\n  {entry}")),
        ("peers: ~ # none\n", format!("peers: # none\n  {entry}")),
        ("peers: []   # none\nversion: 1\n", format!("peers:   # none\n  {entry}version: 1\n")),
        ("{\"peers\": []}\n", "{\"peers\": [{\"public_key\": \"<C>\", \"addresses\": []}]}\n".to_owned()),
        (
            "peers: [{public_key: <A>}]\n",
            "peers: [{public_key: <A>}, {public_key: \"<C>\", addresses: []}]\n".to_owned(),
        ),
        (
            "peers: [\n  {public_key: <A>}, # a\n]\n",
            "peers: [\n  {public_key: <A>}, {public_key: \"<C>\", addresses: []}, # a\n]\n".to_owned(),
        ),
        (
            "peers:\n- public_key: <A>\n",
            "peers:\n- public_key: <A>\n- public_key: \"<C>\"\n  addresses: []\n".to_owned(),
        ),
        (
            "peers:\r\n- public_key: <A> # a",
            "peers:\r\n- public_key: <A> # a\r\n- public_key: \"<C>\"\r\n  addresses: []\r\n".to_owned(),
        ),
        (
            "\u{feff}peers:\n  -\n    public_key: <A>\n# end",
            format!("\u{feff}peers:\n  -\n    public_key: <A>\n  {entry}# end"),
        ),
    ] {
        assert_eq!(edited(before, &[set('C', &[], None)]).as_ref(), Ok(&after), "{before:?}");
        // And back.
        edited(&after, &[remove('C')]).unwrap_or_else(|error| panic!("{after:?}: {error}"));
    }
    let first = edit(None, &[set('C', &[A], None)]).unwrap();
    assert_eq!(
        without_keys(std::str::from_utf8(&first.text).unwrap()),
        "peers:\n  - public_key: \"<C>\"\n    addresses: [\"/ip4/192.0.2.1/tcp/1\"]\n"
    );
}

#[test]
fn members_in_braces_are_removed_wherever_they_stand() {
    let text = "peers: [{public_key: <A>}, {public_key: <B>}, {public_key: <C>}, {public_key: <D>}]";
    for (orders, after) in [
        (vec![remove('A')], "peers: [{public_key: <B>}, {public_key: <C>}, {public_key: <D>}]"),
        (vec![remove('D')], "peers: [{public_key: <A>}, {public_key: <B>}, {public_key: <C>}]"),
        (vec![remove('B'), remove('C')], "peers: [{public_key: <A>}, {public_key: <D>}]"),
        (vec![remove('A'), remove('B')], "peers: [{public_key: <C>}, {public_key: <D>}]"),
        (vec![remove('C'), remove('A')], "peers: [{public_key: <B>}, {public_key: <D>}]"),
        (vec![remove('A'), remove('C'), remove('B'), remove('D')], "peers: []"),
    ] {
        assert_eq!(edited(text, &orders).as_deref(), Ok(after));
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    assert_eq!(edited(BLOCKS, &[remove('Q')]), Err(EditError::Unknown(key(b'Q'))));
    assert_eq!(edited(BLOCKS, &[remove('A'), set('A', &[], None)]), Err(EditError::Twice(key(b'A'))));
    assert_eq!(edited("peers: {a: 1}\n", &[remove('A')]), Err(EditError::Broken));
    assert_eq!(edited("a: [", &[remove('A')]), Err(EditError::Broken));
    // The addresses are another entry's as well.
    let shared = "peers:\n- {public_key: <A>, addresses: &a [/ip4/192.0.2.1/tcp/1]}\n- {public_key: <B>, addresses: *a}\n";
    assert_eq!(edited(shared, &[set('A', &[], None)]), Err(EditError::NoPlace));
    assert_eq!(edited(shared, &[remove('A')]), Err(EditError::NoPlace));
}

#[test]
fn a_file_of_too_many_lines_is_refused_in_words() {
    let text = format!("peers:\n{}", "# who\n".repeat(MAX_LINES));
    assert_eq!(edit(Some(text.as_bytes()), &[set('A', &[], None)]), Err(EditError::TooLong));
}

#[test]
fn a_member_is_found_in_every_spelling_of_its_key() {
    let id = format!("peers:\n  - public_key: {}\n    name: a\n", key(b'A').peer_id());
    let after = edit(Some(id.as_bytes()), &[set('A', &[A], None)]).unwrap();
    assert_eq!(after.effects, [Effect::Changed]);
    let after = edit(Some(&after.text), &[remove('A')]).unwrap();
    assert_eq!(after.text, b"peers: []\n");
}

/// A line that a person may have written into an entry.
pub(super) fn entry(c: char) -> impl Strategy<Value = String> {
    let addresses = prop_oneof![
        Just("".to_owned()),
        Just("{i}addresses: []\n".to_owned()),
        Just("{i}addresses: [\"/ip4/192.0.2.1/tcp/1\"] # here\n".to_owned()),
        Just("{i}addresses:   # all\n{i}  - /ip4/192.0.2.1/tcp/1\n{i}  # second\n{i}  - /ip4/192.0.2.2/tcp/2\n".to_owned()),
        Just("{i}addresses:\n{i}- '/ip4/192.0.2.2/tcp/2'   # one\n".to_owned()),
    ];
    let more = prop_oneof![
        Just(""),
        Just("{i}name: Bob's   # who\n"),
        Just("{i}name: ~\n"),
        Just("{i}x-note: |\n{i}  - not a list\n{i}  # nor a comment\n"),
        Just("{i}max_retries: 3\n\n"),
        Just("  # between the keys\n{i}connection_timeout: 5s\n"),
    ];
    let end = prop_oneof![Just(""), Just(" # c")];
    let before = prop_oneof![Just(""), Just("\n"), Just("  # above\n"), Just("# at the margin\n\n")];
    (before, end, addresses, more, any::<bool>()).prop_map(move |(before, end, addresses, more, swapped)| {
        let (one, two) = if swapped { (more.to_owned(), addresses) } else { (addresses, more.to_owned()) };
        let body = format!("{one}{two}").replace("{i}", "    ");
        format!("{before}  - public_key: \"<{c}>\"{end}\n{body}")
    })
}

fn file() -> impl Strategy<Value = String> {
    let head = prop_oneof![Just(""), Just("# head\n"), Just("version: 1\n\n"), Just("---\n")];
    let tail = prop_oneof![Just(""), Just("# tail\n"), Just("x-more: 1 # kept\n")];
    (head, entry('A'), entry('B'), entry('C'), tail)
        .prop_map(|(head, a, b, c, tail)| format!("{head}peers: # all\n{a}{b}{c}{tail}"))
}

pub(super) fn order() -> impl Strategy<Value = Order> {
    let addresses = prop::sample::subsequence(vec![A, B, "/dns4/x/tcp/3"], 0..=3).prop_shuffle();
    let name = prop::option::of(prop_oneof![Just("Eve"), Just("# - \"x\": 'y'"), Just("ünï \\ code")]);
    prop_oneof![
        2 => (prop::sample::select(vec!['A', 'B', 'C', 'D', 'E']), addresses, name)
            .prop_map(|(c, addresses, name)| set(c, &addresses, name)),
        1 => prop::sample::select(vec!['A', 'B', 'C']).prop_map(remove),
    ]
}

/// The same file as other programs write it.
fn dressed() -> impl Strategy<Value = fn(String) -> String> {
    let ways: [fn(String) -> String; 6] = [
        |text| text,
        |text| text.replace('\n', "\r\n"),
        |text| format!("\u{feff}{text}"),
        |text| if text.contains("---\n") { text } else { format!("%YAML 1.2\n---\n{text}...\n") },
        |text| text.replace("] # ", "]\t# ").replace("\" # c", "\"\t# c"),
        |text| format!("{text}# no line end"),
    ];
    prop::sample::select(ways.to_vec())
}

proptest! {
    /// Whatever people wrote: the file says afterwards what was ordered and is still a file of members; and every line that is
    /// not of an entry that an order names is there, byte by byte and in its place. That only a part of the file was
    /// looked at makes no difference.
    #[test]
    fn what_an_order_does_not_name_keeps_every_byte(
        text in file(),
        dressed in dressed(),
        orders in prop::collection::vec(order(), 1..4),
    ) {
        let text = dressed(with_keys(&text));
        let read = PeersFile::parse("peers.yaml", text.as_bytes().into(), Context::default());
        let read = read.map_err(|error| TestCaseError::fail(format!("{:?}: {text}", error.problems)))?;
        let edited = match edit(Some(text.as_bytes()), &orders) {
            Err(EditError::Twice(_)) => return Ok(()),
            edited => edited.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?,
        };
        let plain = read.is_plain.then_some((&read.members, Context::default()));
        prop_assert_eq!(edit_read(Some(text.as_bytes()), &orders, plain), Ok(edited.clone()));
        let after = String::from_utf8(edited.text).unwrap();
        let read = PeersFile::parse("peers.yaml", after.as_bytes().into(), Context::default());
        let members = read.map_err(|error| TestCaseError::fail(format!("{:?}: {after}", error.problems)))?.members;
        for order in &orders {
            match order {
                Order::Remove(key) => prop_assert!(!members.contains_key(key)),
                Order::Set(entry) => {
                    let found: Vec<_> = members[&entry.key].addresses.iter().map(ToString::to_string).collect();
                    prop_assert_eq!(Some(&found), entry.addresses.as_ref());
                    if entry.name.is_some() {
                        prop_assert_eq!(&members[&entry.key].name, &entry.name);
                    }
                }
            }
        }
        let mut lines = after.lines();
        for line in untouched(&text, &orders) {
            prop_assert!(lines.any(|other| other == line), "{line:?} is lost\n{text}\n{after}");
        }
        let ends = |text: &str| (text.matches("\r\n").count(), text.matches('\n').count());
        prop_assert!(ends(&text).0 == 0 || ends(&after).0 == ends(&after).1, "every line ends as the others: {after:?}");
    }
}

/// The lines that belong to no entry which an order names: an entry ends with its last line that is indented deeper than its dash.
pub(super) fn untouched<'t>(text: &'t str, orders: &[Order]) -> Vec<&'t str> {
    let mut kept: Vec<&str> = Vec::new();
    let mut named_from = None;
    for line in text.lines() {
        if line.starts_with("  - ") {
            let is_named = orders.iter().any(|order| line.contains(&order.key().to_string()));
            named_from = is_named.then_some(kept.len());
        }
        match named_from {
            Some(from) if line.starts_with("  - ") || line.starts_with("    ") => kept.truncate(from),
            _ => kept.push(line),
        }
    }
    kept.retain(|line| !line.starts_with("peers:"));
    kept
}
