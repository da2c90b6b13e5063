//! Whatever a peer sends on a stream of a service: a hello is a name or refused, an answer is one or refused, and data comes out the same
//! however the network cuts it.
#![no_main]

use futures::FutureExt;
use net::services::wire::{Chunks, Piece, hello, is_name, read_hello, read_status};

/// The data, whether it has ended, and whether it broke the rules.
fn data(parts: impl Iterator<Item = Vec<u8>>) -> (Vec<u8>, bool, bool) {
    let (mut chunks, mut out, mut ended) = (Chunks::default(), Vec::new(), false);
    for part in parts {
        let mut part = &part[..];
        loop {
            match chunks.next(&mut part) {
                Ok(Some(Piece::Data(data))) => {
                    assert!(!ended && !data.is_empty());
                    out.extend_from_slice(data);
                }
                Ok(Some(Piece::End)) => ended = true,
                Ok(None) => break,
                Err(_) => return (out, ended, true),
            }
        }
    }
    (out, ended, false)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    if let Ok(name) = read_hello(&mut rest).now_or_never().expect("nothing here is waited for") {
        assert!(is_name(name.as_bytes()));
        assert!(bytes.starts_with(&hello(&name)));
    }
    let _ = read_status(&mut &bytes[..]).now_or_never().expect("nothing here is waited for");
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let whole = data(std::iter::once(bytes.to_vec()));
    assert_eq!(data(bytes.chunks(usize::from(cut).max(1)).map(<[u8]>::to_vec)), whole);
    assert!(whole.0.len() <= bytes.len());
});
