//! Messages as `docs/wire.md` shows them.

use std::sync::Arc;

use super::reach::Reach;
use super::record::Record;
use super::wire::{Message, Request, Response};
use crate::Identity;

/// Each by its name on the page, all about this peer.
pub(crate) fn examples(identity: &Identity) -> [(&'static str, Vec<u8>); 5] {
    let addresses = vec!["/dns4/node1.example.com/tcp/9000".parse().unwrap()];
    let record = Record::sign(identity, 1_700_000_000_000, addresses).unwrap();
    assert_eq!(Record::open(&record.bytes).unwrap(), record);
    let (session, digest) = (0x0123_4567_89ab_cdef, [0x11; 16]);
    let request = Request { number: 1, reach: Reach::World, session, after: 6, digests: vec![digest] };
    let records = vec![Arc::clone(&record.bytes)];
    let response = Response { number: 1, session, version: 7, more: false, records: records.clone() };
    [
        ("record", record.bytes.to_vec()),
        ("request", Message::Request(request).encode()),
        ("response", Message::Response(response).encode()),
        ("announcement", Message::Announcement(records).encode()),
        ("update", Message::Update(digest).encode()),
    ]
}
