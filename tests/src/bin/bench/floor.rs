//! What cannot be had cheaper: the members' text as YAML values, and a durable small file in the same file system. Measured
//! between the rounds of what it is compared with, so that both see the same machine.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::Instant;

use tempfile::TempDir;

use crate::samples::Samples;

pub(crate) struct Floor {
    pub(crate) parse: Samples,
    pub(crate) write: Samples,
    peers: String,
    folder: TempDir,
}

// === impl Floor ===

impl Floor {
    pub(crate) fn new(peers: String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { parse: Samples::default(), write: Samples::default(), peers, folder }
    }

    pub(crate) fn sample(&mut self) {
        let began = Instant::now();
        let value: serde_yaml::Value = serde_yaml::from_str(&self.peers).expect("YAML");
        self.parse.add_ms(began.elapsed());
        drop(value);
        let folder = self.folder.path();
        let (new, old) = (folder.join("new"), folder.join((self.write.len() % 50).to_string()));
        let began = Instant::now();
        let written = File::create(&new)
            .and_then(|mut file| {
                file.write_all(&[b'x'; 2048])?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, &old))
            .and_then(|()| File::open(folder)?.sync_all());
        self.write.add_ms(began.elapsed());
        written.expect("a durable write");
    }
}
