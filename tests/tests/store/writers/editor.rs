//! Editors, by their system calls: each opens the file, changes its own entry, and saves the whole text.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fednode_tests::Keys;

use super::ledger::{Ledger, Session};
use crate::{ADDRESS, WRITTEN};

/// How a text is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As nano does, and vim with `backupcopy=yes`: emptied, and written in pieces.
    InPlace,
    /// As vim does: moved away as a backup, written anew, and the backup removed.
    Vim,
    /// `sed -i`: written beside, and renamed over it.
    Sed,
}

pub(super) struct Editor<'a> {
    style: Style,
    ledger: &'a Ledger,
    /// The key of its entry in the file.
    own: Option<String>,
    saves: usize,
}

// === impl Editor ===

impl<'a> Editor<'a> {
    pub(super) const fn new(style: Style, ledger: &'a Ledger) -> Self {
        Self { style, ledger, own: None, saves: 0 }
    }

    /// Saves again and again; returns how often.
    pub(super) fn edit_until(mut self, until: Instant) -> usize {
        while Instant::now() < until {
            self.session();
            // People pause. The load, not a wait for anything.
            std::thread::sleep(Duration::from_millis(60));
        }
        self.saves
    }

    fn session(&mut self) {
        let mut desk = self.ledger.desk();
        let path = self.ledger.path().to_owned();
        let text = self.ledger.open(&desk);
        let key = Keys::generate().public_key;
        let entry =
            format!("  - public_key: \"{key}\"\n    addresses: [\"{ADDRESS}\"]   # by {:?}\n", self.style);
        let (read, began) = match self.style {
            Style::Sed => self.sed(&path, &entry),
            style => {
                let mut next = self.without_own(&text);
                next.insert_str(next.len() - "# the end\n".len(), &entry);
                let began = Instant::now();
                match style {
                    Style::Vim => vim(&path, &next),
                    _ => in_pieces(&path, &next),
                }
                (text, began)
            }
        };
        let session = Session { read, began, ended: Instant::now(), tears: self.style != Style::Sed };
        let before = self.own.replace(key.clone());
        self.saves += 1;
        self.ledger.saved(&mut desk, session, before, key);
    }

    /// The text without the lines of the editor's own entry.
    fn without_own(&self, text: &str) -> String {
        let mut lines: Vec<_> = text.split_inclusive('\n').collect();
        if let Some(own) = &self.own {
            let at = lines.iter().position(|line| line.contains(own)).expect("its entry is there");
            lines.drain(at..at + 2);
        }
        lines.concat()
    }

    /// The real program, which is everywhere. It tells what it read by writing that to another file.
    fn sed(&self, path: &Path, entry: &str) -> (String, Instant) {
        let heard = path.with_file_name("sed.read");
        let mut command = Command::new("sed");
        command.arg("-i").arg("-e").arg(format!("w {}", heard.display()));
        if let Some(own) = &self.own {
            command.arg("-e").arg(format!("\\|{own}|{{N;d}}"));
        }
        let [first, second] = entry.lines().collect::<Vec<_>>()[..] else {
            unreachable!("an entry has two lines")
        };
        command.arg("-e").arg(format!("/^# the end/i\\{first}\\n{second}")).arg(path);
        let began = Instant::now();
        let status = command.status().expect("sed runs");
        assert!(status.success());
        let mut read = fs::read_to_string(heard).expect("sed has told");
        // What is drawn in by `N` is not told again.
        if let Some(own) = &self.own {
            assert!(read.contains(own), "an editor's save is lost: {read}");
            read.push_str(WRITTEN);
        }
        (read, began)
    }
}

fn vim(path: &Path, text: &str) {
    let backup = PathBuf::from(format!("{}~", path.display()));
    match fs::rename(path, &backup) {
        Ok(()) => in_pieces(path, text),
        Err(error) => panic!("vim cannot move the file away: {error}"),
    }
    let _ = fs::remove_file(backup);
}

/// Emptied and written as stdio does it.
fn in_pieces(path: &Path, text: &str) {
    let mut file = File::create(path).expect("it can be opened");
    for piece in text.as_bytes().chunks(4096) {
        file.write_all(piece).expect("it can be written");
    }
}
