//! The node's own key pair (contract: `node.private_key`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libp2p::PeerId;
use libp2p::identity::{self, ed25519};
use storage::PeerKey;

/// An Ed25519 key pair. Prints without its secret half.
#[derive(Clone)]
pub struct Identity {
    pair: ed25519::Keypair,
}

/// Why a text is not a private key. Never contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not base64.
    #[error("is not base64")]
    Encoding,
    /// Base64 of something else.
    #[error("decodes to {0} bytes; an Ed25519 key pair has 64 (seed, then public key)")]
    Length(usize),
}

/// A key that was read, and whether its public half is the one that its seed gives.
#[derive(Clone, Debug)]
pub struct ReadIdentity {
    /// The key pair, derived from the seed.
    pub identity: Identity,
    /// The public half written in the text is another one (a warning: upstream's own test keys have such halves).
    pub mismatch: bool,
}

// === impl Identity ===

impl Identity {
    /// A new random key pair.
    #[must_use]
    pub fn generate() -> Self {
        Self { pair: ed25519::Keypair::generate() }
    }

    /// Reads the base64 of the 64-byte pair. The public half is derived from the seed.
    ///
    /// # Errors
    /// If the text is not base64 of 64 bytes.
    pub fn read(text: &str) -> Result<ReadIdentity, IdentityError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| IdentityError::Encoding)?;
        let (seed, half) = match (bytes.get(..32), bytes.get(32..)) {
            (Some(seed), Some(half)) if half.len() == 32 => (seed, half),
            _ => return Err(IdentityError::Length(bytes.len())),
        };
        let secret = ed25519::SecretKey::try_from_bytes(seed.to_vec())
            .map_err(|_| IdentityError::Length(seed.len()))?;
        let pair = ed25519::Keypair::from(secret);
        let mismatch = pair.public().to_bytes() != half;
        Ok(ReadIdentity { identity: Self { pair }, mismatch })
    }

    /// The text for `node.private_key`: base64 of seed and public key. A secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        STANDARD.encode(self.pair.to_bytes())
    }

    /// The public half, as members write it into `peers.yaml`.
    ///
    /// # Panics
    /// Never: the public half of a key pair is a point of the curve.
    #[must_use]
    pub fn public_key(&self) -> PeerKey {
        PeerKey::from_bytes(self.pair.public().to_bytes()).expect("the public half of a pair is on the curve")
    }

    /// The libp2p peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.public_key().peer_id()
    }

    /// The key pair as libp2p wants it.
    #[must_use]
    pub fn keypair(&self) -> identity::Keypair {
        self.pair.clone().into()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.pair.to_bytes() == other.pair.to_bytes()
    }
}

impl Eq for Identity {}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back() {
        let identity = Identity::generate();
        let read = Identity::read(&identity.to_text()).unwrap();
        assert_eq!(read.identity, identity);
        assert!(!read.mismatch);
        assert!(!format!("{identity:?}").contains(&identity.to_text()));
    }

    #[test]
    fn a_foreign_public_half_is_noticed_and_the_seed_counts() {
        let identity = Identity::generate();
        let mut bytes = STANDARD.decode(identity.to_text()).unwrap();
        bytes[40] ^= 1;
        let read = Identity::read(&STANDARD.encode(bytes)).unwrap();
        assert!(read.mismatch);
        assert_eq!(read.identity, identity);
    }

    #[test]
    fn wrong_texts_say_what_is_wrong_without_the_text() {
        assert_eq!(Identity::read("not base64!").unwrap_err(), IdentityError::Encoding);
        assert_eq!(Identity::read(&STANDARD.encode([7; 32])).unwrap_err(), IdentityError::Length(32));
    }
}
