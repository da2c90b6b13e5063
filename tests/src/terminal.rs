//! A program at a terminal: what a person would see.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::eventually;

/// A program that runs at a pseudo-terminal of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    written: Arc<Mutex<Vec<u8>>>,
    /// Kept: without it the terminal would hang up.
    master: OwnedFd,
    reader: Option<JoinHandle<()>>,
}

// === impl Terminal ===

impl Terminal {
    /// Runs the command at a terminal of this size.
    ///
    /// # Panics
    /// If the machine gives no terminal.
    #[must_use]
    pub fn run(mut command: Command, columns: u16, rows: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("there is a terminal to be had");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a terminal has a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let name = name.to_str().expect("which is ASCII").to_owned();
        let side = File::options().read(true).write(true).open(name).expect("the other side opens");
        let stdio = || Stdio::from(side.try_clone().expect("a file can be shared"));
        command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm-256color");
        let child = command.spawn().expect("the command runs");
        drop((command, side));
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut reader = File::from(master.try_clone().expect("a file can be shared"));
        let sink = Arc::clone(&written);
        // Ends when the program has closed its side.
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
            }
        });
        Self { child, written, master, reader: Some(reader) }
    }

    /// Everything that it has written so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// What stands on the screen of a program that draws whole frames from the top left corner; empty before the first one.
    #[must_use]
    pub fn frame(&self) -> String {
        without_codes(&self.coloured_frame()).replace('\r', "")
    }

    /// The same with its control sequences.
    #[must_use]
    pub fn coloured_frame(&self) -> String {
        let text = self.text();
        let whole = text.split("\x1b[H").skip(1).filter(|frame| frame.contains("\x1b[J")).last();
        whole.unwrap_or_default().to_owned()
    }

    /// Waits until the screen shows a text.
    pub async fn wait_for(&self, piece: &str) -> String {
        eventually(&format!("the screen shows {piece:?}"), async || {
            Some(self.frame()).filter(|frame| frame.contains(piece))
        })
        .await
    }

    /// Makes the terminal another size.
    ///
    /// # Panics
    /// If it cannot.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a terminal has a size");
        // It is not the program's controlling terminal, which would tell it.
        self.signal(Signal::WINCH);
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the program is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, signal).expect("the process can be signalled");
    }

    /// Waits until it ends, and has written all that it will; returns that.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = eventually("the program ends", async || self.child.try_wait().ok().flatten()).await;
        // What was written before the end is read first; then the terminal has no other side any more.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not panic");
        }
        (status, self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Over already, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text without ECMA-48's control sequences.
#[must_use]
pub fn without_codes(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain += before;
        let end = after.find(|c: char| ('@'..='~').contains(&c)).map_or(after.len(), |at| at + 1);
        rest = after.get(end..).unwrap_or_default();
    }
    plain + rest
}
