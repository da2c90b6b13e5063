use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::config::{Snapshot, default_config_text};

mod apply;

use apply::apply;

/// A text of few different lines, so that much of it is common with another one.
fn text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[ab]?",
        Just("- x".to_owned()),
        Just("+++ b".to_owned()),
        Just("@@ -1 +1 @@".to_owned())
    ];
    (prop::collection::vec(line, 0..30), any::<bool>()).prop_map(|(lines, ends)| {
        let text = lines.join("\n");
        if ends && !text.is_empty() { text + "\n" } else { text }
    })
}

fn config(edits: &[(usize, String)]) -> Option<Arc<Config>> {
    static IDENTITY: LazyLock<net::Identity> = LazyLock::new(net::Identity::generate);
    let text: String = default_config_text(&IDENTITY, true)
        .lines()
        .enumerate()
        .map(|(number, line)| match (line.split_once(": "), edits.iter().find(|edit| edit.0 == number)) {
            (Some((key, _)), Some((_, value))) => format!("{key}: {value}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let snapshot = Snapshot { conf: text.into_bytes().into(), peers: None };
    Config::from_snapshot(Path::new("conf.yaml"), snapshot, None).ok().map(|loaded| loaded.config)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_diff_applied_to_the_old_text_gives_the_new_one(old in text(), new in text()) {
        let diff = unified(&old, "old", &new, "new");
        prop_assert_eq!(apply(&old, &diff), Ok(new.clone()), "{}", diff);
        prop_assert_eq!(diff.is_empty(), old == new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Of configurations too: their canonical text has one line for each line, whatever the values hold.
    #[test]
    fn a_diff_of_configurations_applies(
        edits in prop::collection::vec((5_usize..45, prop_oneof!["[0-9]{1,3}(s|ms|)", "true", "debug", "\"[ -~\\\\]{0,8}\""]), 1..3)
    ) {
        let old = config(&[]).expect("the default configuration is good");
        if let Some(new) = config(&edits) {
            let diff = unified(&old.canonical(), "old", &new.canonical(), "new");
            prop_assert_eq!(apply(&old.canonical(), &diff), Ok(new.canonical()), "{}", diff);
            prop_assert!(between(&old, "old", &new, "new").is_empty() == old.changes(&new).is_empty());
        }
    }
}
