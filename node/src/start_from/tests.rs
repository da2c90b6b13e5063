//! Every instant of a move at which a node can be killed, as what it leaves on the disk, and what a start makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;
use storage::generations::Meta;
use storage::relocate::{AUDIT, GENERATIONS};
use storage::{AuditLog, Generations, NewGeneration};

use super::*;

/// What the kill came after, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    /// The file names the new folder.
    Edited,
    Announced,
    Locked,
    Noted,
    HalfCopied,
    Copied,
    /// The point of return.
    SignpostTurned,
    OldNoted,
    NoteRemoved,
    Appended,
}

const ALL: [Done; 10] = [
    Done::Edited,
    Done::Announced,
    Done::Locked,
    Done::Noted,
    Done::HalfCopied,
    Done::Copied,
    Done::SignpostTurned,
    Done::OldNoted,
    Done::NoteRemoved,
    Done::Appended,
];

/// What the new folder was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    NotThere,
    /// Left by an earlier move, which noted where to.
    Left,
    /// The same, without the note.
    LeftInSilence,
}

/// The newest generation before the move, and that of the earlier copy.
const NEWEST: u64 = 5;
const EARLIER: u64 = 2;

struct Ground {
    root: tempfile::TempDir,
    text: String,
}

// === impl Ground ===

impl Ground {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let text = config::default_config_text(&net::Identity::generate(), false);
        let text = text.replace("/ip4/0.0.0.0/tcp/9000", "/ip4/127.0.0.1/tcp/0");
        assert!(text.contains("tcp/0\""), "{text}");
        let ground = Self { root, text };
        ground.say("old");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        self.path("conf.yaml")
    }

    /// Makes the file name a data folder.
    fn say(&self, data_dir: &str) {
        let text = self.text.replace("data_dir: data ", &format!("data_dir: {data_dir} "));
        assert_ne!(text, self.text);
        fs::write(self.conf(), text).unwrap();
        fs::set_permissions(self.conf(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Makes generations with their lines in a folder.
    fn live(&self, folder: &str, numbers: std::ops::RangeInclusive<u64>) {
        let folder = self.path(folder);
        let _lock = DataDir::open(&folder).unwrap();
        let (mut store, _) = Generations::open(&folder.join(GENERATIONS), usize::MAX).unwrap();
        let mut log = AuditLog::open(&folder.join(AUDIT)).unwrap();
        for number in numbers {
            let id = format!("attempt-{number}");
            let meta = Meta {
                generation: Generation::new(number).unwrap(),
                from_generation: None,
                id: id.clone(),
                trigger: "signal".to_owned(),
                actor: None,
                note: None,
                unix_ms: number,
                changes: json!([]),
            };
            let peers = vec![b'p'; if number % 2 == 0 { 70_000 } else { 10 }];
            let conf = self.text.as_bytes().to_owned().into();
            store.append(&NewGeneration { meta, conf, peers: Some(peers.into()) }).unwrap();
            log.append(&json!({"id": id, "config_generation": number})).unwrap();
        }
    }

    /// Copies as a node does that knows no links, and up to a number of files.
    fn copy(&self, files: usize) {
        let (old, new) = (self.path("old"), self.path("new"));
        fs::create_dir_all(new.join(GENERATIONS)).unwrap();
        let (store, _) = Generations::open(&old.join(GENERATIONS), usize::MAX).unwrap();
        for path in store.files().into_iter().chain([old.join(AUDIT)]).take(files) {
            fs::copy(&path, new.join(path.strip_prefix(&old).unwrap())).unwrap();
        }
    }

    /// What a killed node leaves in a folder besides: its pid, and a socket that nobody serves.
    fn die_in(&self, folder: &str) {
        let folder = self.path(folder);
        fs::write(folder.join("fednode.pid"), "4194304\n").unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.join("admin.sock")).unwrap());
    }

    fn note(&self, folder: &str, history_in: &str, is_new: bool) {
        let note = json!({"history_in": self.path(history_in), "is_new": is_new});
        fs::create_dir_all(self.path(folder)).unwrap();
        fs::write(self.path(folder).join(NOTE), note.to_string()).unwrap();
    }

    /// What is there after a kill.
    fn after(done: Done, new: New) -> Self {
        let ground = Self::new();
        let signpost = Signpost::beside(&ground.conf());
        ground.live("old", 1..=EARLIER);
        if new != New::NotThere {
            ground.live("new", 1..=EARLIER);
        }
        if new == New::Left {
            ground.note("new", "old", false);
        }
        ground.live("old", EARLIER + 1..=NEWEST);
        signpost.put(&Whereabouts::at(&ground.path("old"))).unwrap();
        ground.die_in("old");
        // What a generation leaves that was being made.
        fs::write(ground.path("old").join(GENERATIONS).join(".00000006.gen.tmp-4194304-1"), "half").unwrap();
        let steps: [&dyn Fn(); 10] = [
            &|| ground.say("new"),
            &|| {
                let moving_to = Some(ground.path("new"));
                signpost.put(&Whereabouts { moving_to, ..Whereabouts::at(&ground.path("old")) }).unwrap();
            },
            &|| {
                fs::create_dir_all(ground.path("new")).unwrap();
                fs::write(ground.path("new").join("fednode.lock"), "").unwrap();
                ground.die_in("new");
            },
            &|| ground.note("new", "old", new == New::NotThere),
            &|| ground.copy(1),
            &|| ground.copy(usize::MAX),
            &|| {
                let left = Some(ground.path("old"));
                signpost.put(&Whereabouts { left, ..Whereabouts::at(&ground.path("new")) }).unwrap();
            },
            &|| ground.note("old", "new", false),
            &|| fs::remove_file(ground.path("new").join(NOTE)).unwrap(),
            &|| ground.live("new", NEWEST + 1..=NEWEST + 1),
        ];
        for (step, _) in steps.iter().zip(ALL).take_while(|(_, step)| *step <= done) {
            step();
        }
        ground
    }
}

fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whichever folder the file names: the one to which the node was to move, or, put back by somebody, the one that it was in.
#[test]
fn after_a_kill_at_any_instant_of_a_move_a_start_goes_on_with_the_newest_generation_where_the_file_says() {
    for done in ALL {
        for new in [New::NotThere, New::Left, New::LeftInSilence] {
            for said in ["new", "old"] {
                let what = format!("{done:?} {new:?}, and the file names {said}");
                let ground = Ground::after(done, new);
                ground.say(said);
                let chosen =
                    StartFrom::choose(&ground.conf(), false).unwrap_or_else(|e| panic!("{what}: {e}"));
                let here = ground.path(said);
                assert_eq!(chosen.history.path(), here, "{what}");
                assert_eq!(chosen.loaded.config.history.data_dir, here, "{what}");
                assert!(chosen.wrong.damaged.is_empty(), "{what}: {:?}", chosen.wrong);
                let newest = if done == Done::Appended { NEWEST + 1 } else { NEWEST };
                let numbers: Vec<_> = chosen.history.numbers().into_iter().map(Generation::get).collect();
                assert_eq!(numbers, (1..=newest).rev().collect::<Vec<_>>(), "{what}");
                assert_eq!(chosen.history.audit_tail(100).unwrap().len() as u64, newest, "{what}");
                assert_eq!(chosen.history.next().get(), newest + 1, "{what}");
                let signpost = Signpost::beside(&ground.conf());
                assert_eq!(signpost.read().unwrap(), Some(Whereabouts::at(&here)), "{what}");
                // Nothing is left behind: no temporary file, no half copy, no note but of the folder that was left.
                assert!(!here.join(NOTE).exists(), "{what}");
                let in_old = files_in(&ground.path("old").join(GENERATIONS));
                assert!(in_old.iter().all(|name| !name.contains(".tmp-")), "{what}: {in_old:?}");
                let other = ground.path(if said == "new" { "old" } else { "new" });
                for name in ["fednode.pid", "admin.sock"] {
                    assert!(!other.join(name).exists(), "{what}: {name}");
                }
                let never_counted = new == New::NotThere && done < Done::SignpostTurned;
                if said == "old" && never_counted {
                    assert_eq!(files_in(&other), Vec::<String>::new(), "{what}");
                } else if said == "old" && done < Done::Noted {
                    // Not touched.
                    assert_eq!(other.join(NOTE).exists(), new == New::Left, "{what}");
                } else {
                    let note = fs::read_to_string(other.join(NOTE)).unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(note.contains(&json!(here).to_string()), "{what}: {note}");
                }
                // After a clean stop the next start is told nothing.
                chosen.history.release();
                assert_eq!(signpost.read().unwrap(), None, "{what}");
            }
        }
    }
}

#[test]
fn a_start_after_a_kill_takes_nothing_up_from_a_folder_that_is_gone_and_refuses_one_that_is_anothers() {
    let ground = Ground::after(Done::Edited, New::NotThere);
    let signpost = Signpost::beside(&ground.conf());
    ground.live("other", 1..=1);
    fs::write(ground.path("other").join(AUDIT), "{\"id\":\"another\",\"config_generation\":1}\n").unwrap();
    ground.say("other");
    let before = files_in(&ground.path("other"));
    let Err(refused) = StartFrom::choose(&ground.conf(), false) else { panic!("it holds something else") };
    assert!(refused.to_string().contains("holds the history of another node"), "{refused}");
    assert_eq!(files_in(&ground.path("other")), before);
    // The folder was carried elsewhere, and the file says so.
    fs::rename(ground.path("old"), ground.path("carried")).unwrap();
    ground.say("carried");
    let chosen = StartFrom::choose(&ground.conf(), false).unwrap();
    assert_eq!(chosen.history.next().get(), NEWEST + 1);
    assert_eq!(signpost.read().unwrap(), Some(Whereabouts::at(&ground.path("carried"))));
}

/// A disk that took the history and not what says where it is.
#[test]
fn a_history_that_went_on_counts_although_nothing_says_so() {
    for said in ["new", "old"] {
        let ground = Ground::after(Done::Copied, New::NotThere);
        ground.live("new", NEWEST + 1..=NEWEST + 1);
        ground.say(said);
        let chosen = StartFrom::choose(&ground.conf(), false).unwrap();
        assert_eq!(chosen.history.path(), ground.path(said));
        assert_eq!(chosen.history.next().get(), NEWEST + 2, "{said}");
    }
}
