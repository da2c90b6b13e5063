//! Whatever `peers.yaml` holds, it is judged without a panic, in bounded time and memory.
#![no_main]

use storage::PeersFile;
use storage::peers_file::Context;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = PeersFile::parse("peers.yaml", data.into(), Context::default());
});
