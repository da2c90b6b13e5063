//! Whatever a generation's file holds, it is read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = storage::generations::record::decode(data);
});
