//! Files of which only a part is looked at.

use proptest::prelude::*;

use super::tests::{entry, key, order, remove, set, untouched, with_keys};
use super::*;
use crate::PeersFile;

const A: &str = "/ip4/192.0.2.1/tcp/1";

/// What a plain reader knows of a text; panics if it is not plain.
fn edited_as_usual(text: &str, orders: &[Order]) -> Option<Result<(String, Vec<Effect>), EditError>> {
    let read = PeersFile::parse("peers.yaml", text.as_bytes().into(), Context::default()).unwrap();
    assert!(read.is_plain, "{text}");
    usual::edit(text, &read.members, orders, Context::default())
}

/// Many entries, of which an order names a few: a tree of the whole takes seconds, or cannot be made.
#[test]
fn a_list_may_be_longer_than_a_tree_can_count() {
    let comments = "    # who\n".repeat(MAX_LINES / 10);
    let entries = ('A'..='T').map(|c| format!("  - public_key: \"<{c}>\"\n{comments}"));
    let text = with_keys(&format!("peers:\n{}", entries.collect::<String>()));
    assert!(text.lines().count() > MAX_LINES);
    let orders = [remove('A'), set('J', &[A], Some("J")), remove('T'), set('Z', &[A], None)];
    let expected = with_keys(&format!(
        "peers:\n{comments}{}{comments}  - public_key: \"<Z>\"\n    addresses: [\"{A}\"]\n",
        ('B'..='S')
            .map(|c| {
                let more = format!("    addresses: [\"{A}\"]\n    name: \"J\"\n");
                let more = if c == 'J' { more.as_str() } else { "" };
                format!("  - public_key: \"<{c}>\"\n{more}{comments}")
            })
            .collect::<String>(),
    ));
    let edited = edit(Some(text.as_bytes()), &orders).unwrap();
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let after = String::from_utf8(edited.text).unwrap();
    assert_eq!(sorted(&after), sorted(&expected));
    assert_eq!(edited_as_usual(&text, &orders).unwrap().unwrap().0, after);
}

#[test]
fn a_list_is_emptied_and_filled_in_rounds() {
    // Of so many lines that a tree holds but a few.
    let more = format!("    max_retries: 1\n{}", "    # who\n".repeat(MAX_LINES / 20));
    let keys = || ('A'..='Z').chain('a'..='z');
    let text: String =
        keys().map(|c| format!("  - public_key: {}\n{more}    name: x\n", key(c as u8))).collect();
    let text = format!("peers:  # ours\n{text}# the end\n");
    let order = |c: char| if c.is_ascii_uppercase() { remove(c) } else { set(c, &[A], None) };
    let after = edit(Some(text.as_bytes()), &keys().map(order).collect::<Vec<_>>()).unwrap();
    let removed: Vec<_> = ('a'..='z').map(remove).collect();
    let none = edit(Some(&after.text), &removed).unwrap();
    assert_eq!(String::from_utf8(none.text.clone()).unwrap(), "peers: []  # ours\n# the end\n");
    let all: Vec<_> = keys().map(|c| set(c, &[], None)).collect();
    let full = edit(Some(&none.text), &all).unwrap();
    assert_eq!(full.effects, [Effect::Added; 52]);
    assert_eq!(edit(Some(&full.text), &all).unwrap().effects, [Effect::Unchanged; 52]);
}

/// Lines that look like entries and are none: then the whole is looked at.
#[test]
fn what_only_looks_like_an_entry_misleads_nobody() {
    let text =
        |note| with_keys(&format!("peers:\n  - public_key: <A>\n    x-note: {note}\n  - public_key: <C>\n"));
    let orders = [set('C', &[A], None), set('B', &[A], None)];
    let scalar = text("|\n     - public_key: <B>\n     # no comment");
    let after = edit(Some(scalar.as_bytes()), &orders).unwrap();
    assert_eq!(after.effects, [Effect::Changed, Effect::Added], "{scalar}");
    let after = String::from_utf8(after.text).unwrap();
    assert!(after.starts_with(&scalar), "{after}");
    let gone = edit(Some(after.as_bytes()), &[remove('A')]).unwrap();
    assert_eq!(String::from_utf8(gone.text).unwrap().matches("public_key").count(), 2);
    // The parser takes these, and YAML's grammar does not: they have no place, and are not taken for what they look like.
    for note in ["\"one\n  - public_key: <B>\n    three\"", "'one\n\n  - public_key: <B>\n    three'"] {
        let text = text(note);
        assert_eq!(parse(&text).unwrap()["peers"].as_sequence().unwrap().len(), 2, "{text}");
        assert_eq!(Items::scan(&text).unwrap().count(), 3, "{text}");
        assert_eq!(edit(Some(text.as_bytes()), &orders), Err(EditError::NoPlace), "{text}");
        assert_eq!(edit(Some(text.as_bytes()), &[remove('B')]), Err(EditError::Unknown(key(b'B'))), "{text}");
    }
}

/// An entry that others refer to is not taken from them, however far away they are.
#[test]
fn anchors_of_entries_that_are_not_looked_at_hold() {
    let between = ('F'..='P').map(|c| format!("- public_key: <{c}>\n")).collect::<String>();
    let text = with_keys(&format!(
        "peers:\n- public_key: <A>\n  addresses: &a [{A}]\n{between}- public_key: <B>\n  addresses: *a\n"
    ));
    for orders in [[remove('A')], [set('A', &[], None)]] {
        assert_eq!(edit(Some(text.as_bytes()), &orders), Err(EditError::NoPlace));
    }
    let after = edit(Some(text.as_bytes()), &[remove('H'), set('K', &[A], None)]).unwrap();
    assert_eq!(after.effects, [Effect::Removed, Effect::Changed]);
    edit(Some(text.as_bytes()), &[remove('B')]).unwrap();
}

#[test]
fn what_the_usual_way_does_not_take_is_told_by_the_other() {
    let text = with_keys("peers:\n  - public_key: <A>\n  - public_key: <B>\n");
    let read = PeersFile::parse("peers.yaml", text.as_bytes().into(), Context::default()).unwrap();
    let own = key(b'A');
    let context = Context { own: Some(&own), ..Context::default() };
    let members: Members = read.members.into_iter().filter(|(key, _)| *key != own).collect();
    let usual = |order| usual::edit(&text, &members, &[order], context);
    assert_eq!(usual(remove('C')), Some(Err(EditError::Unknown(key(b'C')))));
    assert!(usual(remove('B')).unwrap().is_ok());
    assert_eq!(usual(remove('A')), None, "the node's own entry");
    assert_eq!(usual(set('B', &["/ip4/1.2.3/tcp/1"], None)), None, "no address");
    assert_eq!(usual(set('B', &[A], Some("a \"name\""))), None, "an escape is for the parser");
    let all = edit_read(Some(text.as_bytes()), &[remove('A')], Some((&members, context))).unwrap();
    assert_eq!(all.effects, [Effect::Removed]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// By lines or as a whole, with a reader's help or without: the same bytes.
    #[test]
    fn a_part_of_the_file_is_as_good_as_all_of_it(
        entries in ('A'..='N').map(entry).collect::<Vec<_>>(),
        orders in prop::collection::vec(order(), 1..6),
    ) {
        let text = with_keys(&format!("# head\npeers: # all\n{}# tail\n", entries.concat()));
        let mut named = BTreeSet::new();
        let orders: Vec<_> = orders.into_iter().filter(|order| named.insert(*order.key())).collect();
        let (after, effects) = general(&text, &orders).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        let said = parse(&text).unwrap();
        let peers = said["peers"].as_sequence().unwrap();
        let keys = Keys::of(peers);
        let tasks: Vec<_> = orders.iter().zip(&effects).map(|(order, effect)| {
            let at = keys.get(order.key());
            Task { order, effect: *effect, was: at.map(|at| (at, peers[at].as_mapping().unwrap().clone())) }
        }).collect();
        prop_assert_eq!(carried_out(&text, None, peers.len(), &tasks), Ok(after.clone()));
        let items = Items::scan(&text).unwrap();
        prop_assert_eq!(carried_out(&text, Some(&items), peers.len(), &tasks), Ok(after.clone()));
        let mut lines = after.lines();
        for line in untouched(&text, &orders) {
            prop_assert!(lines.any(|other| other == line), "{line:?} is lost\n{text}\n{after}");
        }
    }
}
