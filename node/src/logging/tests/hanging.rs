//! Outputs that take nothing and give no error: a pipe whose reader has stopped, a file whose thread does not come back.

use std::os::fd::OwnedFd;
use std::sync::mpsc;

use super::*;
use crate::logging::desk::Desk;
use crate::logging::files::{Files, LogFile as Held};
use crate::logging::queue::no_answer;

/// More than wait for an output at most.
const LINES: usize = 100_000;

/// Has the thread of a file wait until the sender is dropped.
fn hold_up(file: &Held) -> mpsc::SyncSender<()> {
    let (release, held) = mpsc::sync_channel::<()>(0);
    let (reached, is_held) = mpsc::sync_channel(1);
    let hang = Box::new(move |_: &mut _| {
        reached.send(()).unwrap();
        // Ends with an error, when the sender is dropped.
        let _ = held.recv();
    });
    file.queue().request(hang).unwrap();
    is_held.recv_timeout(DEADLINE).unwrap();
    release
}

/// Logs so much to a file that hangs, and how much of it is lost. No line waits for the disk, or it would wait for good.
fn flood(rig: &Rig) -> u64 {
    dispatcher::with_default(&rig.dispatch, || {
        for number in 0..LINES {
            tracing::info!(target: "net", "{number}");
        }
    });
    let lost = rig.handle.lost_lines();
    assert!(lost > 0 && lost < LINES as u64, "{lost}");
    lost
}

fn the_file(rig: &Rig) -> Arc<Held> {
    Arc::clone(&rig.handle.0.live.load_full().file.as_ref().unwrap().file)
}

#[test]
fn a_file_that_hangs_costs_lines_and_the_reload_away_from_it_commits() {
    let rig = Rig::new(|section, dir| {
        section.console = false;
        section.file = file(dir.join("old.log"), 1 << 30, 1);
    });
    System::new().block_on(async {
        let logging = rig.start();
        rig.log(|| tracing::info!(target: "net", "before"));
        let hung = the_file(&rig);
        let release = hold_up(&hung);
        let lost = flood(&rig);
        assert!(!rig.handle.flush(Duration::from_millis(1)));
        assert!(!rig.handle.flush(DEADLINE), "what was in vain once is not waited for again");

        // In place, while it hangs; to another file; and back off again.
        let first = Transaction::NONE.next();
        let warn = LoggingSection { level: Level::Warn, ..rig.section.clone() };
        commit(&logging, first, &warn).await;
        let other = LoggingSection { file: file(rig.path("new.log"), 1 << 20, 1), ..rig.section.clone() };
        let second = first.next();
        commit(&logging, second, &other).await;
        dispatcher::with_default(&rig.dispatch, || tracing::info!(target: "net", "elsewhere"));
        let none = LoggingSection { file: LogFile::default(), console: true, ..rig.section.clone() };
        commit(&logging, second.next(), &none).await;
        assert_eq!(rig.handle.lost_lines(), lost);

        drop((release, hung));
        rig.flush();
        let messages = rig.messages("old.log");
        let expected: Vec<_> = (0..LINES - lost as usize).map(|number| number.to_string()).collect();
        assert_eq!(messages[0], "before");
        assert!(messages[1..] == expected, "what waited is written, whole and in order");
        assert_eq!(rig.messages("new.log")[0], "elsewhere");
    });
}

#[test]
fn what_was_lost_while_a_file_hung_is_told_in_it_when_it_is_back() {
    let rig = Rig::new(|section, dir| {
        section.console = false;
        section.file = file(dir.join("node.log"), 1 << 30, 1);
    });
    let hung = the_file(&rig);
    let release = hold_up(&hung);
    let lost = flood(&rig);
    drop((release, hung));
    rig.flush();
    rig.log(|| tracing::info!(target: "net", "it is back"));
    let text = rig.text("node.log");
    let last: Vec<_> = text.lines().rev().take(2).collect();
    assert_eq!(
        last.iter().map(|line| message(line)).collect::<Vec<_>>(),
        ["log lines were lost", "it is back"]
    );
    assert!(last[0].contains(&format!("\"lost\":\"{lost}\"")), "{}", last[0]);
    assert_eq!(rig.handle.lost_lines(), lost);
}

#[test]
fn a_rollback_does_not_need_the_file_that_hangs() {
    let rig = Rig::new(|section, dir| section.file = file(dir.join("old.log"), 1 << 20, 1));
    System::new().block_on(async {
        let logging = rig.start();
        let hung = the_file(&rig);
        let release = hold_up(&hung);
        let transaction = Transaction::NONE.next();
        let next = LoggingSection { file: file(rig.path("new.log"), 1 << 20, 1), ..rig.section.clone() };
        step(&logging, transaction, prepare(&next)).await.unwrap();
        step(&logging, transaction, Step::Commit).await.unwrap();
        step(&logging, transaction, Step::Rollback).await.unwrap();
        assert!(logging.send(Reopen).await.unwrap().is_err(), "it cannot be opened again now");
        dispatcher::with_default(&rig.dispatch, || tracing::info!(target: "net", "back"));
        drop((release, hung));
    });
    assert_eq!(rig.messages("old.log"), ["back"]);
    assert!(!rig.path("new.log").exists(), "nobody has written to it");
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody_up() {
    const LINES: usize = 3000;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (handle, dispatch) = detached_with(dir.path(), fs::File::from(OwnedFd::from(writer)), 1 << 30);
    dispatcher::with_default(&dispatch, || {
        for number in 0..LINES {
            tracing::info!(target: "net", "{number}");
        }
    });
    flush(&handle);
    let lost = usize::try_from(handle.lost_lines()).unwrap();
    assert!(lost > 0, "more than a pipe holds");
    let text = fs::read_to_string(dir.path().join("node.log")).unwrap();
    let (told, rest): (Vec<_>, Vec<_>) =
        text.lines().map(message).partition(|message| message == "log lines are being lost");
    assert_eq!((told.len(), rest.len()), (1, LINES));
    drop((dispatch, handle));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let expected: Vec<_> = (0..LINES - lost).map(|number| number.to_string()).collect();
    assert_eq!(text.lines().map(message).collect::<Vec<_>>(), expected);
}

#[test]
fn one_path_is_one_file_and_goes_with_its_last_holder_if_nobody_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.log");
    let (files, desk) = (Arc::new(Files::default()), Arc::new(Desk::default()));
    let open = |path: &Path| files.open(path, &desk).unwrap().blocking_within(DEADLINE).unwrap();
    let is_gone = |path: &Path| {
        let began = Instant::now();
        while path.exists() {
            assert!(began.elapsed() < DEADLINE, "{} stays", path.display());
            std::thread::yield_now();
        }
    };
    let is_idle = |files: &Files| {
        let began = Instant::now();
        while !files.flush(Instant::now() + DEADLINE, false) {
            assert!(began.elapsed() < DEADLINE, "the lines are not written");
            std::thread::yield_now();
        }
    };
    let given_up = open(&path);
    let kept = open(&path);
    assert!(given_up.is_same(&kept));
    drop(given_up);
    assert!(path.exists(), "a late rollback does not remove what its successor has opened");
    drop(kept);
    is_gone(&path);

    let limits = crate::logging::rotate::Limits { max_size: 100, max_backups: 1 };
    let written = open(&path);
    assert!(written.queue().push(b"line\n", limits).0);
    drop(written);
    drop(open(&path));
    is_idle(&files);
    assert_eq!(fs::read(&path).unwrap(), b"line\n");

    let empty = dir.path().join("empty.log");
    fs::write(&empty, "").unwrap();
    drop(open(&empty));
    // The next one finds the one before closed, and waits for that.
    drop(open(&empty));
    assert!(empty.exists(), "it was there before");
}

#[test]
fn files_that_hang_are_bounded_in_number_and_a_path_has_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (files, desk) = (Arc::new(Files::default()), Arc::new(Desk::default()));
    let mut releases = Vec::new();
    let refused = (0..100).find_map(|number| {
        let path = dir.path().join(format!("{number}.log"));
        let held = match files.open(&path, &desk) {
            Ok(opening) => opening.blocking_within(DEADLINE).unwrap(),
            Err(error) => return Some(error),
        };
        releases.push(hold_up(&held));
        // Given up, and asked for again: the thread is the same.
        drop(held);
        let again = files.open(&path, &desk).unwrap().blocking_within(DEADLINE).unwrap();
        assert!(again.queue().request(Box::new(|_| {})).is_ok());
        None
    });
    let error = refused.expect("there is a bound").to_string();
    assert!(error.contains("do not answer") && releases.len() < 100, "{error}");
    drop(releases);
    let began = Instant::now();
    while files.open(&dir.path().join("next.log"), &desk).is_err() {
        assert!(began.elapsed() < DEADLINE, "what ends makes room");
        std::thread::yield_now();
    }
    assert_eq!(no_answer().kind(), std::io::ErrorKind::TimedOut);
}
