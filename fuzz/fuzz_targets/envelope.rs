//! Whatever a peer publishes, it is an envelope that is written as it was read, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(envelope) = net::topics::Envelope::decode(data.to_vec()) {
        assert_eq!(envelope.encode(), data);
    }
});
