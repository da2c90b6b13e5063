//! A member's public key: how peers are named everywhere outside libp2p.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use libp2p::PeerId;
use libp2p::core::multihash::Multihash;
use libp2p::identity::{self, ed25519};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The 32 bytes of an Ed25519 public key. Prints as base64, as in `peers.yaml`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey([u8; 32]);

/// Why a text is not a peer's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerKeyError {
    /// Neither base64 nor a peer id.
    #[error("is neither base64 nor a peer id")]
    Encoding,
    /// Decodes, to the wrong number of bytes.
    #[error("decodes to {0} bytes; an Ed25519 public key has 32")]
    Length(usize),
    /// 32 bytes that are no point of the curve.
    #[error("is not a point of the Ed25519 curve")]
    Curve,
    /// One of the few points that belong to no private key: anybody can sign for it (RFC 8032, 8.1 and 5.1.7; "small order").
    #[error("is a point of small order, for which anybody can sign: nobody's key")]
    Weak,
    /// A peer id of another key type, or one that only holds a hash.
    #[error("is a peer id without an Ed25519 key in it")]
    PeerId,
}

/// The points of order 1, 2, 4 and 8 without their sign, in every spelling that is taken for them.
const WEAK: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(1, 0, 0),
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
];

const fn with_ends(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

// === impl PeerKey ===

impl PeerKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// If they are no point of the curve, or one that is nobody's.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, PeerKeyError> {
        ed25519::PublicKey::try_from_bytes(&bytes).map_err(|_| PeerKeyError::Curve)?;
        Self::unless_weak(bytes)
    }

    fn unless_weak(bytes: [u8; 32]) -> Result<Self, PeerKeyError> {
        let mut unsigned = bytes;
        unsigned[31] &= 0x7f;
        if WEAK.contains(&unsigned) { Err(PeerKeyError::Weak) } else { Ok(Self(bytes)) }
    }

    /// The key of these bytes among keys that were judged before: without a second look at the curve.
    #[must_use]
    pub fn recognise<V>(bytes: [u8; 32], known: &BTreeMap<Self, V>) -> Option<Self> {
        known.get_key_value(&Self(bytes)).map(|(key, _)| *key)
    }

    /// The key of a text that this node has printed: without a second look at the curve.
    pub(crate) fn judged_before(text: &str) -> Option<Self> {
        // Base64 is decoded in steps of three bytes.
        let mut bytes = [0; 33];
        let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
        Self::unless_weak(bytes.get(..length)?.try_into().ok()?).ok()
    }

    /// The key inside a peer id (libp2p spec: peer ids of Ed25519 keys are the key, not its hash).
    ///
    /// # Errors
    /// If the peer id holds no Ed25519 key, or one that is nobody's.
    pub fn from_peer_id(peer: &PeerId) -> Result<Self, PeerKeyError> {
        let hash = peer.as_ref();
        if hash.code() != 0 {
            return Err(PeerKeyError::PeerId);
        }
        let key =
            identity::PublicKey::try_decode_protobuf(hash.digest()).map_err(|_| PeerKeyError::PeerId)?;
        Self::unless_weak(key.try_into_ed25519().map_err(|_| PeerKeyError::PeerId)?.to_bytes())
    }

    /// The peer id of this key: the identity multihash of the key's protobuf (libp2p spec, peer ids).
    ///
    /// # Panics
    /// Never: 36 bytes fit into a multihash, and an identity multihash of this size is a peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        // Through libp2p's own types it would unpack the curve point, which for 512 members takes longer than their file.
        let mut encoded = [0; 36];
        encoded[..4].copy_from_slice(&[0x08, 0x01, 0x12, 0x20]);
        encoded[4..].copy_from_slice(&self.0);
        let hash = Multihash::wrap(0, &encoded).expect("36 bytes fit into 64");
        PeerId::from_multihash(hash).expect("an identity multihash of at most 42 bytes is a peer id")
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PeerKey {
    type Err = PeerKeyError;

    /// Base64, base64url (padding optional) or a peer id, as the contract's `{key}`.
    fn from_str(text: &str) -> Result<Self, PeerKeyError> {
        let text = text.trim();
        let unpadded = text.trim_end_matches('=');
        let bytes = STANDARD_NO_PAD.decode(unpadded).or_else(|_| URL_SAFE_NO_PAD.decode(unpadded));
        match bytes {
            Ok(bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
                Ok(bytes) => Self::from_bytes(bytes),
                // A peer id can be valid base64 by chance.
                Err(_) => PeerId::from_str(text)
                    .map_or(Err(PeerKeyError::Length(bytes.len())), |peer| Self::from_peer_id(&peer)),
            },
            Err(_) => {
                PeerId::from_str(text).map_or(Err(PeerKeyError::Encoding), |peer| Self::from_peer_id(&peer))
            }
        }
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PeerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format!("{text:?} {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PeerKey {
        PeerKey::from_bytes(ed25519::Keypair::generate().public().to_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_reads_back() {
        for _ in 0..64 {
            let key = key();
            assert_eq!(key.to_string().parse(), Ok(key));
            assert_eq!(key.to_string().trim_end_matches('=').parse(), Ok(key));
            assert_eq!(URL_SAFE_NO_PAD.encode(key.as_bytes()).parse(), Ok(key));
            assert_eq!(key.peer_id().to_string().parse(), Ok(key));
            let libp2p = ed25519::PublicKey::try_from_bytes(key.as_bytes()).unwrap();
            assert_eq!(key.peer_id(), identity::PublicKey::from(libp2p).to_peer_id());
        }
    }

    #[test]
    fn what_is_no_key_says_why() {
        assert_eq!("???".parse::<PeerKey>(), Err(PeerKeyError::Encoding));
        assert_eq!(STANDARD.encode([1; 31]).parse::<PeerKey>(), Err(PeerKeyError::Length(31)));
        assert_eq!(STANDARD.encode([2; 32]).parse::<PeerKey>(), Err(PeerKeyError::Curve));
    }

    #[test]
    fn a_key_that_anybody_can_sign_for_is_nobodys() {
        for point in WEAK {
            for sign in [0, 0x80] {
                let mut point = point;
                point[31] |= sign;
                let libp2p = ed25519::PublicKey::try_from_bytes(&point).expect("a point of the curve");
                assert_eq!(PeerKey::from_bytes(point), Err(PeerKeyError::Weak));
                assert_eq!(STANDARD.encode(point).parse::<PeerKey>(), Err(PeerKeyError::Weak));
                let peer = identity::PublicKey::from(libp2p).to_peer_id();
                assert_eq!(PeerKey::from_peer_id(&peer), Err(PeerKeyError::Weak));
            }
        }
    }
}
