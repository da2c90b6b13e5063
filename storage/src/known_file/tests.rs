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
    let (merged, hand) = saved.merged.unwrap();
    assert_eq!(hand, Hand::Person);
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
    assert!((1..=MAX_ASIDE).contains(&kept), "{kept}");
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

#[test]
fn a_later_version_is_kept_aside_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(KNOWN);
    for later in [
        "# of tomorrow\nversion: 2 # since\nrecords: {a: b}\n",
        "version: 2\npeers:\n- {who: me}\n# crc: 1\n",
    ] {
        fs::write(&path, later).unwrap();
        let mut opened = KnownFile::open(folder.path());
        assert_eq!(opened.entries, []);
        let told = opened.troubles.join("\n");
        assert!(told.contains("is of version 2, and this node reads up to 1; it is kept as"), "{told}");
        let aside = beside(&path, "known.yaml.version-2-").unwrap();
        assert!(aside.iter().any(|kept| fs::read_to_string(kept).unwrap() == later), "{aside:?}");
        // What is learned from now on is kept in a file of this version.
        let entries = vec![entry(1)];
        opened.file.save(entries.clone(), 9).unwrap();
        assert_eq!(KnownFile::open(folder.path()).entries, entries);
        fs::remove_file(folder.path().join("known.yaml.backup")).unwrap();
    }
    assert!(beside(&path, "known.yaml.damaged-").unwrap().is_empty());
}

#[test]
fn a_version_that_there_never_was_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(KNOWN), "version: 0\npeers: []\n# sha256:\n").unwrap();
    let told = KnownFile::open(folder.path()).troubles.join("\n");
    assert!(told.contains("there has been no version 0") && told.contains("known.yaml.damaged-"), "{told}");
}

#[test]
fn a_checksum_in_a_file_that_others_may_write_proves_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let path = folder.path().join(KNOWN);
    for (mode, hand) in
        [(0o600, Hand::Node), (0o644, Hand::Node), (0o660, Hand::Person), (0o602, Hand::Person)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(KnownFile::open(folder.path()).hand, hand, "{mode:o}");
    }
}

#[test]
fn another_node_s_file_in_its_place_is_merged_and_told_apart_from_a_person_s() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut file, ours) = written(folder.path());
    let (_, theirs) = written(elsewhere.path());
    fs::copy(elsewhere.path().join(KNOWN), folder.path().join(KNOWN)).unwrap();
    let (merged, hand) = file.save(ours.clone(), 9).unwrap().merged.unwrap();
    assert_eq!((hand, merged.entries.len()), (Hand::Node, theirs.len()));
    assert_eq!(merged.forgotten.len(), ours.len(), "who is not in it was taken out");
    assert!(!file.save(merged.entries, 9).unwrap().written);
}
