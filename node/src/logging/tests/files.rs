//! The log's files: rotated, moved away, and replaced by others.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn files_are_rotated_in_order_and_bounded_in_number() {
    let rig = Rig::new(|section, dir| {
        section.format = LogFormat::Text;
        section.console = false;
        section.file = file(dir.join("node.log"), 100, 2);
    });
    let line = "m".repeat(30);
    rig.log(|| {
        for number in 0..7 {
            // One line each has more than half of the size.
            tracing::info!(target: "net", "{number}{line}");
        }
    });
    let first = |name: &str| rig.messages(name)[0].chars().next().unwrap();
    assert_eq!(["node.log", "node.log.1", "node.log.2"].map(first), ['6', '5', '4']);
    assert!(!rig.path("node.log.3").exists());
    assert_eq!(fs::metadata(rig.path("node.log")).unwrap().permissions().mode() & 0o007, 0);

    System::new().block_on(async {
        let logging = rig.start();
        let fewer = LoggingSection { file: file(rig.path("node.log"), 100, 1), ..rig.section.clone() };
        let transaction = Transaction::NONE.next();
        commit(&logging, transaction, &fewer).await;
        rig.log(|| tracing::info!(target: "net", "7{line}"));
        assert_eq!(["node.log", "node.log.1"].map(first), ['7', '6']);
        assert!(!rig.path("node.log.2").exists());
        let none = LoggingSection { file: file(rig.path("node.log"), 100, 0), ..rig.section.clone() };
        commit(&logging, transaction.next(), &none).await;
        rig.log(|| tracing::info!(target: "net", "8{line}"));
        assert_eq!(["node.log", "node.log.1"].map(first), ['8', '6']);
    });
}

#[test]
fn a_file_that_was_moved_away_is_reopened_on_command() {
    let rig = Rig::new(|section, dir| section.file = file(dir.join("node.log"), 1 << 20, 2));
    System::new().block_on(async {
        let logging = rig.start();
        rig.log(|| tracing::info!(target: "net", "one"));
        assert!(!logging.send(Reopen).await.unwrap().unwrap());
        fs::rename(rig.path("node.log"), rig.path("moved")).unwrap();
        rig.log(|| tracing::info!(target: "net", "two"));
        assert!(logging.send(Reopen).await.unwrap().unwrap());
        rig.log(|| tracing::info!(target: "net", "three"));
        assert!(!logging.send(Reopen).await.unwrap().unwrap());
    });
    assert_eq!(rig.messages("moved"), ["one", "two"]);
    assert_eq!(rig.messages("node.log"), ["three"]);
}

#[test]
fn a_rotation_leaves_a_file_alone_that_took_the_place_of_ours() {
    let rig = Rig::new(|section, dir| section.file = file(dir.join("node.log"), 150, 2));
    rig.log(|| tracing::info!(target: "net", "one"));
    fs::rename(rig.path("node.log"), rig.path("moved")).unwrap();
    rig.log(|| tracing::info!(target: "net", "two"));
    rig.log(|| tracing::info!(target: "net", "three"));
    assert_eq!(rig.messages("moved"), ["one"]);
    assert_eq!(rig.messages("node.log"), ["three"]);
    assert_eq!(rig.messages("node.log.1"), ["two"]);
}
