//! The log as its readers see it: real files, real threads, real reconfigure messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Addr, System};
use reload::{Ack, Reconfigure, Step, Transaction};
use serde_json::Value;
use tracing::{Dispatch, dispatcher};

use super::*;
use crate::config::logging::{Level, LogFile, LogFormat};

mod failing;
mod files;
mod hanging;
mod lines;
mod storm;

/// A log whose console is a file.
struct Rig {
    dir: tempfile::TempDir,
    handle: LoggingHandle,
    dispatch: Dispatch,
    section: LoggingSection,
}

impl Rig {
    fn new(change: impl FnOnce(&mut LoggingSection, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut section = LoggingSection {
            level: Level::Info,
            targets: BTreeMap::new(),
            format: LogFormat::Json,
            console: true,
            color: true,
            file: LogFile::default(),
        };
        change(&mut section, dir.path());
        let console = fs::File::create(dir.path().join("console")).unwrap();
        let (handle, subscriber) = detached(&section, console).unwrap();
        Self { dir, handle, dispatch: Dispatch::new(subscriber), section }
    }

    fn start(&self) -> Addr<Logging> {
        Logging::start(Arc::new(self.section.clone()), &self.handle)
    }

    /// Logs, and waits until it is written.
    fn log(&self, events: impl FnOnce()) {
        dispatcher::with_default(&self.dispatch, events);
        self.flush();
    }

    fn flush(&self) {
        flush(&self.handle);
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.flush();
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn messages(&self, name: &str) -> Vec<String> {
        self.text(name).lines().map(|line| message(line).to_owned()).collect()
    }
}

fn both(path: std::path::PathBuf, max_size: u64) -> LoggingSection {
    LoggingSection {
        level: Level::Info,
        targets: BTreeMap::new(),
        format: LogFormat::Json,
        console: true,
        color: false,
        file: file(path, max_size, 1),
    }
}

/// A log to this console and to `node.log` in the folder.
fn detached_with(dir: &Path, console: fs::File, max_size: u64) -> (LoggingHandle, Dispatch) {
    let (handle, subscriber) = detached(&both(dir.join("node.log"), max_size), console).unwrap();
    (handle, Dispatch::new(subscriber))
}

/// Generous: a test that needs it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn flush(handle: &LoggingHandle) {
    let began = Instant::now();
    while !handle.flush(DEADLINE) {
        assert!(began.elapsed() < DEADLINE, "the log is not written: {:?}", handle.0);
        std::thread::yield_now();
    }
}

/// The message of a line of either format; panics on one that is torn.
fn message(line: &str) -> String {
    if line.starts_with('{') {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        return line["message"].as_str().unwrap().to_owned();
    }
    let (head, message) = line.split_once(": ").unwrap_or_else(|| panic!("torn: {line}"));
    assert!(head.len() > 31 && head.is_char_boundary(24) && head[..24].ends_with('Z'), "torn: {line}");
    message.to_owned()
}

fn file(path: std::path::PathBuf, max_size: u64, max_backups: u32) -> LogFile {
    LogFile::at(path, max_size, max_backups)
}

/// Of some event.
pub(super) fn metadata() -> &'static tracing::Metadata<'static> {
    use tracing::Callsite as _;
    tracing::callsite! { name: "test", kind: tracing::metadata::Kind::EVENT, fields: message }.metadata()
}

/// Logs no faster than a busy machine writes, on which what is waited for half a second in vain is lost: other tests are about that.
fn pace(handle: &LoggingHandle, number: usize) {
    if number.is_multiple_of(1000) {
        flush(handle);
    }
}

async fn step(logging: &Addr<Logging>, transaction: Transaction, step: Step<LoggingSection>) -> Ack {
    logging.send(Reconfigure::new(transaction, step)).await.unwrap()
}

fn prepare(section: &LoggingSection) -> Step<LoggingSection> {
    Step::Prepare(Arc::new(section.clone()), Instant::now() + Duration::from_secs(60))
}

async fn commit(logging: &Addr<Logging>, transaction: Transaction, section: &LoggingSection) {
    step(logging, transaction, prepare(section)).await.unwrap();
    step(logging, transaction, Step::Commit).await.unwrap();
    step(logging, transaction, Step::Probe).await.unwrap();
    step(logging, transaction, Step::Finish).await.unwrap();
}

#[test]
fn a_log_file_that_cannot_be_opened_is_the_end_of_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none/node.log");
    let console = fs::File::create(dir.path().join("console")).unwrap();
    let error =
        detached(&both(path.clone(), 1 << 20), console).err().expect("there is no such folder").to_string();
    assert!(error.starts_with(&format!("{}: cannot open the log file", path.display())), "{error}");
}

#[test]
fn level_and_targets_are_live() {
    let rig = Rig::new(|_, _| {});
    System::new().block_on(async {
        let logging = rig.start();
        let say = |round: u32| {
            rig.log(|| {
                tracing::debug!(target: "net", "{round} own debug");
                tracing::info!(target: "net", "{round} own info");
                tracing::info!(target: "libp2p_swarm", "{round} foreign info");
                tracing::debug!(target: "libp2p_tcp", "{round} named debug");
                tracing::error!(target: "libp2p_swarm", "{round} error");
            });
        };
        say(1);
        let debug = LoggingSection { level: Level::Debug, ..rig.section.clone() };
        let first = Transaction::NONE.next();
        commit(&logging, first, &debug).await;
        say(2);
        let named = BTreeMap::from([("libp2p_tcp".to_owned(), Level::Debug)]);
        let named = LoggingSection { level: Level::Error, targets: named, ..rig.section.clone() };
        commit(&logging, first.next(), &named).await;
        say(3);
    });
    assert_eq!(
        rig.messages("console"),
        [
            "1 own info",
            "1 error",
            "2 own debug",
            "2 own info",
            "2 foreign info",
            "2 named debug",
            "2 error",
            "3 named debug",
            "3 error",
        ]
    );
}

#[test]
fn no_line_is_lost_repeated_or_torn_while_everything_is_swapped() {
    const THREADS: usize = 4;
    const LINES: usize = 5_000;
    const SWAPS: usize = 50;
    let rig = Rig::new(|section, dir| section.file = file(dir.join("a.log"), 1 << 20, 5));
    let go_on = Arc::new(AtomicBool::new(true));
    System::new().block_on(async {
        let logging = rig.start();
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (dispatch, go_on, handle) =
                    (rig.dispatch.clone(), Arc::clone(&go_on), rig.handle.clone());
                std::thread::spawn(move || {
                    dispatcher::with_default(&dispatch, || {
                        // A span that stays open over every swap, as libp2p's do.
                        let _span = tracing::info_span!("connection", thread).entered();
                        let mut line = 0;
                        while line < LINES || go_on.load(Ordering::Relaxed) {
                            tracing::info!(target: "net", thread, filler = "x".repeat(line % 200), "{thread}-{line}");
                            line += 1;
                            pace(&handle, line);
                        }
                        line
                    })
                })
            })
            .collect();
        let mut transaction = Transaction::NONE;
        for swap in 0..SWAPS {
            transaction = transaction.next();
            let format = if swap % 2 == 0 { LogFormat::Text } else { LogFormat::Json };
            // Another file, the same with other limits, or none.
            let target = match swap % 4 {
                0 => file(rig.path("b.log"), 64 << 10, 10_000),
                1 => file(rig.path("b.log"), 32 << 10, 10_000),
                // Switched off: named, and not written to.
                2 => LogFile { output: false, ..file(rig.path("none.log"), 1, 1) },
                _ => file(rig.path("a.log"), 1 << 30, 5),
            };
            let console = target.in_use().is_none();
            let next = LoggingSection { format, file: target, console, ..rig.section.clone() };
            if swap % 5 == 4 {
                step(&logging, transaction, prepare(&next)).await.unwrap();
                step(&logging, transaction, Step::Commit).await.unwrap();
                step(&logging, transaction, Step::Rollback).await.unwrap();
            } else {
                commit(&logging, transaction, &next).await;
            }
        }
        go_on.store(false, Ordering::Relaxed);
        let expected: BTreeMap<_, _> =
            writers.into_iter().enumerate().map(|(thread, writer)| (thread, writer.join().unwrap())).collect();

        rig.flush();
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir(rig.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // One that was opened for nothing may be let go meanwhile.
            let text = match fs::read_to_string(rig.path(&name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                text => text.unwrap(),
            };
            assert!(text.is_empty() || text.ends_with('\n'), "{name} is torn");
            for line in text.lines() {
                let id = message(line);
                let id = id.split(' ').next().unwrap().to_owned();
                // The console gets what the first file gets too until the first swap.
                assert!(seen.insert((name == "console" && line.starts_with('{'), id)), "{name}: {line}");
            }
        }
        let ids: BTreeSet<_> = seen.into_iter().map(|(_, id)| id).collect();
        let wanted: BTreeSet<_> = expected
            .iter()
            .flat_map(|(thread, lines)| (0..*lines).map(move |line| format!("{thread}-{line}")))
            .collect();
        assert_eq!(ids.len(), wanted.len());
        assert!(ids == wanted);
        assert!(rig.path("b.log.2").exists(), "it was rotated under load");
        assert!(!rig.path("none.log").exists(), "a file that is switched off is not opened");
        assert_eq!(rig.handle.lost_lines(), 0);
    });
}

#[test]
fn a_rollback_leaves_no_new_file_and_restores_the_old_one() {
    let rig = Rig::new(|section, dir| section.file = file(dir.join("old.log"), 1 << 20, 2));
    System::new().block_on(async {
        let logging = rig.start();
        let next = LoggingSection {
            level: Level::Error,
            format: LogFormat::Text,
            console: false,
            file: file(rig.path("new.log"), 1 << 20, 2),
            ..rig.section.clone()
        };
        let first = Transaction::NONE.next();
        step(&logging, first, prepare(&next)).await.unwrap();
        rig.log(|| tracing::info!(target: "net", "prepared"));
        assert_eq!(rig.text("new.log"), "");
        step(&logging, first, Step::Rollback).await.unwrap();
        assert!(!rig.path("new.log").exists());

        let second = first.next();
        step(&logging, second, prepare(&next)).await.unwrap();
        step(&logging, second, Step::Commit).await.unwrap();
        rig.log(|| {
            tracing::info!(target: "net", "not now");
            tracing::error!(target: "net", "committed");
        });
        step(&logging, second, Step::Rollback).await.unwrap();
        rig.log(|| tracing::info!(target: "net", "restored"));
    });
    assert_eq!(rig.messages("new.log"), ["committed"]);
    assert_eq!(rig.messages("old.log"), ["prepared", "restored"]);
    assert_eq!(rig.messages("console"), ["prepared", "restored"]);
}

#[test]
fn a_file_that_cannot_be_is_refused_by_its_key() {
    let rig = Rig::new(|_, _| {});
    fs::create_dir(rig.path("folder")).unwrap();
    System::new().block_on(async {
        let logging = rig.start();
        let mut transaction = Transaction::NONE;
        for path in [rig.path("no/such/node.log"), rig.path("folder"), "/dev/null".into()] {
            transaction = transaction.next();
            let next = LoggingSection { file: file(path.clone(), 1, 1), ..rig.section.clone() };
            let error = step(&logging, transaction, prepare(&next)).await.unwrap_err();
            assert_eq!(error.key.as_deref(), Some("logging.file_name"));
            assert!(error.message.contains(path.to_str().unwrap()) && error.hint.is_some(), "{error}");
            step(&logging, transaction, Step::Rollback).await.unwrap();
        }
        rig.log(|| tracing::info!(target: "net", "still here"));
    });
    assert_eq!(rig.messages("console"), ["still here"]);
}

#[test]
fn a_successor_applies_its_section_and_its_predecessor_changes_nothing() {
    let rig = Rig::new(|_, _| {});
    System::new().block_on(async {
        let stuck = rig.start();
        let text = LoggingSection { format: LogFormat::Text, ..rig.section.clone() };
        let first = Transaction::NONE.next();
        commit(&stuck, first, &text).await;
        let second = first.next();
        step(&stuck, second, prepare(&LoggingSection { console: false, ..text })).await.unwrap();

        let successor = rig.start();
        assert!(!successor.send(Reopen).await.unwrap().unwrap(), "it answers when its section is applied");
        step(&stuck, second, Step::Commit).await.unwrap_err();
        rig.log(|| tracing::info!(target: "net", "as json"));
    });
    serde_json::from_str::<Value>(&rig.text("console")).unwrap();
}

#[test]
fn a_pipe_gets_no_colours() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let section = LoggingSection {
        level: Level::Info,
        targets: BTreeMap::new(),
        format: LogFormat::Text,
        console: true,
        color: true,
        file: LogFile::default(),
    };
    let (handle, subscriber) =
        detached(&section, fs::File::from(std::os::fd::OwnedFd::from(writer))).unwrap();
    let dispatch = Dispatch::new(subscriber);
    dispatcher::with_default(&dispatch, || tracing::info!(target: "net", "plain"));
    drop((dispatch, handle));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("  INFO net: plain\n") && !text.contains('\x1b'));
}
