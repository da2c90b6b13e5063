//! Random edits: whatever happens to a file in between, the last state of it is told.

use proptest::prelude::*;

use super::*;

/// One edit.
#[derive(Clone, Debug)]
enum Edit {
    Write(u8),
    Replace(u8),
    Remove,
    Link(u8),
    Folder,
    MoveAway,
    Pause(u64),
}

fn edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let edit = prop_oneof![
        4 => (0_u8..4).prop_map(Edit::Write),
        4 => (0_u8..4).prop_map(Edit::Replace),
        2 => Just(Edit::Remove),
        2 => (0_u8..4).prop_map(Edit::Link),
        1 => Just(Edit::Folder),
        1 => Just(Edit::MoveAway),
        2 => (0_u64..30).prop_map(Edit::Pause),
    ];
    prop::collection::vec((0_usize..2, edit), 1..25)
}

fn apply(base: &Path, file: usize, edit: &Edit, step: usize) {
    let path = base.join("folder").join(["a", "b"][file]);
    // Whatever is in the way: an edit that is not possible does nothing.
    match edit {
        Edit::Write(text) => drop(fs::write(&path, [*text])),
        Edit::Replace(text) => {
            let beside = base.join("beside");
            fs::write(&beside, [*text]).unwrap();
            drop(fs::rename(beside, &path));
        }
        Edit::Remove => {
            drop(fs::remove_file(&path));
            drop(fs::remove_dir_all(&path));
        }
        Edit::Link(text) => {
            let (target, link) = (base.join(format!("target{text}")), base.join("link"));
            fs::write(&target, [*text]).unwrap();
            drop(fs::remove_file(&link));
            symlink(target, &link).unwrap();
            drop(fs::rename(link, &path));
        }
        Edit::Folder => drop(fs::create_dir(&path)),
        Edit::MoveAway => {
            drop(fs::rename(base.join("folder"), base.join(format!("old{step}"))));
            fs::create_dir(base.join("folder")).unwrap();
        }
        // The pace of the edits is random, too.
        Edit::Pause(ms) => std::thread::sleep(Duration::from_millis(*ms)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// However files change, who reads them when told ends with what is there.
    #[test]
    fn the_last_state_is_always_told(edits in edits(), events in any::<bool>()) {
        let options = if events { ways()[0] } else { ways()[1] };
        // Edits follow each other faster than some systems' timestamps do.
        let (settle, coarse) = (Duration::from_millis(5), Duration::from_millis(50));
        let options = Options { settle, coarse, ..options };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            let mut rig = Rig::new(options, &["folder/a", "folder/b"], |folder| {
                fs::create_dir(folder.join("folder")).unwrap();
            });
            let mut read: Vec<Seen> = rig.files.iter().map(|file| there(file)).collect();
            for (step, (file, edit)) in edits.iter().enumerate() {
                apply(rig.folder.path(), *file, edit, step);
            }
            let last: Vec<Seen> = rig.files.iter().map(|file| there(file)).collect();
            // A reader who reads only what is told. A folder in place of a file reads as missing.
            while read != last {
                for name in rig.told().await {
                    let path = rig.path(&name);
                    let index = rig.files.iter().position(|file| *file == path).unwrap();
                    read[index] = there(&path);
                }
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
