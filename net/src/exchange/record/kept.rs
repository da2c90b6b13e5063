//! A record that this node has judged before and kept in a file of its own: read again without a second look at the signature,
//! which takes a tenth of the time.
//!
//! Only the usual encoding is read, as go-, js- and rust-libp2p write it. Whatever else is in an envelope is for
//! [`Record::open`], which judges everything.

use libp2p::Multiaddr;
use storage::PeerKey;

use super::{PAYLOAD_TYPE, Record};

/// The front of a protobuf message that is still to be read.
struct Fields<'b>(&'b [u8]);

// === impl Record ===

impl Record {
    /// Reads one that was judged before, about this peer. All rules but the signature's hold for it as for one that comes now.
    /// `None` says nothing about the bytes but that they are for [`Record::open`].
    pub(crate) fn kept(bytes: &[u8], key: &PeerKey) -> Option<Self> {
        let mut envelope = Fields(bytes);
        // RFC 0002: public_key = 1, payload_type = 2, payload = 3, signature = 5. A peer id is the hash of the public key's
        // protobuf, and for Ed25519 that hash is the protobuf itself behind two bytes.
        let peer = key.peer_id().to_bytes();
        let (public_key, payload_type) = (envelope.bytes(1)?, envelope.bytes(2)?);
        let (payload, _signature) = (envelope.bytes(3)?, envelope.bytes(5)?);
        if !envelope.0.is_empty() || peer.get(2..) != Some(public_key) || payload_type != PAYLOAD_TYPE {
            return None;
        }
        let mut payload = Fields(payload);
        if payload.bytes(1)? != peer {
            return None;
        }
        let seq = payload.number(2)?;
        let mut addresses = Vec::new();
        while !payload.0.is_empty() {
            let mut info = Fields(payload.bytes(3)?);
            addresses.push(Multiaddr::try_from(info.bytes(1)?.to_vec()).ok()?);
            if !info.0.is_empty() {
                return None;
            }
        }
        Self::judged(*key, seq, addresses, bytes).ok()
    }
}

// === impl Fields ===

impl<'b> Fields<'b> {
    /// The next field, if it is this one and length-delimited.
    fn bytes(&mut self, number: u8) -> Option<&'b [u8]> {
        self.tag(number, 2)?;
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The next field, if it is this one and a number.
    fn number(&mut self, number: u8) -> Option<u64> {
        self.tag(number, 0)?;
        self.varint()
    }

    fn tag(&mut self, number: u8, kind: u8) -> Option<()> {
        (self.byte()? == number << 3 | kind).then_some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for at in 0..9_u32 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << at.saturating_mul(7);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::PeerRecord;

    use super::*;
    use crate::Identity;

    const NOW: u64 = 1_700_000_000_000;

    fn record(identity: &Identity, seq: u64, addresses: &[&str]) -> Record {
        Record::sign(identity, seq, addresses.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn what_was_judged_is_read_as_it_was_judged() {
        let identity = Identity::generate();
        for addresses in [
            &[][..],
            &["/ip4/8.8.8.8/tcp/9000"],
            &["/ip6/::1/tcp/9", "/dns4/a.example/udp/9/quic-v1", "/ip4/10.0.0.1/tcp/9"],
        ] {
            for seq in [0, 127, 128, NOW, u64::MAX >> 1] {
                let bytes = record(&identity, seq, addresses).bytes;
                assert_eq!(Record::kept(&bytes, &identity.public_key()), Some(Record::open(&bytes).unwrap()));
            }
        }
        let theirs =
            PeerRecord::new_interop(&identity.keypair(), vec!["/ip4/8.8.8.8/tcp/1".parse().unwrap()]);
        let bytes = theirs.unwrap().to_signed_envelope().into_protobuf_encoding();
        assert_eq!(Record::kept(&bytes, &identity.public_key()), Some(Record::open(&bytes).unwrap()));
    }

    #[test]
    fn it_speaks_only_of_whom_it_is_kept_for_and_only_of_places_that_can_be_dialled() {
        let identity = Identity::generate();
        let good = record(&identity, NOW, &["/ip4/8.8.8.8/tcp/9000"]);
        assert_eq!(Record::kept(&good.bytes, &Identity::generate().public_key()), None);
        for wrong in ["/ip4/0.0.0.0/tcp/1", "/ip4/8.8.8.8/tcp/0", "/ip4/8.8.8.8/tcp/1/ws"] {
            let record = record(&identity, NOW, &[wrong]);
            assert_eq!(Record::kept(&record.bytes, &identity.public_key()), None, "{wrong}");
        }
    }

    #[test]
    fn no_bytes_panic_and_none_say_more_than_the_signed_ones() {
        let identity = Identity::generate();
        let record = record(&identity, NOW, &["/ip4/8.8.8.8/tcp/9000"]);
        for at in 0..record.bytes.len() {
            assert_eq!(Record::kept(&record.bytes[..at], &record.key), None, "cut at {at}");
            for flip in [1, 0x80, 0xff] {
                let mut bytes = record.bytes.to_vec();
                bytes[at] ^= flip;
                if let Some(read) = Record::kept(&bytes, &record.key) {
                    assert_eq!(read.key, record.key, "byte {at}");
                }
            }
        }
    }
}
