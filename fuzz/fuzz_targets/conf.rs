//! Whatever `conf.yaml` holds, it is judged without a panic, in bounded time and memory.
#![no_main]

use std::path::Path;

use fednode::config::{Config, Snapshot};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = Config::from_snapshot(Path::new("conf.yaml"), Snapshot { conf: data.into(), peers: None }, None);
});
