use libp2p::identity::ed25519;

use super::*;
use crate::testing::names;

fn entry(last_seen: u64) -> KnownEntry {
    KnownEntry {
        public_key: PeerKey::from_bytes(ed25519::Keypair::generate().public().to_bytes()).unwrap(),
        addresses: vec!["/ip4/192.0.2.1/tcp/1".to_owned()],
        source: "exchange".to_owned(),
        first_seen: 1,
        last_seen,
        failures: 0,
        records: vec!["cmVjb3Jk".to_owned()],
    }
}

fn sorted(mut entries: Vec<KnownEntry>) -> Vec<KnownEntry> {
    entries.sort_by_key(|entry| entry.public_key);
    entries
}

/// A file that was written twice: it has a version before.
fn written(folder: &Path) -> (KnownFile, Vec<KnownEntry>) {
    let mut file = KnownFile::open(folder).file;
    let mut entries = sorted(vec![entry(1), entry(2), entry(3)]);
    file.save(entries.clone(), 9).unwrap();
    entries[0].failures = 1;
    file.save(entries.clone(), 9).unwrap();
    (file, entries)
}

#[test]
fn what_is_saved_is_read_again_and_is_yaml() {
    let folder = tempfile::tempdir().unwrap();
    let (_, entries) = written(folder.path());
    let opened = KnownFile::open(folder.path());
    assert_eq!((opened.entries, opened.hand, opened.troubles.len()), (entries, Hand::Node, 0));
    let text = fs::read(folder.path().join(KNOWN)).unwrap();
    let yaml: serde_yaml::Value = serde_yaml::from_slice(&text).unwrap();
    assert_eq!(yaml["peers"].as_sequence().unwrap().len(), 3);
    assert_eq!(names(folder.path()), ["known.yaml", "known.yaml.backup"]);
}

#[test]
fn what_is_the_same_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut file, entries) = written(folder.path());
    assert!(!file.save(entries, 9).unwrap().written);
}

#[test]
fn an_edit_is_merged_with_what_was_learned_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (mut file, mut entries) = written(folder.path());
    let path = folder.path().join(KNOWN);
    let text = fs::read_to_string(&path).unwrap();
    let gone = entries[1].public_key.to_string();
    let edited: String = text.split_inclusive('\n').filter(|line| !line.contains(&gone)).collect();
    fs::write(&path, &edited).unwrap();
    entries[2].failures = 7;
    let saved = file.save(entries.clone(), 9).unwrap();
    let merged = saved.merged.unwrap();
    assert_eq!(
        (merged.forgotten, merged.taken, merged.conflicts),
        (vec![entries[1].public_key], vec![], vec![])
    );
    entries.remove(1);
    let opened = KnownFile::open(folder.path());
    assert_eq!((opened.entries, opened.hand), (entries, Hand::Node));
    let opened = {
        fs::write(&path, &edited).unwrap();
        KnownFile::open(folder.path())
    };
    assert_eq!(
        (opened.entries.len(), opened.hand),
        (2, Hand::Person),
        "what a person wrote is to be looked at"
    );
}

#[test]
fn whatever_is_damaged_the_version_before_stands_in_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(KNOWN);
    let good = {
        written(folder.path());
        fs::read_to_string(&path).unwrap()
    };
    let half = good.len() / 2;
    let damages: [(Vec<u8>, &str); 6] = [
        (good[..half].into(), "is missing"),
        (Vec::new(), "is missing"),
        (b"\xff\xfe garbage".to_vec(), "is not UTF-8"),
        (good.replace("version: 1", "version: 2").into(), "version 2"),
        (good.replace("last_seen", "lost_seen").into(), "unknown field"),
        (good.replace("peers:\n", "peers: 7\n#").into(), "is damaged"),
    ];
    for (bytes, why) in damages {
        fs::write(&path, &bytes).unwrap();
        let mut opened = KnownFile::open(folder.path());
        assert_eq!(opened.entries.len(), 3);
        let troubles = opened.troubles.join("\n");
        assert!(troubles.contains(why) && troubles.contains("stands in for it"), "{troubles}");
        // And from then on it is whole again.
        opened.file.save(opened.entries, 9).unwrap();
        assert_eq!(KnownFile::open(folder.path()).troubles, [""; 0]);
    }
    let kept =
        names(folder.path()).into_iter().filter(|name| name.starts_with("known.yaml.damaged-")).count();
    assert!((1..=MAX_DAMAGED).contains(&kept), "{kept}");
    // Damaged while the node runs: memory is what counts.
    let (mut file, entries) = written(folder.path());
    fs::write(&path, "garbage").unwrap();
    let saved = file.save(entries.clone(), 9).unwrap();
    assert!(saved.troubles[0].contains("is missing") && saved.written);
    assert_eq!(KnownFile::open(folder.path()).entries, entries);
}

#[test]
fn both_damaged_is_told_and_nobody_known() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    for name in ["known.yaml", "known.yaml.backup"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let opened = KnownFile::open(folder.path());
    assert_eq!(opened.entries, []);
    assert!(opened.troubles[1].contains("begins with nobody"), "{:?}", opened.troubles);
}
