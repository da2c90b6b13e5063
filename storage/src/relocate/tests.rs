use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use reload::Generation;
use serde_json::json;

use super::*;
use crate::generations::{Meta, NewGeneration};
use crate::{AuditLog, lock};

/// Two folders in a third, and the signpost beside them.
struct Folders {
    _root: tempfile::TempDir,
    old: PathBuf,
    new: PathBuf,
    signpost: Signpost,
}

// === impl Folders ===

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("old"), root.path().join("far/new"));
        let signpost = Signpost::beside(&root.path().join("conf.yaml"));
        Self { _root: root, old, new, signpost }
    }

    /// With these generations in the old one.
    fn with(numbers: std::ops::RangeInclusive<u64>) -> Self {
        let folders = Self::new();
        live(&folders.old, numbers);
        folders
    }

    fn copy(&self) -> Result<Incoming, MoveError> {
        Incoming::copy(&self.old, &self.new, || true)
    }

    fn take_up(&self, data_dir: &DataDir) -> Result<Taken, MoveError> {
        take_up(data_dir, &self.signpost)
    }

    fn counts(&self) -> Option<PathBuf> {
        self.signpost.read().unwrap().map(|whereabouts| whereabouts.data_dir)
    }
}

/// Lets a node of one life make generations with their lines in a folder.
fn live(folder: &Path, numbers: std::ops::RangeInclusive<u64>) {
    live_as("life", folder, numbers);
}

fn live_as(life: &str, folder: &Path, numbers: std::ops::RangeInclusive<u64>) {
    let _lock = DataDir::open(folder).unwrap();
    let (mut store, damaged) = Generations::open(&folder.join(GENERATIONS), 100).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    let mut log = AuditLog::open(&folder.join(AUDIT)).unwrap();
    for number in numbers {
        let generation = Generation::new(number).unwrap();
        let id = format!("{life}-{number}");
        let meta = Meta {
            generation,
            from_generation: None,
            id: id.clone(),
            trigger: "startup".to_owned(),
            actor: None,
            note: None,
            unix_ms: number,
            changes: json!([]),
        };
        // Every other one has peers in a blob.
        let peers = if number % 2 == 0 { vec![b'p'; 70_000] } else { b"peers: []".to_vec() };
        let conf: Arc<[u8]> = format!("conf {number}").into_bytes().into();
        store.append(&NewGeneration { meta, conf, peers: Some(peers.into()) }).unwrap();
        log.append(&json!({"id": id, "config_generation": number})).unwrap();
    }
}

fn goes_on_in(folder: &Path) -> Option<PathBuf> {
    Note::read(folder).unwrap().map(|note| note.history_in)
}

fn write_note(folder: &Path, history_in: &Path) {
    Note { history_in: history_in.into(), is_new: false }.write(folder).unwrap();
}

/// What a node finds in a folder: its generations, and its lines.
fn found(folder: &Path) -> (Vec<u64>, usize) {
    let (store, damaged) = Generations::open(&folder.join(GENERATIONS), 100).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    let numbers: Vec<_> = store.numbers().collect();
    for number in &numbers {
        assert!(store.read(*number).unwrap().peers.is_some());
    }
    let lines = audit::tail(&folder.join(AUDIT), 100).unwrap();
    (numbers.into_iter().rev().map(Generation::get).collect(), lines.len())
}

/// Every file below a folder, with what it holds.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

#[test]
fn a_copy_that_is_kept_holds_everything_and_the_old_folder_says_where_it_is() {
    let folders = Folders::with(1..=5);
    fs::write(folders.old.join(STANDING), "{}").unwrap();
    fs::write(folders.old.join(KNOWN), "known").unwrap();
    fs::write(folders.old.join(BACKUP), "known before").unwrap();
    fs::write(folders.old.join("audit.jsonl.3"), "{\"id\": \"first\"}\n").unwrap();
    let incoming = folders.copy().unwrap();
    assert_eq!(goes_on_in(&folders.new), Some(folders.old.clone()));
    assert_eq!(lock::read_pid(&folders.new), Some(std::process::id()));
    let (held, settling) = incoming.keep();
    settling.settle(&folders.signpost).unwrap();
    assert!(held.is_in_place().unwrap());
    assert_eq!(folders.counts(), Some(folders.new.clone()));
    assert_eq!(goes_on_in(&folders.new), None);
    assert_eq!(goes_on_in(&folders.old), Some(folders.new.clone()));
    for folder in [&folders.old, &folders.new] {
        assert_eq!(found(folder), ((1..=5).collect(), 6));
        assert_eq!(fs::read(folder.join(KNOWN)).unwrap(), b"known");
        assert_eq!(fs::read(folder.join(BACKUP)).unwrap(), b"known before");
        assert_eq!(fs::read(folder.join(STANDING)).unwrap(), b"{}");
    }
    for (path, mode) in [(GENERATIONS, 0o700), (AUDIT, 0o600), ("generations/00000001.gen", 0o600)] {
        let metadata = fs::metadata(folders.new.join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn a_copy_that_is_dropped_leaves_nothing_and_takes_nothing() {
    let folders = Folders::with(1..=3);
    let before = contents(&folders.old);
    drop(folders.copy().unwrap());
    assert!(!folders.new.parent().unwrap().exists(), "folders that were made are gone");
    // A folder that was there stays, with what others keep in it.
    fs::create_dir_all(&folders.new).unwrap();
    fs::create_dir_all(folders.new.join(GENERATIONS)).unwrap();
    for name in ["notes.txt", "generations/notes.txt"] {
        fs::write(folders.new.join(name), "somebody's").unwrap();
    }
    let others = contents(&folders.new);
    drop(folders.copy().unwrap());
    assert_eq!(contents(&folders.new), others);
    // Given up on in the middle, too.
    let asked = std::cell::Cell::new(0);
    let error =
        Incoming::copy(&folders.old, &folders.new, || asked.replace(asked.get() + 1) < 2).unwrap_err();
    assert!(matches!(error, MoveError::GivenUp(_)), "{error}");
    assert_eq!(contents(&folders.new), others);
    assert_eq!(contents(&folders.old), before);
}

#[test]
fn a_folder_with_an_earlier_copy_is_brought_up_to_date_and_any_other_is_refused() {
    let folders = Folders::with(1..=3);
    let (held, settling) = folders.copy().unwrap().keep();
    settling.settle(&folders.signpost).unwrap();
    drop(held);
    fs::write(folders.old.join(STANDING), "{}").unwrap();
    live(&folders.new, 4..=6);
    // Back again: what stood there stands no more.
    let back = Incoming::copy(&folders.new, &folders.old, || true).unwrap();
    assert_eq!(found(&folders.old), ((1..=6).collect(), 6));
    assert!(!folders.old.join(STANDING).exists());
    let before = contents(&folders.old);
    drop(back);
    let mut after = contents(&folders.old);
    after.insert(folders.old.join("fednode.pid"), before[&folders.old.join("fednode.pid")].clone());
    assert_eq!(after, before, "an earlier copy stays, brought up to date");

    live(&folders.new, 7..=7);
    let later = Incoming::copy(&folders.old, &folders.new, || true).unwrap_err();
    assert!(matches!(later, MoveError::Later { .. }), "{later}");
    live_as("other", &folders.old, 7..=7);
    for (from, to) in [(&folders.old, &folders.new), (&folders.new, &folders.old)] {
        // One that was brought there has no lock, and gets none.
        fs::remove_file(to.join("fednode.lock")).unwrap();
        let before = contents(to);
        let error = Incoming::copy(from, to, || true).unwrap_err();
        assert!(matches!(&error, MoveError::Another(path) if path == to), "{error}");
        assert_eq!(contents(to), before);
    }
}

#[test]
fn a_folder_with_something_else_under_our_names_is_refused_and_left_alone() {
    for name in
        [AUDIT, "audit.jsonl.2", STANDING, KNOWN, "fednode.lock", "generations/00000001.gen", GENERATIONS]
    {
        for is_pipe in [true, false] {
            let folders = Folders::with(1..=1);
            let path = folders.new.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if is_pipe {
                crate::testing::pipe(&path);
            } else {
                fs::write(&path, "no such thing").unwrap();
            }
            // An empty folder may have any lock file.
            if name == "fednode.lock" && !is_pipe {
                continue;
            }
            let error = folders.copy().unwrap_err();
            assert!(error.to_string().contains(folders.new.to_str().unwrap()), "{name}: {error}");
            let left = crate::testing::names(&folders.new);
            assert_eq!(left, [name.split('/').next().unwrap()], "{name} {is_pipe}");
            assert_eq!(path.symlink_metadata().unwrap().is_file(), !is_pipe, "{name}");
        }
    }
}

#[test]
fn what_a_kill_has_left_is_taken_away_from_the_folder_that_was_left_and_from_no_other() {
    let folders = Folders::with(1..=2);
    let (held, settling) = folders.copy().unwrap().keep();
    settling.settle(&folders.signpost).unwrap();
    drop(held);
    let told = folders.signpost.read().unwrap().unwrap();
    assert_eq!(told.left.as_ref(), Some(&folders.old));
    let (pid, socket) = (folders.old.join("fednode.pid"), folders.old.join("a.sock"));
    let bind = || std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Somebody serves there.
    let listener = bind();
    fs::write(&pid, "4194304\n").unwrap();
    let_go(&told).unwrap();
    assert!(!pid.exists() && socket.exists());
    drop(listener);
    // Or runs there.
    let other = DataDir::open(&folders.old).unwrap();
    let_go(&told).unwrap();
    assert!(pid.exists() && socket.exists());
    drop(other);
    // Or has gone on there since.
    let note = folders.old.join(NOTE);
    fs::rename(&note, folders.old.join("aside")).unwrap();
    let_go(&told).unwrap();
    assert!(socket.exists());
    fs::rename(folders.old.join("aside"), &note).unwrap();
    let before = found(&folders.old);
    let_go(&told).unwrap();
    assert!(!socket.exists());
    assert_eq!(found(&folders.old), before);
    fs::remove_dir_all(&folders.old).unwrap();
    let_go(&told).unwrap();
    assert!(!folders.old.exists());
}

#[test]
fn a_folder_that_is_held_or_the_same_is_refused_and_left_alone() {
    let folders = Folders::with(1..=1);
    let held = DataDir::open(&folders.new).unwrap();
    let before = contents(&folders.new);
    let error = folders.copy().unwrap_err();
    assert!(matches!(error, MoveError::DataDir(DataDirError::Held { .. })), "{error}");
    assert_eq!(contents(&folders.new), before);
    drop(held);
    let alias = folders.old.with_file_name("alias");
    std::os::unix::fs::symlink(&folders.old, &alias).unwrap();
    let error = Incoming::copy(&folders.old, &alias, || true).unwrap_err();
    assert!(matches!(error, MoveError::Same(_)), "{error}");
}

#[test]
fn a_folder_in_the_one_in_use_or_around_it_is_refused_and_left_alone() {
    let folders = Folders::with(1..=2);
    let around = folders.old.parent().unwrap();
    let before = contents(around);
    for to in [&folders.old.join("sub"), &folders.old.join(GENERATIONS), around] {
        let error = Incoming::copy(&folders.old, to, || true).unwrap_err();
        assert!(matches!(error, MoveError::Nested { .. }), "{error}");
        assert_eq!(contents(around), before);
    }
    assert!(!folders.old.join("sub").exists());
}

#[test]
fn a_folder_in_whose_files_nothing_stands_is_an_empty_one() {
    let folders = Folders::with(1..=3);
    fs::create_dir_all(folders.new.join(GENERATIONS)).unwrap();
    fs::write(folders.new.join(AUDIT), "").unwrap();
    let copy = folders.copy().unwrap();
    assert_eq!(found(&folders.new), found(&folders.old));
    drop(copy);
    folders.copy().unwrap();
}

#[test]
fn a_start_takes_up_what_a_kill_left_half_copied() {
    let folders = Folders::with(1..=4);
    // Killed after the note, and after a part of the copy that never reached the disk as it was.
    fs::create_dir_all(folders.new.join(GENERATIONS)).unwrap();
    write_note(&folders.new, &folders.old);
    let copied = "generations/00000001.gen";
    fs::copy(folders.old.join(copied), folders.new.join(copied)).unwrap();
    fs::write(folders.new.join(AUDIT), "").unwrap();
    let data_dir = DataDir::open(&folders.new).unwrap();
    assert_eq!(folders.take_up(&data_dir).unwrap(), Taken::From(folders.old.clone()));
    assert_eq!(found(&folders.new), ((1..=4).collect(), 4));
    assert_eq!(folders.take_up(&data_dir).unwrap(), Taken::Nothing, "once");
    drop(data_dir);
    // The other way round: whoever starts on the old folder again goes on as well.
    live(&folders.new, 5..=5);
    let data_dir = DataDir::open(&folders.old).unwrap();
    assert_eq!(folders.take_up(&data_dir).unwrap(), Taken::From(folders.new.clone()));
    assert_eq!(found(&folders.old), ((1..=5).collect(), 5));
}

#[test]
fn a_start_does_not_begin_anew_beside_a_history_that_it_cannot_have() {
    let folders = Folders::with(1..=2);
    let data_dir = DataDir::open(&folders.new).unwrap();
    write_note(&folders.new, &folders.old);
    let other = DataDir::open(&folders.old).unwrap();
    let error = folders.take_up(&data_dir).unwrap_err();
    assert!(matches!(error, MoveError::DataDir(DataDirError::Held { .. })), "{error}");
    drop(other);
    // Where both have lived on, the one that is named counts.
    live_as("other", &folders.old, 3..=3);
    drop(data_dir);
    live_as("third", &folders.new, 1..=1);
    let data_dir = DataDir::open(&folders.new).unwrap();
    assert_eq!(folders.take_up(&data_dir).unwrap(), Taken::Apart(folders.old.clone()));
    assert_eq!(goes_on_in(&folders.new), None);
    // And where nothing is left of the other one, there is nothing to wait for.
    write_note(&folders.new, &folders.old.with_file_name("gone"));
    assert_eq!(folders.take_up(&data_dir).unwrap(), Taken::Nothing);
}

#[test]
fn what_never_changes_has_two_names_and_what_is_written_to_has_not() {
    use std::os::unix::fs::MetadataExt as _;
    let folders = Folders::with(1..=3);
    fs::write(folders.old.join("audit.jsonl.1"), "{\"id\": \"first\"}\n").unwrap();
    let (held, settling) = folders.copy().unwrap().keep();
    settling.settle(&folders.signpost).unwrap();
    drop(held);
    let id = |folder: &Path, name: &str| fs::metadata(folder.join(name)).unwrap().ino();
    for (name, is_one) in [("generations/00000002.gen", true), ("audit.jsonl.1", true), (AUDIT, false)] {
        assert_eq!(id(&folders.old, name) == id(&folders.new, name), is_one, "{name}");
    }
    // Both live on, and neither sees the other.
    live(&folders.new, 4..=4);
    assert_eq!((found(&folders.old), found(&folders.new)), (((1..=3).collect(), 4), ((1..=4).collect(), 5)));
    let back = Incoming::copy(&folders.new, &folders.old, || true).unwrap();
    assert_eq!(found(&folders.old), ((1..=4).collect(), 5));
    drop(back);
}

#[test]
fn a_trail_of_folders_is_followed_to_its_end() {
    let folders = Folders::with(1..=2);
    let third = folders.old.with_file_name("third");
    for (from, to, next) in [(&folders.old, &folders.new, 3), (&folders.new, &third, 4)] {
        let (held, settling) = Incoming::copy(from, to, || true).unwrap().keep();
        settling.settle(&folders.signpost).unwrap();
        drop(held);
        live(to, next..=next);
    }
    let data_dir = DataDir::open(&folders.old).unwrap();
    assert_eq!(folders.take_up(&data_dir).unwrap(), Taken::From(third.clone()));
    assert_eq!(found(&folders.old), ((1..=4).collect(), 4));
    assert_eq!(folders.counts(), Some(folders.old.clone()));
    // The end of it is here now; the one in the middle leads here by way of it.
    drop(data_dir);
    assert_eq!(end_of_the_trail(&folders.new).unwrap(), Some(folders.old.clone()));
}

#[test]
fn a_copy_of_nothing_but_blobs_is_known_for_what_it_is() {
    let folders = Folders::with(1..=2);
    fs::create_dir_all(folders.new.join(GENERATIONS)).unwrap();
    Note { history_in: folders.old.clone(), is_new: true }.write(&folders.new).unwrap();
    for entry in fs::read_dir(folders.old.join(GENERATIONS)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("peers-") {
            fs::copy(&path, folders.new.join(GENERATIONS).join(name)).unwrap();
        }
    }
    let before = contents(&folders.old);
    // Dropped, what the one before has made goes, too.
    drop(folders.copy().unwrap());
    assert_eq!(contents(&folders.new), BTreeMap::new());
    assert_eq!(contents(&folders.old), before);
}

#[test]
fn a_new_copy_that_never_came_to_count_is_removed_and_anything_else_stays() {
    let folders = Folders::with(1..=2);
    for (is_new, lives_on, stays) in [(true, false, false), (false, false, true), (true, true, true)] {
        let (held, settling) = folders.copy().unwrap().keep();
        settling.settle(&folders.signpost).unwrap();
        drop(held);
        fs::remove_file(folders.old.join(NOTE)).unwrap();
        if lives_on {
            live(&folders.new, 3..=3);
        }
        Note { history_in: folders.old.clone(), is_new }.write(&folders.new).unwrap();
        abandon(&folders.old, &folders.new).unwrap();
        assert_eq!(!contents(&folders.new).is_empty(), stays, "{is_new} {lives_on}");
        let _ = fs::remove_dir_all(&folders.new);
    }
    abandon(&folders.old, &folders.new).unwrap();
    assert!(!folders.new.exists(), "nothing is made to look");
}
