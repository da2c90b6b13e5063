//! Real files and the kernel's real events; each case with the poll alone, too. Tests wait for what is told. Where a test says
//! that nothing is told, it makes another change afterwards, and the first thing told is that one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tempfile::TempDir;

use super::*;

mod random;

const PATIENCE: Duration = Duration::from_secs(30);

/// Short, and longer than a busy machine holds a writer up between two system calls.
const SETTLE: Duration = Duration::from_millis(120);

/// With nothing but events, a look at another time being one that no test waits for; or with the poll alone.
fn ways() -> [Options; 2] {
    let (poll, coarse) = (Duration::from_secs(600), Duration::ZERO);
    let options = Options { settle: SETTLE, poll, coarse, ..Options::default() };
    [options, Options { poll: Duration::from_millis(10), events: false, ..options }]
}

struct Rig {
    folder: TempDir,
    handle: WatchHandle,
    watch: Watch,
    files: Vec<PathBuf>,
}

impl Rig {
    /// Watches files of a folder that has been prepared, as seen by a reader who has just read them.
    fn new(options: Options, names: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let files: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
        let seen = files.iter().map(|file| Watched::seen(file, there(file))).collect();
        let (handle, watch) = Watch::start(options, seen).unwrap();
        Self { folder, handle, watch, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What an editor does.
    fn replace(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}.new"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    /// The next change, by the names in the folder.
    async fn told(&mut self) -> Vec<String> {
        let changed = tokio::time::timeout(PATIENCE, self.watch.next()).await;
        let changed = changed.expect("nothing is told").expect("the watching goes on");
        let base = self.folder.path();
        let name = |file: PathBuf| file.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
        changed.files.into_iter().map(name).collect()
    }
}

/// What a reader sees.
fn there(path: &Path) -> Seen {
    fs::read(path).map_or(Seen::Missing, |bytes| Seen::Content(digest(&bytes)))
}

#[tokio::test]
async fn an_editors_rename_and_a_write_in_place_are_told() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a", "b"], |folder| fs::write(folder.join("a"), "0").unwrap());
        rig.replace("a", "1");
        assert_eq!(rig.told().await, ["a"]);
        rig.write("a", "2");
        assert_eq!(rig.told().await, ["a"]);
        // One that was not there; and another beside it that nobody named.
        rig.write("c", "1");
        rig.write("b", "1");
        assert_eq!(rig.told().await, ["b"]);
        assert_eq!(rig.handle.only_polls(), !options.events);
    }
}

#[tokio::test]
async fn two_files_that_change_together_are_one_change() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a", "b"], |_| {});
        rig.write("a", "1");
        rig.write("b", "1");
        assert_eq!(rig.told().await, ["a", "b"]);
    }
}

#[tokio::test]
async fn a_file_in_chunks_is_told_once_it_is_whole() {
    for options in ways() {
        let settle = Duration::from_millis(200);
        let options = Options { settle, ..options };
        let mut rig = Rig::new(options, &["a"], |folder| fs::write(folder.join("a"), "0").unwrap());
        let path = rig.path("a");
        for round in 0..50 {
            let writer = {
                let path = path.clone();
                tokio::task::spawn_blocking(move || {
                    use std::io::Write as _;
                    let mut file = fs::File::create(path).unwrap();
                    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                    for chunk in 0..40 {
                        writeln!(file, "{round} {chunk}").unwrap();
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                        // The pace of a slow writer, which is what is tested.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    writeln!(file, "whole").unwrap();
                    longest.max(last.elapsed())
                })
            };
            assert_eq!(rig.told().await, ["a"]);
            let text = fs::read_to_string(&path).unwrap();
            let longest = writer.await.unwrap();
            if longest < settle {
                assert!(text.ends_with("whole\n"), "{text:?}, the longest pause was {longest:?}");
                break;
            }
            // The machine kept the writer from writing for as long as a file settles: this round shows nothing.
            assert!(round < 49, "the machine is too busy for this test");
        }
    }
}

#[tokio::test]
async fn deleted_and_created_again_is_one_change_and_gone_is_another() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a", "z"], |folder| fs::write(folder.join("a"), "0").unwrap());
        fs::remove_file(rig.path("a")).unwrap();
        rig.write("a", "1");
        assert_eq!(rig.told().await, ["a"]);
        assert_eq!(there(&rig.path("a")), Seen::Content(digest(b"1")));
        fs::remove_file(rig.path("a")).unwrap();
        assert_eq!(rig.told().await, ["a"]);
        // Back as it was: another state than "gone", which was told last.
        rig.write("a", "1");
        assert_eq!(rig.told().await, ["a"]);
    }
}

#[tokio::test]
async fn the_same_bytes_and_reading_are_told_to_nobody() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a", "z"], |folder| fs::write(folder.join("a"), "0").unwrap());
        for _ in 0..5 {
            rig.write("a", "0");
            rig.replace("a", "0");
            assert_eq!(fs::read(rig.path("a")).unwrap(), b"0");
            fs::File::open(rig.path("a")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        }
        rig.write("z", "1");
        assert_eq!(rig.told().await, ["z"]);
    }
}

#[tokio::test]
async fn a_configmaps_swap_is_seen_in_all_its_files() {
    for options in ways() {
        let swap = |folder: &Path, version: &str, text: &str| {
            let data = folder.join(version);
            fs::create_dir(&data).unwrap();
            fs::write(data.join("conf.yaml"), text).unwrap();
            fs::write(data.join("peers.yaml"), text).unwrap();
            symlink(version, folder.join("..data_tmp")).unwrap();
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        };
        let mut rig = Rig::new(options, &["conf.yaml", "peers.yaml"], |folder| {
            swap(folder, "..2024_1", "0");
            symlink("..data/conf.yaml", folder.join("conf.yaml")).unwrap();
            symlink("..data/peers.yaml", folder.join("peers.yaml")).unwrap();
        });
        for round in 2..6 {
            swap(rig.folder.path(), &format!("..2024_{round}"), &round.to_string());
            // Nothing but the link has changed so far.
            assert_eq!(rig.told().await, ["conf.yaml", "peers.yaml"]);
            fs::remove_dir_all(rig.path(&format!("..2024_{}", round - 1))).unwrap();
        }
        // A new link of the same bytes is no change.
        swap(rig.folder.path(), "..2024_same", "5");
        rig.write("..2024_same/peers.yaml", "6");
        assert_eq!(rig.told().await, ["peers.yaml"]);
    }
}

#[tokio::test]
async fn a_folder_that_is_replaced_or_comes_later_is_followed() {
    for options in ways() {
        let mut rig = Rig::new(options, &["x/y/a"], |_| {});
        fs::create_dir_all(rig.path("x/y")).unwrap();
        rig.write("x/y/a", "1");
        assert_eq!(rig.told().await, ["x/y/a"]);
        // Another one under its name.
        for round in 0..5 {
            fs::create_dir(rig.path("next")).unwrap();
            rig.write("next/a", &format!("next {round}"));
            fs::rename(rig.path("x/y"), rig.path("gone")).unwrap();
            fs::rename(rig.path("next"), rig.path("x/y")).unwrap();
            assert_eq!(rig.told().await, ["x/y/a"]);
            rig.write("x/y/a", &format!("then {round}"));
            assert_eq!(rig.told().await, ["x/y/a"]);
            fs::remove_dir_all(rig.path("gone")).unwrap();
        }
        fs::remove_dir_all(rig.path("x")).unwrap();
        assert_eq!(rig.told().await, ["x/y/a"]);
        fs::create_dir_all(rig.path("x/y")).unwrap();
        rig.write("x/y/a", "back");
        assert_eq!(rig.told().await, ["x/y/a"]);
    }
}

#[tokio::test]
async fn a_folder_that_was_moved_away_and_back_is_still_watched() {
    for options in ways() {
        // The folder above is watched as well: its event makes the library drop the watch on the folder below.
        let mut rig = Rig::new(options, &["f", "x/a"], |folder| fs::create_dir(folder.join("x")).unwrap());
        rig.write("x/a", "0");
        assert_eq!(rig.told().await, ["x/a"]);
        for round in 0..3 {
            fs::rename(rig.path("x"), rig.path("away")).unwrap();
            fs::rename(rig.path("away"), rig.path("x")).unwrap();
            rig.write("f", &round.to_string());
            assert_eq!(rig.told().await, ["f"]);
            rig.write("x/a", &round.to_string());
            // In the first round its contents are what they were.
            if round > 0 {
                assert_eq!(rig.told().await, ["x/a"]);
            }
        }
    }
}

#[tokio::test]
async fn symlinks_of_every_kind_are_followed() {
    for options in ways() {
        let mut rig = Rig::new(options, &["etc/conf", "loop"], |folder| {
            fs::create_dir_all(folder.join("real/deep")).unwrap();
            fs::write(folder.join("real/deep/conf"), "0").unwrap();
            // An absolute link to a folder, a relative one to a file, and one to itself.
            symlink(folder.join("real/deep"), folder.join("etc")).unwrap();
            fs::rename(folder.join("real/deep/conf"), folder.join("real/target")).unwrap();
            symlink("../target", folder.join("real/deep/conf")).unwrap();
            symlink("loop", folder.join("loop")).unwrap();
        });
        // The loop can not be read, which is another state than the reader saw.
        assert_eq!(rig.told().await, ["loop"]);
        rig.write("real/target", "1");
        assert_eq!(rig.told().await, ["etc/conf"]);
        symlink("real/target", rig.path("new")).unwrap();
        fs::rename(rig.path("new"), rig.path("loop")).unwrap();
        assert_eq!(rig.told().await, ["loop"]);
        rig.write("real/target", "2");
        assert_eq!(rig.told().await, ["etc/conf", "loop"]);
    }
}

#[tokio::test]
async fn what_is_no_file_holds_nobody_up() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a", "b"], |folder| fs::write(folder.join("a"), "0").unwrap());
        assert!(Command::new("mkfifo").arg(rig.path("pipe")).status().unwrap().success());
        fs::rename(rig.path("pipe"), rig.path("a")).unwrap();
        assert_eq!(rig.told().await, ["a"]);
        fs::create_dir(rig.path("folder")).unwrap();
        symlink("folder", rig.path("link")).unwrap();
        fs::rename(rig.path("link"), rig.path("a")).unwrap();
        rig.write("folder/inside", "1");
        rig.write("b", "1");
        assert_eq!(rig.told().await, ["b"], "a pipe and a folder are both nothing that can be read");
        rig.replace("a", "1");
        assert_eq!(rig.told().await, ["a"]);
        // Larger than what is compared byte by byte.
        let large = fs::File::create(rig.path("b")).unwrap();
        large.set_len(MAX_HASHED + 1).unwrap();
        assert_eq!(rig.told().await, ["b"]);
        large.set_len(MAX_HASHED + 2).unwrap();
        assert_eq!(rig.told().await, ["b"]);
    }
}

#[tokio::test]
async fn what_the_reader_took_by_itself_counts() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a", "z"], |folder| fs::write(folder.join("a"), "0").unwrap());
        let (a, z) = (rig.path("a"), rig.path("z"));
        let set = |rig: &Rig, text: &str| {
            let seen = Seen::Content(digest(text.as_bytes()));
            rig.handle.set(vec![Watched::seen(&a, seen), Watched::new(&z)], SETTLE).unwrap();
        };
        // It read something that is there no more: told what is there.
        set(&rig, "half");
        assert_eq!(rig.told().await, ["a"]);
        // It refused that, and says so by saying what it said before.
        set(&rig, "half");
        rig.write("z", "1");
        assert_eq!(rig.told().await, ["z"]);
        // It writes the file itself.
        rig.replace("a", "own");
        set(&rig, "own");
        rig.write("z", "2");
        assert_eq!(rig.told().await, ["z"]);
    }
}

#[tokio::test]
async fn the_set_changes_while_it_is_watched() {
    for options in ways() {
        let mut rig = Rig::new(options, &["a"], |_| {});
        let files: Vec<_> = (0..=MAX_FILES).map(|file| Watched::new(format!("/{file}"))).collect();
        assert_eq!(rig.handle.set(files, SETTLE), Err(TooMany(MAX_FILES + 1)));
        rig.write("a", "1");
        assert_eq!(rig.told().await, ["a"]);
        // Off, and on again: what happened meanwhile is seen by comparison.
        rig.handle.set(Vec::new(), SETTLE).unwrap();
        rig.write("a", "2");
        let b = rig.path("b");
        let seen = Watched::seen(&rig.files[0], Seen::Content(digest(b"1")));
        rig.handle.set(vec![seen, Watched::seen(b, Seen::Missing)], SETTLE).unwrap();
        assert_eq!(rig.told().await, ["a"]);
        rig.write("b", "1");
        assert_eq!(rig.told().await, ["b"]);
    }
}

#[tokio::test]
async fn nobody_who_listens_is_the_end_of_the_thread() {
    let rig = Rig::new(Options { settle: SETTLE, ..Options::default() }, &["a"], |_| {});
    let Rig { handle, watch, .. } = rig;
    let inbox = Arc::clone(&handle.0);
    drop(watch);
    let end = std::future::poll_fn(|cx| inbox.poll_told(cx));
    assert_eq!(tokio::time::timeout(PATIENCE, end).await.unwrap(), None);
}

#[tokio::test]
async fn lost_events_cost_no_change() {
    let [options, _] = ways();
    let mut rig = Rig::new(options, &["a", "b"], |_| {});
    rig.write("b", "1");
    assert_eq!(rig.told().await, ["b"]);
    // As if the kernel's queue were full: the event is dropped, and only that it was lost is heard.
    rig.handle.0.listen_for(std::collections::HashSet::new());
    rig.write("a", "1");
    rig.handle.0.lose();
    assert_eq!(rig.told().await, ["a"]);
}

#[tokio::test]
async fn ten_thousand_writes_are_one_change_while_nobody_takes_it() {
    let [options, _] = ways();
    let mut rig = Rig::new(Options { settle: Duration::ZERO, ..options }, &["a"], |_| {});
    for write in 0..10_000 {
        rig.write("a", &write.to_string());
    }
    let last = Seen::Content(digest(b"9999"));
    assert_eq!(there(&rig.path("a")), last);
    assert_eq!(rig.told().await, ["a"]);
    // What comes after is not lost either.
    rig.write("a", "end");
    assert_eq!(rig.told().await, ["a"]);
}
