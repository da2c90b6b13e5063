//! What cannot be had cheaper: the members' text as YAML values, and a durable small file in the same file system.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::Instant;

use crate::samples::Samples;

pub(crate) struct Floor {
    pub(crate) parse: Samples,
    pub(crate) write: Samples,
}

// === impl Floor ===

impl Floor {
    pub(crate) fn measure(peers: &str, rounds: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut parse, mut write) = (Samples::default(), Samples::default());
        for round in 0..rounds {
            let began = Instant::now();
            let value: serde_yaml::Value = serde_yaml::from_str(peers).expect("YAML");
            parse.add(began.elapsed());
            drop(value);
            let (new, old) = (folder.path().join("new"), folder.path().join(format!("{}", round % 50)));
            let began = Instant::now();
            let written = File::create(&new)
                .and_then(|mut file| {
                    file.write_all(&[b'x'; 2048])?;
                    file.sync_all()
                })
                .and_then(|()| fs::rename(&new, &old))
                .and_then(|()| File::open(folder.path())?.sync_all());
            write.add(began.elapsed());
            written.expect("a durable write");
        }
        Self { parse, write }
    }
}
