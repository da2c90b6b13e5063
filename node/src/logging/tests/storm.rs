//! More lines than any node writes, while every key of the section is changed under them.

use std::sync::atomic::AtomicUsize;

use super::*;

const THREADS: usize = 4;
const LINES: usize = 100_000;
const RELOADS: usize = 50;

/// Which lines are there: each once, whole.
struct Tally {
    seen: Vec<Vec<bool>>,
}

// === impl Tally ===

impl Tally {
    fn new() -> Self {
        Self { seen: vec![vec![false; LINES]; THREADS] }
    }

    /// Takes a file in. Every line of it must be whole, and none of them seen before.
    fn take(&mut self, name: &str, text: &str) {
        assert!(text.is_empty() || text.ends_with('\n'), "{name} is torn");
        for line in text.lines() {
            let message = message(line);
            let id = message.split(' ').next().unwrap();
            let Some((thread, number)) = id.split_once('-') else { panic!("{name}: {line}") };
            let seen = &mut self.seen[thread.parse::<usize>().unwrap()][number.parse::<usize>().unwrap()];
            assert!(!std::mem::replace(seen, true), "{name}: twice: {line}");
        }
    }

    fn is_complete(&self) -> bool {
        self.seen.iter().flatten().all(|seen| *seen)
    }
}

/// The section after so many reloads: level, targets, format, file, size and number all change, in rhythms of their own.
fn section(rig: &Rig, reload: usize) -> LoggingSection {
    let name = if reload % 5 < 3 { "a.log" } else { "b.log" };
    let size = [32 << 10, 256 << 10, 1 << 30][reload % 3];
    LoggingSection {
        level: if reload.is_multiple_of(2) { Level::Info } else { Level::Debug },
        targets: BTreeMap::from([("libp2p".to_owned(), [Level::Error, Level::Warn][reload % 2])]),
        format: if reload % 4 < 2 { LogFormat::Text } else { LogFormat::Json },
        // As many as are needed for all that is ever written: what a rotation throws away on purpose is not lost.
        file: file(rig.path(name), size, 20_000 - u32::try_from(reload).unwrap()),
        console: false,
        ..rig.section.clone()
    }
}

#[test]
fn a_hundred_thousand_lines_a_second_are_there_once_each_whatever_is_reloaded() {
    let rig = Rig::new(|section, dir| {
        section.console = false;
        section.file = file(dir.join("a.log"), 64 << 10, 20_000);
    });
    let written = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let took = System::new().block_on(async {
        let logging = rig.start();
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (dispatch, written, handle) =
                    (rig.dispatch.clone(), Arc::clone(&written), rig.handle.clone());
                std::thread::spawn(move || {
                    dispatcher::with_default(&dispatch, || {
                        for number in 0..LINES {
                            tracing::info!(target: "net", thread, length = number % 97, "{thread}-{number}");
                            tracing::debug!(target: "libp2p_tcp", "{thread} is never written");
                            written.fetch_add(1, Ordering::Relaxed);
                            pace(&handle, number);
                        }
                    });
                })
            })
            .collect();
        let mut transaction = Transaction::NONE;
        for reload in 1..=RELOADS {
            // Spread over the whole storm, by what is written and not by a clock.
            while written.load(Ordering::Relaxed) < reload * THREADS * LINES / (RELOADS + 1) {
                tokio::task::yield_now().await;
            }
            transaction = transaction.next();
            let next = section(&rig, reload);
            if reload % 7 == 0 {
                step(&logging, transaction, prepare(&next)).await.unwrap();
                step(&logging, transaction, Step::Commit).await.unwrap();
                step(&logging, transaction, Step::Rollback).await.unwrap();
            } else {
                commit(&logging, transaction, &next).await;
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
        rig.flush();
        began.elapsed()
    });
    let mut tally = Tally::new();
    let mut files = 0;
    for entry in fs::read_dir(rig.dir.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "console" {
            files += 1;
            tally.take(&name, &rig.text(&name));
        }
    }
    let rate = (THREADS * LINES) as f64 / took.as_secs_f64();
    println!("{rate:.0} lines per second, {RELOADS} reloads, {files} files");
    assert!(tally.is_complete(), "lines are missing");
    assert!(files > 100, "{files} files: it was rotated under load");
    assert_eq!(rig.text("console"), "");
    assert_eq!(rig.handle.lost_lines(), 0);
}
