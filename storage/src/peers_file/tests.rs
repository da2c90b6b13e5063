use libp2p::identity::ed25519;
use proptest::prelude::*;

use super::*;

fn key() -> PeerKey {
    PeerKey::from_bytes(ed25519::Keypair::generate().public().to_bytes()).unwrap()
}

fn parse(text: &str) -> Result<PeersFile, PeersFileError> {
    PeersFile::parse("peers.yaml", text.as_bytes().into(), Context::default())
}

fn members_of(text: &str) -> Vec<Member> {
    parse(text).unwrap_or_else(|error| panic!("{text}: {:?}", error.problems)).members.into_values().collect()
}

fn problems_of(text: &str) -> Vec<String> {
    parse(text).expect_err(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn no_members_in_three_spellings_and_without_a_file() {
    for text in ["peers:\n", "peers: []\n", "version: 1\npeers: ~\n"] {
        assert_eq!(members_of(text), [], "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let none = PeersFile::read(&folder.path().join("peers.yaml"), "peers.yaml", Context::default()).unwrap();
    assert_eq!((none.members.len(), none.text), (0, None));
    let folder = PeersFile::read(folder.path(), "peers.yaml", Context::default()).unwrap_err();
    assert_eq!(folder.problems[0].to_string(), "peers.yaml: is not a regular file (name a regular file)");
}

#[test]
fn an_entry_with_everything() {
    let key = key();
    let text = format!(
        "version: 1\npeers:\n  - public_key: \"{key}\"\n    addresses: [\"/ip4/192.168.1.100/tcp/9000\", \
         \"/dns4/node1.example.com/tcp/9000/p2p/{}\", \"/ip4/192.168.1.100/tcp/9000\"]\n    name: one\n    \
         connection_timeout: 5s\n    max_retries: 3\n",
        key.peer_id()
    );
    let member = members_of(&text).remove(0);
    assert_eq!(member.key, key);
    let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["/ip4/192.168.1.100/tcp/9000", "/dns4/node1.example.com/tcp/9000"]);
    assert_eq!(member.name.as_deref(), Some("one"));
    assert_eq!(member.connection_timeout, Some(Duration::from_secs(5)));
    assert_eq!(member.max_retries, Some(3));
}

#[test]
fn an_entry_without_an_address_only_dials_us() {
    let (one, two) = (key(), key());
    let members =
        members_of(&format!("peers:\n- {{public_key: {one}}}\n- {{public_key: {two}, addresses: []}}\n"));
    assert!(members.iter().all(|member| member.addresses.is_empty()));
    assert_eq!(members.len(), 2);
}

#[test]
fn the_nodes_own_entry_is_passed_over_even_where_only_others_can_use_it() {
    let (own, other) = (key(), key());
    let text = format!(
        "peers:\n- {{public_key: {own}, addresses: [/ip4/0.0.0.0/tcp/9000]}}\n- {{public_key: {other}}}\n"
    );
    let file = PeersFile::parse(
        "peers.yaml",
        text.as_bytes().into(),
        Context { own: Some(&own), ..Context::default() },
    )
    .unwrap();
    assert_eq!(file.members.keys().copied().collect::<Vec<_>>(), [other]);
    assert_eq!(file.text.as_deref(), Some(text.as_bytes()));
}

#[test]
fn unknown_keys_are_warnings_that_name_their_neighbour() {
    let key = key();
    let file = parse(&format!("peers:\n- public_key: {key}\n  adresses: []\nnotes: x\n")).unwrap();
    let warnings: Vec<String> = file.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "peers.yaml:3:3: peers[0].adresses: unknown key \"adresses\" (did you mean `addresses`?)",
            "peers.yaml:4:1: notes: unknown key \"notes\" (known here: version, peers)",
        ]
    );
}

#[test]
fn a_misspelt_key_that_has_to_be_there_is_the_error() {
    for (text, expected) in [
        ("version: 1\npeer: []\n", "peers.yaml:2:1: peer: unknown key \"peer\" (did you mean `peers`?)"),
        (
            "peers:\n- name: x\n  pubic_key: x\n",
            "peers.yaml:3:3: peers[0].pubic_key: unknown key \"pubic_key\" (did you mean `public_key`?)",
        ),
    ] {
        let error = parse(text).expect_err(text);
        let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
        assert_eq!((problems, error.warnings), (vec![expected.to_owned()], vec![]));
    }
}

#[test]
fn a_member_that_stands_twice_names_both_lines() {
    let (one, two) = (key(), key());
    let text =
        format!("peers:\n- public_key: {one}\n- public_key: {two}\n- addresses: []\n  public_key: {one}\n");
    assert_eq!(
        problems_of(&text),
        [
            "peers.yaml:5:15: peers[2].public_key: is the same key as peers[0].public_key in line 2 (put all addresses of a member into one entry)"
        ]
    );
}

#[test]
fn every_wrong_value_is_told_with_its_place() {
    let key = key();
    let entry = format!("peers:\n- public_key: {key}\n  ");
    for (text, at, piece) in [
        ("", "peers.yaml: ", "is empty"),
        ("version: 1\n", "peers.yaml:1:1: peers: ", "is missing"),
        ("version: 2\npeers: []\n", "peers.yaml:1:10: version: ", "2 is out of range"),
        ("peers: {}\n", "peers.yaml:1:8: peers: ", "must be a list, found a mapping"),
        ("peers:\n- \n", "peers.yaml:2:2: peers[0].public_key: ", "is missing"),
        ("peers:\n- x\n", "peers.yaml:2:3: peers[0]: ", "must be a mapping"),
        ("peers:\n- addresses: []\n", "peers.yaml:2:3: peers[0].public_key: ", "is missing"),
        ("peers:\n- public_key: 12\n", "peers.yaml:2:15: peers[0].public_key: ", "must be a text, found 12"),
        ("peers:\n- public_key: x!\n", "peers.yaml:2:15: peers[0].public_key: ", "\"x!\" is neither base64"),
        ("peers:\n- public_key: AAAA\n", "peers.yaml:2:15: peers[0].public_key: ", "decodes to 3 bytes"),
        (
            &format!("{entry}addresses: [x]"),
            "peers.yaml:3:15: peers[0].addresses[0]: ",
            "\"x\" is no multiaddr",
        ),
        (
            &format!("{entry}addresses: [/ip4/1.2.3.4/tcp/0]"),
            "peers.yaml:3:15: peers[0].addresses[0]: ",
            "port 0",
        ),
        (
            &format!("{entry}addresses: [/ip4/0.0.0.0/tcp/1]"),
            "peers.yaml:3:15: peers[0].addresses[0]: ",
            "0.0.0.0",
        ),
        (&format!("{entry}addresses: x"), "peers.yaml:3:14: peers[0].addresses: ", "must be a list"),
        (
            &format!("{entry}connection_timeout: 10"),
            "peers.yaml:3:23: peers[0].connection_timeout: ",
            "has no unit",
        ),
        (
            &format!("{entry}connection_timeout: 1ms"),
            "peers.yaml:3:23: peers[0].connection_timeout: ",
            "out of range",
        ),
        (&format!("{entry}max_retries: -1"), "peers.yaml:3:16: peers[0].max_retries: ", "-1 is out of range"),
        (&format!("{entry}name: \"a\\nb\""), "peers.yaml:3:9: peers[0].name: ", "is no name"),
    ] {
        let problems = problems_of(text);
        assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
        assert!(problems[0].starts_with(at) && problems[0].contains(piece), "{text:?}: {problems:?}");
    }
    let many: Vec<String> = (1..=17).map(|port| format!("/ip4/1.2.3.4/tcp/{port}")).collect();
    let problems = problems_of(&format!("{entry}addresses: [{}]", many.join(", ")));
    assert!(problems[0].contains("peers[0].addresses: has more than 16 addresses"), "{problems:?}");
}

#[test]
fn a_point_off_the_curve_is_no_key() {
    // 2 is the y of no point of Ed25519.
    let off = format!("Ag{}A=", "A".repeat(40));
    let problems = problems_of(&format!("peers:\n- public_key: {off}\n"));
    assert!(problems[0].contains("is not a point of the Ed25519 curve"), "{problems:?}");
}

#[test]
fn a_private_key_is_not_shown() {
    let pair = libp2p::identity::ed25519::Keypair::generate();
    let text = STANDARD.encode(pair.to_bytes());
    for written in [
        text.clone(),
        text.replace('+', "-").replace('/', "_"),
        text.replace('=', ""),
        format!("{} {}", &text[..40], &text[40..]),
    ] {
        let problems = problems_of(&format!("peers:\n- public_key: {written}\n"));
        assert!(
            problems[0].starts_with("peers.yaml:2:15: peers[0].public_key: is a key pair"),
            "{problems:?}"
        );
        assert!(problems[0].contains("`fednode id`"), "{problems:?}");
        assert!(!problems[0].contains(&written[..6]), "{problems:?}");
    }
    // One that was cut off, or has something in it, and is still longer than a public one.
    for written in [&text[..80], &format!("{}!{}", &text[..30], &text[30..60])] {
        let problems = problems_of(&format!("peers:\n- public_key: \"{written}\"\n"));
        assert!(problems[0].contains("\"… ("), "{problems:?}");
        assert!(!problems[0].contains(&written[..6]), "{problems:?}");
    }
}

#[test]
fn errors_of_several_entries_come_together() {
    let problems =
        problems_of("peers:\n- public_key: x!\n- addresses: [y]\n- {public_key: AAAA, max_retries: z}\n");
    assert_eq!(problems.len(), 5, "{problems:?}");
}

#[test]
fn of_many_errors_the_first_are_told() {
    let text = format!("peers:\n{}", "  - {public_key: x, addresses: [y], key: z}\n".repeat(1_000));
    let error = parse(&text).unwrap_err();
    assert_eq!((error.problems.len(), error.warnings.len()), (101, 101));
    assert_eq!((error.problems[0].line, error.problems[0].column), (Some(2), Some(18)));
    assert_eq!((error.problems[99].line, error.problems[99].column), (Some(51), Some(33)));
    assert_eq!((error.problems[100].more, error.warnings[100].more), (1_900, 900));
    assert_eq!((error.warnings[99].line, error.warnings[99].column), (Some(101), Some(37)));

    let entry = format!("  - {{public_key: \"{}\"}}\n", key());
    let repeats = problems_of(&format!("peers:\n{}", entry.repeat(1_000)));
    assert_eq!(repeats.len(), 101);
    assert!(
        repeats[99]
            .contains(":102:18: peers[100].public_key: is the same key as peers[0].public_key in line 2")
    );
    assert!(repeats[100].contains("and 899 more problems"), "{}", repeats[100]);
}

#[test]
fn ten_thousand_members_are_read_whole() {
    let keys: std::collections::BTreeSet<PeerKey> = (0..10_000).map(|_| key()).collect();
    let text = keys.iter().fold(String::from("peers:\n"), |mut text, key| {
        text += &format!("  - public_key: \"{key}\"\n    addresses: [\"/ip4/10.0.0.1/tcp/9000\", \"/dns4/a.example/tcp/9000\"]\n");
        text
    });
    let members = parse(&text).unwrap().members;
    assert!(members.keys().eq(keys.iter()));
    assert!(members.values().all(|member| member.addresses.len() == 2));
    let context = Context { known: Some(&members), ..Context::default() };
    let again = PeersFile::parse("peers.yaml", text.into_bytes().into(), context).unwrap().members;
    assert_eq!(again, members, "recognised keys are the same keys");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PeersFile::parse("f", bytes.into(), Context::default());
    }

    #[test]
    fn no_entry_panics(lines in proptest::collection::vec("(  |- |)(public_key|addresses|name|max_retries|peers|version):( |)(\\[|\\{|'|)[ -~]{0,20}", 0..8)) {
        let _ = PeersFile::parse("f", format!("peers:\n{}", lines.join("\n")).into_bytes().into(), Context::default());
    }
}
