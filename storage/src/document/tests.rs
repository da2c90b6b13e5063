use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn error_of(text: &str) -> Problem {
    *Document::parse("f.yaml", text.as_bytes()).expect_err(text)
}

fn place(problem: &Problem) -> (Option<u32>, Option<u32>) {
    (problem.line, problem.column)
}

/// Decodes `a: text`, `n: {d: duration, list: [integer]}`.
fn problems(text: &str) -> Vec<String> {
    let document = Document::parse("f.yaml", text.as_bytes()).unwrap();
    let findings = Findings::new();
    let root = document.root(&findings);
    let _ = root.key("alpha").text();
    let inner = root.key("nested").section();
    let _ = inner.key("duration").duration(Duration::from_secs(1)..=Duration::from_secs(60));
    for item in inner.key("list").items() {
        let _ = item.integer(1..=9);
    }
    inner.finish();
    let _ = root.key("token").secret().integer(0..=1);
    root.finish();
    let (errors, warnings) = document.problems(findings);
    assert_eq!(warnings, []);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_document_has_no_problems() {
    assert_eq!(problems("alpha: x\nnested:\n  duration: 10s\n  list: [1, 2]\n"), Vec::<String>::new());
    assert_eq!(problems("\u{feff}alpha: x\n"), Vec::<String>::new());
}

#[test]
fn all_problems_are_found_at_once_in_the_order_of_the_file() {
    let text = "alpha: [1]\nnested:\n  list: [1, 12, x]\n  duration: 10\n  durations: 1s\nzeta: 1\n";
    assert_eq!(
        problems(text),
        [
            "f.yaml:1:8: alpha: must be a text, found a list (write a text, in quotes where it has special characters)",
            "f.yaml:3:13: nested.list[1]: 12 is out of range (from 1 to 9)",
            "f.yaml:3:17: nested.list[2]: must be a whole number, found \"x\" (write a whole number from 1 to 9, without quotes)",
            "f.yaml:4:13: nested.duration: 10 has no unit (durations are written as `500ms`, `10s`, `1m30s` or `1h`: is it `10s`?)",
            "f.yaml:5:3: nested.durations: unknown key \"durations\" (did you mean `duration`?)",
            "f.yaml:6:1: zeta: unknown key \"zeta\" (known here: alpha, nested, token)",
        ]
    );
}

#[test]
fn a_secret_is_never_shown() {
    let found = problems("token: hunter2\n").join("\n");
    assert!(found.contains("token: must be a whole number, found a text"), "{found}");
    assert!(!found.contains("hunter2"));
}

#[test]
fn an_unknown_key_is_not_shown_whole_and_still_has_its_place() {
    for (written, expected) in [
        (
            "{duration:supersecret}",
            "f.yaml:1:10: nested.duration…: unknown key \"duration…\" (a space is missing after the colon: write `duration: …`)",
        ),
        (
            "{list: [], pasword:supersecret}",
            "f.yaml:1:20: nested.pasword…: unknown key \"pasword…\" (a space is missing after the colon: write `pasword: …`)",
        ),
        (
            "{duratio \"supersecret\"}",
            "f.yaml:1:10: nested.duratio…: unknown key \"duratio…\" (write `duration: …`, with a colon and a space)",
        ),
        (
            "{duration=\"supersecret\"}",
            "f.yaml:1:10: nested.duration…: unknown key \"duration…\" (write `duration: …`, with a colon and a space)",
        ),
        ("{é supersecret}", "f.yaml:1:10: nested[\"é…\"]: unknown key \"é…\" (known here: duration, list)"),
    ] {
        assert_eq!(problems(&format!("nested: {written}\n")), [expected]);
    }
    let key = "K".repeat(88);
    let found = problems(&format!("{key}: 1\n{key}x: 2\n")).join("\n");
    assert!(found.starts_with("f.yaml:1:1: [\"…\"]: unknown key \"…\" (known"), "{found}");
    assert!(found.contains("f.yaml:2:1: ") && !found.contains('K'), "{found}");
    let twice = problems(&format!("alpha: x\n{key}: 1\n{key}: 2\n")).join("\n");
    assert!(twice.contains("f.yaml:3:1: key \"…\" stands here twice"), "{twice}");
}

#[test]
fn the_parsers_errors_quote_nothing() {
    for text in [
        "hunter2: !!int hunter2\n",
        "hunter2: {a: !!bool hunter2}\n",
        "a: !!null hunter2\n",
        "a: !!float hunter2\n",
        "a: {hunter2: [hunter2\n",
        "a: \"hunter2\n",
        "a: 'hunter2'hunter2\n",
        "a: *hunter2\n",
        "a: !hunter2!hunter2 hunter2\n",
        "a: &hunter2\n",
        "%hunter2 hunter2\n",
        "a: @hunter2\n",
        "a: \"\\hunter2\"\n",
        "a: hunter2: hunter2\n",
        "hunter2:hunter2\na: 1\n",
        "a: 1\n<<: hunter2\n",
    ] {
        let shown = Document::parse("f.yaml", text.as_bytes()).map(|_| String::new());
        let shown = shown.unwrap_or_else(|problem| problem.to_string());
        assert!(!shown.contains("hunter2"), "{text:?}: {shown}");
    }
    assert!(error_of("a: !!int hunter2\n").to_string().starts_with("f.yaml:1:4: a value is not of the type"));
}

#[test]
fn columns_count_characters() {
    let found = problems("nested: {\"é\": 1, list: [0]}\n");
    assert_eq!(found[0], "f.yaml:1:10: nested[\"é\"]: unknown key \"é\" (known here: duration, list)");
    assert!(found[1].starts_with("f.yaml:1:25: nested.list[0]: 0 is out of range"), "{}", found[1]);
}

#[test]
fn merge_keys_are_applied_and_aliases_followed() {
    let text = "alpha: x\nnested:\n  <<: &base {duration: 90s}\n  list: [1]\n";
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("nested.duration: 1m30s is out of range"), "{found:?}");
}

#[test]
fn repeated_keys_are_told_with_their_places_and_the_rest_is_judged() {
    let text = "alpha: x\nnested:\n  list: [1]\n  list: [77]\nalpha: y\nnested: 3\nzeta: 1\n";
    assert_eq!(
        problems(text),
        [
            "f.yaml:4:3: key \"list\" stands here twice (remove one of the two)",
            "f.yaml:5:1: key \"alpha\" stands here twice (remove one of the two)",
            "f.yaml:6:1: key \"nested\" stands here twice (remove one of the two)",
            "f.yaml:7:1: zeta: unknown key \"zeta\" (known here: alpha, nested, token)",
        ]
    );
}

#[test]
fn what_is_no_document_says_why_and_where() {
    for (text, at, piece) in [
        ("", (None, None), "is empty"),
        (" \n\n", (None, None), "is empty"),
        ("# only\n", (None, None), "is empty"),
        ("---\n", (None, None), "is empty"),
        ("just text\n", (Some(1), Some(1)), "is a text, not a mapping"),
        ("- a\n", (Some(1), Some(1)), "is a list, not a mapping"),
        ("a: [1\nb: 2\n", (Some(2), Some(2)), "is not YAML"),
        ("a: 1\n\tb: 2\n", (Some(2), Some(1)), "is not YAML"),
        ("a: \"open\n", (Some(2), Some(1)), "is not YAML"),
        ("a: 1\n# \u{e4}\nb: \u{e4}\u{7}\n", (Some(3), Some(5)), "control characters are not allowed"),
        ("a: 1\n---\n# b\nb: 2\n", (Some(2), Some(1)), "more than one YAML document"),
        ("a: 1\n2: 3\n", (Some(2), Some(1)), "a key is a number"),
        ("a: 1\n~: 3\n", (Some(2), Some(1)), "a key is nothing"),
        ("a: !Thing 1\n", (Some(1), Some(4)), "a tag"),
        ("a: *nowhere\n", (Some(1), Some(4)), "unknown anchor"),
        ("a: &a [*a]\n", (Some(1), Some(4)), "nested more than"),
        ("a: x\nb: \0\n", (Some(2), Some(4)), "byte 8 is NUL"),
    ] {
        let problem = error_of(text);
        assert_eq!(place(&problem), at, "{text:?}: {problem}");
        assert!(problem.message.contains(piece), "{text:?}: {problem}");
        assert_eq!(problem.file.as_deref(), Some("f.yaml"));
        assert!(problem.hint.is_some(), "{problem}");
    }
    let tab = error_of("a:\n\tb: 2\n");
    assert!(tab.hint.unwrap().contains("not with tabs"));
}

#[test]
fn bytes_that_are_no_utf8_are_told_by_offset_and_line() {
    let problem = Document::parse("f.yaml", b"a: 1\nb: \xff\n").unwrap_err();
    assert_eq!(
        problem.to_string(),
        "f.yaml:2:4: byte 8 is not UTF-8 (is it the right file? write plain UTF-8 text)"
    );
    let problem = Document::parse("f.yaml", b"\xff\xfea\0").unwrap_err();
    assert!(problem.message.contains("UTF-16"));
}

#[test]
fn aliases_cannot_ask_for_more_than_the_bound() {
    // Nine levels of nine: a billion values from half a kilobyte.
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", "));
    }
    let problem = error_of(&laughs);
    assert!(problem.message.contains("aliases"), "{problem}");
    // At the value that is repeated too often.
    assert_eq!(problem.line, Some(1), "{problem}");

    // A large text copied often: within `serde_yaml`'s own limit, 10 GB of memory.
    let copies = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1_000_000), vec!["*a"; 10_000].join(","));
    let problem = error_of(&copies);
    assert!(problem.message.contains("aliases"), "{problem}");
}

#[test]
fn nesting_is_bounded() {
    for (text, column) in [
        (format!("b: 1\na: {}", "[".repeat(1_000_000)), 67),
        (format!("b: 1\na: {}", "{".repeat(1_000_000)), 67),
        (format!("b: 1\na: {}{}", "[".repeat(5_000), "]".repeat(5_000)), 67),
        (format!("b: 1\na: {}{}", "[".repeat(65), "]".repeat(65)), 67),
        (format!("#\n{}", "- ".repeat(9_000)), 129),
    ] {
        let problem = error_of(&text);
        assert!(problem.message.contains("nested more than"), "{problem}");
        assert_eq!(place(&problem), (Some(2), Some(column)), "{problem}");
    }
}

#[test]
fn files_that_are_none_are_refused_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(matches!(source::read(&path("none"), 10), Err(ReadError::Missing)));
    assert!(matches!(source::read(folder.path(), 10), Err(ReadError::NotAFile)));

    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(source::read(&path("pipe"), 10), Err(ReadError::NotAFile)));

    let large = std::fs::File::create(path("large")).unwrap();
    large.set_len(100 * 1024 * 1024).unwrap();
    let error = source::read(&path("large"), MAX_FILE).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { size: 104_857_600, limit: MAX_FILE }));

    // A file whose first byte cannot be read, not even by root.
    let error = source::read(std::path::Path::new("/proc/self/mem"), 10).unwrap_err();
    assert!(matches!(error, ReadError::Io(_)), "{error}");
    assert!(error.problem("f").to_string().starts_with("f: cannot be read: "));

    std::fs::write(path("good"), "0123456789").unwrap();
    assert_eq!(source::read(&path("good"), 10).unwrap().bytes, b"0123456789");
    assert!(matches!(source::read(&path("good"), 9), Err(ReadError::TooLarge { .. })));
}

#[test]
fn what_the_index_does_not_see_has_its_place_as_well() {
    // A key with an escape, with an empty value, an empty item; line ends that are none for an editor.
    let expected = "nested.duratio: unknown key \"duratio\" (did you mean `duration`?)";
    for (text, at) in [
        ("nested:\n  \"durati\\x6f\": 1s\n", "2:3"),
        ("nested:\n  ? duratio\n  : 1s\n", "2:5"),
        ("# a\u{85}nested:\u{85}  duratio: 1s\n", "1:15"),
        ("alpha: x\u{2028}nested:\n  duratio: 1s\n", "2:3"),
        ("alpha: x\u{2029}nested: {duratio: 1s}\n", "1:19"),
        ("alpha: x\rnested: {duratio: 1s}\r", "1:19"),
    ] {
        assert_eq!(problems(text), [format!("f.yaml:{at}: {expected}")], "{text:?}");
    }
    let found = problems("nested:\n  list:\n  - 1\n  -\n  - # none\n  - x\n");
    let starts =
        ["f.yaml:4:4: nested.list[1]: ", "f.yaml:5:4: nested.list[2]: ", "f.yaml:6:5: nested.list[3]: "];
    assert_eq!(found.len(), starts.len());
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:?}");
    let error = error_of("alpha: x\u{85}\nbeta: [1\nc: d\n");
    assert_eq!(place(&error), (Some(3), Some(2)), "{error}");
}

#[test]
fn a_hundred_problems_are_told_and_the_others_counted() {
    let unknown: String = (0..5_000).map(|number| format!("k{number}: 1\n")).collect();
    let found = problems(&format!("alpha: [1]\n{unknown}alpha: x\nnested: 3\nalpha: y\n"));
    assert_eq!(found.len(), 101);
    assert!(found[0].starts_with("f.yaml:1:8: alpha: must be a text"), "{}", found[0]);
    assert!(found[1].starts_with("f.yaml:2:1: k0: unknown key"), "{}", found[1]);
    // Two of them are repeated keys, which stand behind; one is no mapping.
    assert_eq!(found[100], "f.yaml: and 4904 more problems (mend the ones above first)");
}

#[test]
fn repeated_keys_without_measure_are_counted() {
    let document = "alpha: x\n".repeat(30) + "zeta: 1\n";
    let found = problems(&document);
    assert_eq!(found.len(), 20 + 2, "{found:#?}");
    assert_eq!(found[19], "f.yaml:21:1: key \"alpha\" stands here twice (remove one of the two)");
    assert!(found[20].starts_with("f.yaml:31:1: zeta: unknown key"), "{}", found[20]);
    assert_eq!(found[21], "f.yaml: and 9 more problems (mend the ones above first)");
    // In a large text each would take long: only the first has its place.
    let found = problems(&format!("{document}# {}\n", "x".repeat(5 << 20)));
    assert_eq!(found.len(), 1 + 2, "{found:#?}");
    assert_eq!(found[2], "f.yaml: and 28 more problems (mend the ones above first)");
}

#[test]
fn what_was_given_up_is_not_judged_to_the_end() {
    let abandon = reload::Abandon::default();
    abandon.ask();
    let problem = abandon.cover(|| error_of("a: 1\n"));
    assert_eq!((problem.class, problem.file.as_deref()), (reload::Class::System, Some("f.yaml")));
    assert!(Document::parse("f.yaml", b"a: 1\n").is_ok());
}

#[test]
fn later_problems_find_their_place_by_their_path() {
    let text = "network:\n  addresses:\n    - one\n    - two\n  \"odd.key\": 1\n";
    let mut found = [
        Problem::at("network.addresses[1]", "m"),
        Problem::at("network[\"odd.key\"]", "m"),
        Problem::at("network.addresses[9]", "m"),
        Problem::at("network.limits.connections", "m"),
        Problem::at("absent", "m"),
        Problem::at("broken[", "m"),
    ];
    place::locate(text, &mut found);
    let places: Vec<_> = found.iter().map(place).collect();
    let at = |line, column| (Some(line), Some(column));
    assert_eq!(places, [at(4, 7), at(5, 14), at(2, 3), at(1, 1), at(1, 1), at(1, 1)]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(document) = Document::parse("f", &bytes) {
            let findings = Findings::new();
            document.root(&findings).finish();
            let _ = document.problems(findings);
        }
    }

    #[test]
    fn no_yaml_like_text_panics(text in "([a-c]: |- |\\[|\\]|\\{|\\}|\n|  |&a |\\*a|<<: |,|\"|'|#|x|1|!t |\\||>|%|---\n){0,40}") {
        if let Ok(document) = Document::parse("f", text.as_bytes()) {
            let findings = Findings::new();
            let root = document.root(&findings);
            for item in root.key("a").items() {
                let _ = item.text();
            }
            for (_, entry) in root.key("b").entries() {
                let _ = entry.boolean();
            }
            root.finish();
            let (errors, _) = document.problems(findings);
            prop_assert!(errors.iter().all(|problem| problem.file.is_some()));
        }
    }
}
