//! Whatever a peer sends on a direct-message stream, it is a frame, a part of one, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = net::wire::Frame::decode(data, 1 << 20);
});
