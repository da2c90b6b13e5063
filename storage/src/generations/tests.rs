use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn new(number: u64, conf: &str, peers: Option<&[u8]>) -> NewGeneration {
    NewGeneration {
        meta: Meta {
            generation: Generation::new(number).unwrap(),
            from_generation: Generation::new(number - 1),
            id: format!("id-{number}"),
            trigger: "signal".into(),
            actor: Some("uid:0 pid:1".into()),
            note: None,
            unix_ms: number,
            changes: serde_json::json!([]),
        },
        conf: conf.as_bytes().into(),
        peers: peers.map(Arc::from),
    }
}

fn open(dir: &Path) -> Generations {
    let (store, damaged) = Generations::open(dir, 3).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    store
}

fn numbers(store: &Generations) -> Vec<u64> {
    store.list(100).iter().map(|meta| meta.generation.get()).collect()
}

fn files(dir: &Path, end: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

#[test]
fn what_was_kept_is_read_after_a_restart_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("generations");
    let mut store = open(&dir);
    assert_eq!(store.latest(), None);
    for number in 1..=5 {
        store.append(&new(number, &format!("conf {number}"), Some(b"peers: []"))).unwrap();
    }
    let mut store = open(&dir);
    assert_eq!(store.latest(), Generation::new(5));
    store.pin(Generation::new(1));
    store.prune();
    assert_eq!(numbers(&store), [5, 4, 3, 1], "somebody may still go back to the first");
    store.pin(None);
    store.prune();
    assert_eq!(numbers(&store), [5, 4, 3]);
    let snapshot = store.read(Generation::new(4).unwrap()).unwrap();
    assert_eq!(snapshot.conf, b"conf 4");
    assert_eq!(snapshot.peers.as_deref(), Some(&b"peers: []"[..]));
    assert_eq!(snapshot.meta, new(4, "", None).meta);
    let gone = store.read(Generation::new(2).unwrap()).unwrap_err();
    assert!(matches!(gone, ReadError::Unknown(number) if number.get() == 2));
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(dir.join("00000005.gen")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files(&dir, "").len(), 3);
}

#[test]
fn a_missing_peers_file_is_not_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.append(&new(1, "a", None)).unwrap();
    store.append(&new(2, "a", Some(b""))).unwrap();
    assert_eq!(store.read(Generation::FIRST).unwrap().peers, None);
    assert_eq!(store.read(Generation::FIRST.next()).unwrap().peers, Some(vec![]));
}

#[test]
fn numbers_have_no_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.append(&new(1, "", None)).unwrap();
    assert!(matches!(store.append(&new(1, "", None)), Err(AppendError::Number { .. })));
    assert_eq!(store.next(), Generation::new(2).unwrap());
}

#[test]
fn a_large_peers_file_is_written_once_and_goes_with_its_last_generation() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let large = vec![b'p'; MAX_INLINE + 1];
    let mut store = open(dir.path());
    store.append(&new(1, "a", Some(&large))).unwrap();
    let blobs = files(dir.path(), ".yaml");
    assert_eq!(blobs.len(), 1);
    let inode = || fs::metadata(dir.path().join(&blobs[0])).unwrap().ino();
    let first = inode();
    store.append(&new(2, "b", Some(&large))).unwrap();
    let mut store = open(dir.path());
    store.append(&new(3, "c", Some(&large))).unwrap();
    assert_eq!(inode(), first, "an unchanged file of megabytes is not written again");
    assert_eq!(store.read(Generation::FIRST).unwrap().peers, Some(large));
    for number in 4..=6 {
        assert_eq!(files(dir.path(), ".yaml").len(), 1);
        store.append(&new(number, "d", Some(b"small"))).unwrap();
        store.prune();
    }
    assert_eq!(files(dir.path(), ".yaml"), [""; 0]);
}

#[test]
fn a_damaged_blob_is_written_again_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let large = vec![b'p'; MAX_INLINE + 1];
    let mut store = open(dir.path());
    store.append(&new(1, "a", Some(b"small"))).unwrap();
    store.append(&new(2, "a", Some(&large))).unwrap();
    let blob = dir.path().join(&files(dir.path(), ".yaml")[0]);
    fs::write(&blob, "other").unwrap();

    let (mut store, damaged) = Generations::open(dir.path(), 3).unwrap();
    assert!(matches!(damaged[..], [Damaged { reason: DamageReason::Blob, .. }]), "{damaged:?}");
    assert_eq!(store.latest(), Some(Generation::FIRST));
    store.append(&new(2, "a", Some(&large))).unwrap();
    assert_eq!(open(dir.path()).read(Generation::FIRST.next()).unwrap().peers, Some(large));
}

#[test]
fn damaged_files_are_passed_over_with_a_word_on_each() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for number in 1..=4 {
        store.append(&new(number, "conf", None)).unwrap();
    }
    let path = |number: u64| dir.path().join(format!("{number:08}.gen"));
    let whole = fs::read(path(4)).unwrap();
    fs::write(path(4), &whole[..whole.len() - 1]).unwrap();
    fs::copy(path(2), path(3)).unwrap();
    fs::create_dir(path(9)).unwrap();
    fs::write(dir.path().join("00000000.gen"), "").unwrap();
    fs::write(dir.path().join("99999999999999999999.gen"), "").unwrap();

    let (mut store, damaged) = Generations::open(dir.path(), 3).unwrap();
    let mut told: Vec<_> = damaged.iter().map(ToString::to_string).collect();
    told.sort();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("00000003.gen: says that it is generation 2"));
    assert!(told[1].contains("00000004.gen: does not match its checksum"));
    assert!(told[2].contains("00000009.gen: cannot be read"));
    assert_eq!(store.latest(), Generation::new(2));
    store.append(&new(3, "again", None)).unwrap();
    assert_eq!(store.read(Generation::new(3).unwrap()).unwrap().conf, b"again");
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&new(1, "conf", None)).unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    fs::write(dir.path().join(format!(".00000002.gen.tmp-{}-1", child.id())), "half").unwrap();
    fs::write(dir.path().join(format!("peers-{}.yaml", "0".repeat(64))), "no record names it").unwrap();
    let mut store = open(dir.path());
    assert_eq!(store.latest(), Some(Generation::FIRST));
    store.prune();
    assert_eq!(files(dir.path(), ""), ["00000001.gen"]);
}

#[test]
fn a_failed_append_leaves_the_history_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.append(&new(1, "conf", None)).unwrap();
    // A folder in the way of the next record: the rename fails for every user, root included.
    fs::create_dir(dir.path().join("00000002.gen")).unwrap();
    assert!(matches!(store.append(&new(2, "next", None)), Err(AppendError::Write(_))));
    assert_eq!(store.latest(), Some(Generation::FIRST));
    fs::remove_dir(dir.path().join("00000002.gen")).unwrap();
    store.append(&new(2, "next", None)).unwrap();
    assert_eq!(numbers(&store), [2, 1]);
}

#[test]
fn in_a_folder_that_was_made_again_the_numbers_go_on_and_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("generations");
    let large = vec![b'p'; 70_000];
    let mut store = open(&dir);
    store.append(&new(1, "conf", Some(&large))).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    store.append(&new(2, "conf", Some(&large))).unwrap_err();
    store.make_folder_again().unwrap();
    store.append(&new(2, "conf", Some(&large))).unwrap();
    store.prune();
    let store = open(&dir);
    assert_eq!(numbers(&store), [2]);
    assert_eq!(store.read(Generation::new(2).unwrap()).unwrap().peers, Some(large));
}
