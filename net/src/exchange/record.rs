//! A signed peer record: where a peer says that it can be reached (N5). Addresses travel in no other form, so nobody can speak for
//! another peer.
//!
//! It is libp2p's (RFC 0003, in an envelope of RFC 0002, as go- and js-libp2p sign them). Only the payload is written here:
//! libp2p's own constructor counts `seq` in whole seconds, too coarse for a node that moves twice in one. Ours counts in
//! milliseconds of Unix time, so that a node that restarts goes on above where it was without keeping anything.
#![deny(clippy::arithmetic_side_effects)]

mod kept;

use std::sync::Arc;

use libp2p::core::{PeerRecord, SignedEnvelope};
use libp2p::identity::SigningError;
use libp2p::{Multiaddr, PeerId};
use storage::{PeerKey, address};

use super::reach::Reach;
use crate::Identity;

/// The longest record, in bytes: [`MAX_ADDRESSES`] numbers fill a quarter of it, so many long names do not fit, some do.
pub const MAX_RECORD: usize = 4096;
/// Addresses in one record; as many as a member may have in `peers.yaml`.
pub const MAX_ADDRESSES: usize = storage::peers_file::MAX_ADDRESSES;

/// libp2p RFC 0003: what the signature is made for.
const DOMAIN: &str = "libp2p-peer-record";
/// The multicodec of a peer record (0x0301), big endian as go- and js-libp2p write it.
const PAYLOAD_TYPE: [u8; 2] = [0x03, 0x01];

/// A record that was signed by the peer that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Whose.
    pub(crate) key: PeerKey,
    /// Milliseconds of Unix time when it was signed: a higher one takes the place of a lower one.
    pub(crate) seq: u64,
    /// Where the peer is; none says that it can be reached nowhere any more.
    pub(crate) addresses: Vec<Multiaddr>,
    /// The narrowest reach among the addresses.
    pub(crate) reach: Reach,
    /// As it was signed.
    pub(crate) bytes: Arc<[u8]>,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_RECORD`].
    #[error("the record has {0} bytes, more than {MAX_RECORD}")]
    Length(usize),
    /// No envelope of libp2p's.
    #[error("the record is no signed envelope")]
    Envelope,
    /// The signature is not of these bytes and this key, or the record is about another peer.
    #[error("the record is not signed by the peer that it is about")]
    Signature,
    /// Only Ed25519 keys have names here.
    #[error("the record's key is not ed25519")]
    Key,
    /// More than [`MAX_ADDRESSES`].
    #[error("the record has {0} addresses, more than {MAX_ADDRESSES}")]
    Addresses(usize),
    /// One that no node can dial.
    #[error("an address in the record {0}")]
    Address(#[from] address::AddressError),
    /// A record of somebody else where the sender's own was due.
    #[error("the record is about another peer than the one that sent it")]
    Foreign,
}

// === impl Record ===

impl Record {
    /// Signs one for this node.
    ///
    /// # Errors
    /// Never in practice: an Ed25519 key signs whatever it is given.
    pub(crate) fn sign(
        identity: &Identity,
        seq: u64,
        addresses: Vec<Multiaddr>,
    ) -> Result<Self, SigningError> {
        let payload = payload(&identity.peer_id(), seq, &addresses);
        let envelope =
            SignedEnvelope::new(&identity.keypair(), DOMAIN.to_owned(), PAYLOAD_TYPE.to_vec(), payload)?;
        let reach = narrowest(&addresses);
        let bytes = envelope.into_protobuf_encoding().into();
        Ok(Self { key: identity.public_key(), seq, addresses, reach, bytes })
    }

    /// Reads and judges one that came from anywhere.
    ///
    /// # Errors
    /// If it is not signed by whom it is about, or names a place that cannot be dialled.
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD {
            return Err(RecordError::Length(bytes.len()));
        }
        let envelope = SignedEnvelope::from_protobuf_encoding(bytes).map_err(|_| RecordError::Envelope)?;
        let record =
            PeerRecord::from_signed_envelope_interop(envelope).map_err(|_| RecordError::Signature)?;
        let key = PeerKey::from_peer_id(&record.peer_id()).map_err(|_| RecordError::Key)?;
        Self::judged(key, record.seq(), record.addresses().to_vec(), bytes)
    }

    /// What must hold besides the signature.
    fn judged(key: PeerKey, seq: u64, addresses: Vec<Multiaddr>, bytes: &[u8]) -> Result<Self, RecordError> {
        if addresses.len() > MAX_ADDRESSES {
            return Err(RecordError::Addresses(addresses.len()));
        }
        for one in &addresses {
            // What ends in a peer id, even its own, has two spellings: only the short one is passed on.
            if address::dialable(&one.to_string(), Some(&key))? != *one {
                return Err(address::AddressError::Form.into());
            }
        }
        let reach = narrowest(&addresses);
        Ok(Self { key, seq, addresses, reach, bytes: bytes.into() })
    }
}

fn narrowest(addresses: &[Multiaddr]) -> Reach {
    addresses.iter().map(Reach::of).max().unwrap_or(Reach::World)
}

/// RFC 0003's protobuf: `peer_id = 1`, `seq = 2`, repeated `addresses = 3 { multiaddr = 1 }`.
fn payload(peer: &PeerId, seq: u64, addresses: &[Multiaddr]) -> Vec<u8> {
    let mut payload = Vec::new();
    field(&mut payload, 1, &peer.to_bytes());
    payload.push(2 << 3);
    varint(&mut payload, seq);
    for address in addresses {
        let mut info = Vec::new();
        field(&mut info, 1, address.as_ref());
        field(&mut payload, 3, &info);
    }
    payload
}

/// A length-delimited field.
fn field(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    to.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_record_reads_back_and_is_libp2ps_own() {
        let identity = Identity::generate();
        for (texts, reach) in [
            (&[][..], Reach::World),
            (&["/ip4/8.8.8.8/tcp/9000", "/dns4/a.example/udp/9/quic-v1"], Reach::World),
            (&["/ip4/8.8.8.8/tcp/9000", "/ip4/10.0.0.1/tcp/9"], Reach::Site),
            (&["/ip6/::1/tcp/9"], Reach::Host),
        ] {
            for seq in [0, 127, 128, 1_700_000_000_000, u64::MAX] {
                let record = Record::sign(&identity, seq, addresses(texts)).unwrap();
                assert_eq!((record.reach, record.key), (reach, identity.public_key()));
                assert_eq!(Record::open(&record.bytes).unwrap(), record);
            }
        }
        let theirs =
            PeerRecord::new_interop(&identity.keypair(), addresses(&["/ip4/8.8.8.8/tcp/1"])).unwrap();
        let bytes = theirs.to_signed_envelope().into_protobuf_encoding();
        assert_eq!(Record::open(&bytes).unwrap().key, identity.public_key());
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let record =
            Record::sign(&Identity::generate(), 1_700_000_000_000, addresses(&["/ip4/8.8.8.8/tcp/9000"]))
                .unwrap();
        for at in 0..record.bytes.len() {
            let mut bytes = record.bytes.to_vec();
            bytes[at] ^= 1;
            assert!(Record::open(&bytes).is_err(), "byte {at}");
            assert!(Record::open(&record.bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn nobody_signs_for_another() {
        let (liar, victim) = (Identity::generate(), Identity::generate());
        let lie = payload(&victim.peer_id(), 1, &addresses(&["/ip4/8.8.8.8/tcp/1"]));
        let signed =
            SignedEnvelope::new(&liar.keypair(), DOMAIN.to_owned(), PAYLOAD_TYPE.to_vec(), lie).unwrap();
        let error = Record::open(&signed.into_protobuf_encoding()).unwrap_err();
        assert!(matches!(error, RecordError::Signature), "{error}");
        // Nor for another purpose.
        let own = payload(&liar.peer_id(), 1, &[]);
        let other =
            SignedEnvelope::new(&liar.keypair(), "another".to_owned(), PAYLOAD_TYPE.to_vec(), own).unwrap();
        assert!(matches!(Record::open(&other.into_protobuf_encoding()), Err(RecordError::Signature)));
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        let identity = Identity::generate();
        let own = format!("/ip4/8.8.8.8/tcp/1/p2p/{}", identity.peer_id());
        let relayed = format!("/ip4/8.8.8.8/tcp/1/p2p/{}/p2p-circuit", Identity::generate().peer_id());
        for wrong in [
            &own,
            &relayed,
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/8.8.8.8/tcp/0",
            "/ip4/8.8.8.8/tcp/1/ws",
            "/ip4/224.0.0.1/tcp/1",
        ] {
            let record = Record::sign(&identity, 1, addresses(&[wrong])).unwrap();
            assert!(matches!(Record::open(&record.bytes), Err(RecordError::Address(_))), "{wrong}");
        }
        let many: Vec<_> = (1..=17).map(|port| format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()).collect();
        let record = Record::sign(&identity, 1, many).unwrap();
        assert!(matches!(Record::open(&record.bytes), Err(RecordError::Addresses(17))));
        let long = format!("/dns4/{}.example/tcp/1", "a".repeat(240));
        let long = Record::sign(&identity, 1, addresses(&[long.as_str(); 17])).unwrap();
        assert!(matches!(Record::open(&long.bytes), Err(RecordError::Length(_))));
    }
}
