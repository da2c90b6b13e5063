//! The diff of two texts, applied to the old one, gives the new one. A zero byte ends the old one.
#![no_main]

#[path = "../../node/src/diff/tests/apply.rs"]
mod apply;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let text = text.replace('\r', "");
    let (old, new) = text.split_once('\0').unwrap_or((&text, ""));
    let diff = fednode::diff::unified(old, "old", new, "new");
    assert_eq!(apply::apply(old, &diff).as_deref(), Ok(new), "{diff}");
});
