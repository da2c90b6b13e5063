//! What a topic's message looks like inside gossipsub's `data`.
//!
//! ```text
//! envelope = version:u8(1)  number:u64  n:u8  content_type:n  data        (big endian)
//! ```
//! Gossipsub's own frame names the topic and the author and is signed by the author, this included.
#![deny(clippy::arithmetic_side_effects)]

use crate::wire::{MAX_CONTENT_TYPE, MAX_DATA, is_content_type};

const VERSION: u8 = 1;
const HEAD: usize = 10;
/// The largest envelope, in bytes.
pub(super) const MAX_ENVELOPE: usize = HEAD + MAX_CONTENT_TYPE + MAX_DATA;

/// A message as its author sealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Rises by at least one from message to message of one author, whatever the topic, also over its restarts: whoever forwards an
    /// old message again is found out by it.
    pub number: u64,
    /// Visible ASCII, at most [`MAX_CONTENT_TYPE`] bytes, not empty.
    pub content_type: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

/// Why bytes are no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Of a version that this node does not know. No violation: the author may be newer.
    #[error("unknown version {0}")]
    Version(u8),
    /// Ends before its head does.
    #[error("it is cut off")]
    Short,
    /// A content type that is not visible ASCII.
    #[error("the content type is not visible ascii")]
    ContentType,
}

// === impl Envelope ===

impl Envelope {
    /// The envelope's bytes. A content type that is none is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Self::seal(self.number, self.content_type.as_deref(), &self.data)
    }

    pub(super) fn seal(number: u64, content_type: Option<&str>, data: &[u8]) -> Vec<u8> {
        let kind = content_type.filter(|text| is_content_type(text)).unwrap_or_default();
        let count = u8::try_from(kind.len()).unwrap_or(u8::MAX);
        [&[VERSION][..], &number.to_be_bytes(), &[count], kind.as_bytes(), data].concat()
    }

    /// The number alone, if these bytes may be an envelope.
    pub(super) fn number_of(bytes: &[u8]) -> Option<u64> {
        let number = bytes.strip_prefix(&[VERSION])?.first_chunk()?;
        Some(u64::from_be_bytes(*number))
    }

    /// Reads an envelope; the data is moved to the front of the bytes that it came in.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn decode(mut bytes: Vec<u8>) -> Result<Self, EnvelopeError> {
        let (&version, rest) = bytes.split_first().ok_or(EnvelopeError::Short)?;
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let (number, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Short)?;
        let number = u64::from_be_bytes(*number);
        let (&count, rest) = rest.split_first().ok_or(EnvelopeError::Short)?;
        let kind = rest.get(..usize::from(count)).ok_or(EnvelopeError::Short)?;
        let content_type = match std::str::from_utf8(kind) {
            Ok("") => None,
            Ok(text) if is_content_type(text) => Some(text.to_owned()),
            _ => return Err(EnvelopeError::ContentType),
        };
        bytes.drain(..HEAD.saturating_add(usize::from(count)));
        Ok(Self { number, content_type, data: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(content_type: Option<&str>, data: &[u8]) -> Envelope {
        Envelope { number: 0x0102, content_type: content_type.map(str::to_owned), data: data.to_vec() }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = envelope(Some("a/b"), b"xyz").encode();
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\x01\x02\x03a/bxyz");
        assert_eq!(envelope(None, b"").encode(), b"\x01\0\0\0\0\0\0\x01\x02\0");
    }

    #[test]
    fn what_is_sealed_is_what_is_opened() {
        let longest = "x".repeat(MAX_CONTENT_TYPE);
        for content_type in [None, Some("text/plain; charset=utf-8"), Some(longest.as_str())] {
            for data in [&b""[..], b"x", &[0xff; 1000]] {
                let sealed = envelope(content_type, data);
                assert_eq!(Envelope::number_of(&sealed.encode()), Some(sealed.number));
                assert_eq!(Envelope::decode(sealed.encode()), Ok(sealed));
            }
        }
    }

    #[test]
    fn what_is_none_is_told_from_what_is_newer() {
        let whole = envelope(Some("a/b"), b"").encode();
        for length in 0..whole.len() {
            assert_eq!(Envelope::decode(whole[..length].to_vec()), Err(EnvelopeError::Short), "{length}");
        }
        assert_eq!(Envelope::decode(vec![2]), Err(EnvelopeError::Version(2)));
        let mut odd = whole;
        odd[10] = b'\n';
        assert_eq!(Envelope::decode(odd), Err(EnvelopeError::ContentType));
    }
}
