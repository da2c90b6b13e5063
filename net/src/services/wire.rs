//! What goes over a stream of a service, `/fednode/service/1.0.0`.
//!
//! ```text
//! hello   = n:u8  name:n             whoever opens the stream asks for a service
//! answer  = status:u8                the other side; then, if it is 0, in both directions:
//! chunk   = length:u16  data         (big endian; at least 1)
//! end     = 00 00                    no more data in this direction
//! ```
//! The end is said and not left to the stream: on yamux a reset looks to the reader like a close, on QUIC a stream that is
//! dropped is closed, and so is every stream of a connection that broke. Half of an answer must never look like a whole one:
//! whatever ends before both ends were said is a reset.
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;
use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;

/// The protocol's name.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/fednode/service/1.0.0");

/// The longest name of a service, in bytes.
pub const MAX_NAME: usize = 128;
/// The most data of one chunk, in bytes: what the length can say.
pub const MAX_CHUNK: usize = 65_535;
/// The length of a chunk, and the whole of an end.
pub(crate) const HEAD: usize = 2;

/// What the exposing node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The service is reached; data may flow.
    Accepted,
    /// No service of this name.
    Unknown,
    /// Not for this peer.
    NotAllowed,
    /// The service's target does not answer.
    Unreachable,
    /// No more streams at the moment.
    TooMany,
    /// The node stops.
    Stopping,
}

/// What a peer may not write.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A name that no service can have.
    #[error("the name of a service is not 1 to 128 letters, digits and any of - _ . /")]
    Name,
    /// An answer that does not exist.
    #[error("unknown status {0}")]
    Status(u8),
    /// Data after the end of data.
    #[error("data after the end of data")]
    AfterEnd,
    /// The stream ended or broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
}

/// Tells data from what stands between it, however the bytes are cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunks {
    /// What is still to come of the chunk.
    left: usize,
    /// The first half of a length.
    half: Option<u8>,
    ended: bool,
}

/// A part of what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Data, at least one byte.
    Data(&'a [u8]),
    /// No more data will come.
    End,
}

// === impl Status ===

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Unknown, Self::NotAllowed, Self::Unreachable, Self::TooMany, Self::Stopping];

    /// As it goes over the wire.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self as u8
    }

    /// What the byte says.
    ///
    /// # Errors
    /// If it says nothing.
    pub fn from_byte(byte: u8) -> Result<Self, ServiceError> {
        Self::ALL.get(usize::from(byte)).copied().ok_or(ServiceError::Status(byte))
    }
}

/// As the side that asked tells.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Unknown => "the member does not expose a service of this name",
            Self::NotAllowed => "the member does not allow this node to use the service",
            Self::Unreachable => "the service's target does not answer at the member",
            Self::TooMany => "the member takes no more streams of this service now",
            Self::Stopping => "the member's node stops",
        })
    }
}

// === impl Chunks ===

impl Chunks {
    /// The next part of `bytes`, which is taken from their front; `None` when they are used up.
    ///
    /// # Errors
    /// If anything comes after the end.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, ServiceError> {
        loop {
            let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
            if self.ended {
                return Err(ServiceError::AfterEnd);
            }
            if self.left > 0 {
                let (data, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left = self.left.saturating_sub(data.len());
                *bytes = rest;
                return Ok(Some(Piece::Data(data)));
            }
            *bytes = rest;
            let Some(high) = self.half.take() else {
                self.half = Some(first);
                continue;
            };
            self.left = usize::from(u16::from_be_bytes([high, first]));
            if self.left == 0 {
                self.ended = true;
                return Ok(Some(Piece::End));
            }
        }
    }
}

/// What stands before a chunk of so many bytes; before none, the end.
#[must_use]
pub fn head(length: usize) -> [u8; HEAD] {
    // Callers read at most MAX_CHUNK bytes at a time.
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// Whether this can be the name of a service, as the configuration judges it.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(byte))
}

/// The bytes of a hello; of a name that is longer than allowed its beginning, which nobody exposes.
#[must_use]
pub fn hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let name = name.get(..name.len().min(MAX_NAME)).unwrap_or_default();
    [&[u8::try_from(name.len()).unwrap_or(u8::MAX)], name].concat()
}

/// Reads which service is asked for.
///
/// # Errors
/// If that is no name, or the stream ends or breaks.
pub async fn read_hello<R: AsyncRead + Unpin>(from: &mut R) -> Result<String, ServiceError> {
    let mut length = [0; 1];
    from.read_exact(&mut length).await?;
    let mut name = vec![0; usize::from(length[0])];
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(ServiceError::Name);
    }
    from.read_exact(&mut name).await?;
    if !is_name(&name) {
        return Err(ServiceError::Name);
    }
    String::from_utf8(name).map_err(|_| ServiceError::Name)
}

/// Reads the answer.
///
/// # Errors
/// If it is none, or the stream ends or breaks.
pub async fn read_status<R: AsyncRead + Unpin>(from: &mut R) -> Result<Status, ServiceError> {
    let mut status = [0; 1];
    from.read_exact(&mut status).await?;
    Status::from_byte(status[0])
}

/// Writes some bytes and sends them off.
pub(crate) async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn name_of(bytes: &[u8]) -> Option<Result<String, ServiceError>> {
        let mut rest = bytes;
        read_hello(&mut rest).now_or_never()
    }

    #[test]
    fn a_status_is_the_same_on_both_ends() {
        for byte in 0..=u8::MAX {
            match Status::from_byte(byte) {
                Ok(status) => assert_eq!(status.to_byte(), byte),
                Err(error) => assert!(matches!(error, ServiceError::Status(bad) if bad == byte)),
            }
        }
        assert_eq!(Status::ALL.map(Status::to_byte), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn names_that_no_service_has_are_refused() {
        let longest = "x".repeat(MAX_NAME);
        for good in ["a", "bitcoin-rpc", "a_b.c/d", &longest] {
            assert_eq!(name_of(&hello(good)).unwrap().unwrap(), good);
        }
        for bad in [&[0][..], &[1, b' '], &[1, 0xff], &[129], &[255, b'x'], &[2, b'a', b'\n']] {
            assert!(matches!(name_of(bad), Some(Err(ServiceError::Name))), "{bad:?}");
        }
        assert!(matches!(name_of(&[2, b'a']), Some(Err(ServiceError::Io(_)))), "cut off");
    }

    proptest! {
        #[test]
        fn data_comes_out_as_it_went_in_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            cut in 1usize..50,
        ) {
            let mut wire: Vec<u8> = chunks.iter().flat_map(|c| [&head(c.len())[..], c].concat()).collect();
            wire.extend(head(0));
            let (mut reader, mut out, mut ended) = (Chunks::default(), Vec::new(), false);
            for mut part in wire.chunks(cut) {
                while let Some(piece) = reader.next(&mut part).unwrap() {
                    match piece {
                        Piece::Data(data) => out.extend_from_slice(data),
                        Piece::End => ended = true,
                    }
                }
            }
            prop_assert!(ended);
            prop_assert_eq!(out, chunks.concat());
            prop_assert!(matches!(reader.next(&mut &[0][..]), Err(ServiceError::AfterEnd)));
        }
    }
}
