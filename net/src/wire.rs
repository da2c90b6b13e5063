//! The frames of direct messages, `/fednode/direct/1.0.0`.
//!
//! ```text
//! frame    = kind:u8  length:u32  body            (big endian; length counts the body)
//! hello    = 1  session:u64                       first in both directions
//! message  = 2  sequence:u64  n:u8  content_type:n  data
//! ack      = 3  sequence:u64  status:u8
//! ```
//! Whoever opens the stream sends messages on it, the other side answers each with an ack, in order. A length is judged
//! before anything is allocated for it, and memory grows with what has really arrived.
#![deny(clippy::arithmetic_side_effects)]

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest content type, in bytes: its length is one byte on the wire.
pub const MAX_CONTENT_TYPE: usize = 255;
/// More data than this in one message is a violation whatever the configuration says; what lies between the configured
/// size and this is refused politely, with an ack.
pub const MAX_DATA: usize = 64 * 1024 * 1024;

const HEADER: usize = 5;
const HELLO: u8 = 1;
const MESSAGE: u8 = 2;
const ACK: u8 = 3;
const HELLO_BODY: usize = 8;
const MESSAGE_HEAD: usize = 9;
const ACK_BODY: usize = 9;
/// Memory for a body grows by this much, so that a length alone costs its sender more than it costs us.
const CHUNK: usize = 64 * 1024;

/// What the receiver's node did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is in the inbox or with every subscriber.
    Accepted,
    /// Nobody reads, and there is no more room to wait in.
    InboxFull,
    /// Larger than `protocol.max_message_size` over there.
    TooLarge,
    /// More than `protocol.rate_limit` over there.
    RateLimited,
    /// Not taken: it was seen before, so long ago that its fate is forgotten.
    Refused,
}

/// A message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Rises by at least one from message to message of one session.
    pub sequence: u64,
    /// Visible ASCII, at most [`MAX_CONTENT_TYPE`] bytes, not empty.
    pub content_type: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

/// Any frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Names the sender's process: sequence numbers count within it.
    Hello {
        /// Random, drawn at start.
        session: u64,
    },
    /// A message.
    Message(Message),
    /// A message that is larger than allowed; its content was skipped.
    Oversized {
        /// Which one.
        sequence: u64,
    },
    /// The answer to a message.
    Ack {
        /// Which message.
        sequence: u64,
        /// What became of it.
        status: Status,
    },
}

/// Why bytes are no frame. The stream that they came on is closed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The first byte names no kind of frame.
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    /// A length that this kind of frame cannot have.
    #[error("a frame of kind {kind} has {length} bytes")]
    Length {
        /// The kind.
        kind: u8,
        /// The length that the frame announced.
        length: usize,
    },
    /// A content type that is not visible ASCII.
    #[error("the content type is not visible ascii")]
    ContentType,
    /// A status that does not exist.
    #[error("unknown status {0}")]
    Status(u8),
    /// Another kind of frame was due.
    #[error("a frame of another kind was due")]
    OutOfTurn,
    /// The stream ended or broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
}

/// A frame's first bytes, judged.
#[derive(Clone, Copy, Debug)]
struct Header {
    kind: u8,
    length: usize,
}

// === impl Status ===

impl Status {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::InboxFull => 1,
            Self::TooLarge => 2,
            Self::RateLimited => 3,
            Self::Refused => 4,
        }
    }

    const fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            0 => Self::Accepted,
            1 => Self::InboxFull,
            2 => Self::TooLarge,
            3 => Self::RateLimited,
            4 => Self::Refused,
            other => return Err(WireError::Status(other)),
        })
    }
}

// === impl Header ===

impl Header {
    fn parse(bytes: [u8; HEADER]) -> Result<Self, WireError> {
        let [kind, a, b, c, d] = bytes;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let allowed = match kind {
            HELLO => HELLO_BODY..=HELLO_BODY,
            MESSAGE => MESSAGE_HEAD..=MESSAGE_HEAD.saturating_add(MAX_CONTENT_TYPE).saturating_add(MAX_DATA),
            ACK => ACK_BODY..=ACK_BODY,
            other => return Err(WireError::Kind(other)),
        };
        if allowed.contains(&length) {
            Ok(Self { kind, length })
        } else {
            Err(WireError::Length { kind, length })
        }
    }

    fn bytes(kind: u8, length: usize) -> [u8; HEADER] {
        // Callers have checked the length against MAX_DATA; a larger one is refused by every receiver.
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [kind, a, b, c, d]
    }
}

// === impl Frame ===

impl Frame {
    /// The frame's bytes, a message's data copied into them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { session } => {
                [&Header::bytes(HELLO, HELLO_BODY)[..], &session.to_be_bytes()].concat()
            }
            Self::Message(message) => [
                &message_head(message.sequence, message.content_type.as_deref(), message.data.len())[..],
                &message.data,
            ]
            .concat(),
            Self::Oversized { sequence } => message_head(*sequence, None, 0),
            Self::Ack { sequence, status } => {
                [&Header::bytes(ACK, ACK_BODY)[..], &sequence.to_be_bytes(), &[status.to_byte()]].concat()
            }
        }
    }

    /// Reads the next frame. `max_data` is asked when a message begins; data beyond it is skipped, not kept:
    /// [`Frame::Oversized`].
    ///
    /// # Errors
    /// If the bytes are no frame, or the stream ends or breaks.
    pub async fn read<R: AsyncRead + Unpin>(
        from: &mut R,
        max_data: impl FnOnce() -> usize,
    ) -> Result<Self, WireError> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await?;
        let Header { kind, length } = Header::parse(header)?;
        match kind {
            HELLO => Ok(Self::Hello { session: read_u64(from).await? }),
            ACK => {
                let sequence = read_u64(from).await?;
                let mut status = [0; 1];
                from.read_exact(&mut status).await?;
                Ok(Self::Ack { sequence, status: Status::from_byte(status[0])? })
            }
            _ => read_message(from, length, max_data()).await,
        }
    }

    /// Decodes one frame from the front of `bytes`; gives it and the number of bytes that it took, or `None` if more
    /// bytes are needed. What fuzzers and tests call; [`Frame::read`] runs below it.
    ///
    /// # Errors
    /// If the bytes are no frame.
    pub fn decode(bytes: &[u8], max_data: usize) -> Result<Option<(Self, usize)>, WireError> {
        let mut rest = bytes;
        let read = futures::FutureExt::now_or_never(Self::read(&mut rest, || max_data));
        match read {
            Some(Ok(frame)) => Ok(Some((frame, bytes.len().saturating_sub(rest.len())))),
            Some(Err(WireError::Io(_))) | None => Ok(None),
            Some(Err(error)) => Err(error),
        }
    }
}

/// The bytes of a message frame that stand before its data.
pub(crate) fn message_head(sequence: u64, content_type: Option<&str>, data: usize) -> Vec<u8> {
    let kind = content_type.unwrap_or_default().as_bytes();
    let kind = kind.get(..kind.len().min(MAX_CONTENT_TYPE)).unwrap_or_default();
    let length = MESSAGE_HEAD.saturating_add(kind.len()).saturating_add(data);
    let count = u8::try_from(kind.len()).unwrap_or(u8::MAX);
    [&Header::bytes(MESSAGE, length)[..], &sequence.to_be_bytes(), &[count], kind].concat()
}

/// Whether a text can be a content type: 1 to [`MAX_CONTENT_TYPE`] bytes of visible ASCII and spaces.
#[must_use]
pub fn is_content_type(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_CONTENT_TYPE
        && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// Writes a frame and sends it off.
pub(crate) async fn write<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.encode()).await?;
    to.flush().await
}

async fn read_u64<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).await?;
    Ok(u64::from_be_bytes(bytes))
}

async fn read_message<R: AsyncRead + Unpin>(
    from: &mut R,
    length: usize,
    max_data: usize,
) -> Result<Frame, WireError> {
    let wrong = WireError::Length { kind: MESSAGE, length };
    let sequence = read_u64(from).await?;
    let mut count = [0; 1];
    from.read_exact(&mut count).await?;
    let count = usize::from(count[0]);
    let Some(size) = length.checked_sub(MESSAGE_HEAD).and_then(|rest| rest.checked_sub(count)) else {
        return Err(wrong);
    };
    if size > MAX_DATA {
        return Err(wrong);
    }
    let mut kind = vec![0; count];
    from.read_exact(&mut kind).await?;
    let content_type = match count {
        0 => None,
        _ => match String::from_utf8(kind) {
            Ok(text) if is_content_type(&text) => Some(text),
            _ => return Err(WireError::ContentType),
        },
    };
    if size > max_data {
        let skipped = futures::io::copy(from.take(size as u64), &mut futures::io::sink()).await?;
        return if skipped == size as u64 {
            Ok(Frame::Oversized { sequence })
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
        };
    }
    let mut data = Vec::new();
    while data.len() < size {
        let have = data.len();
        let more = size.saturating_sub(have).min(CHUNK);
        data.resize(have.saturating_add(more), 0);
        from.read_exact(data.get_mut(have..).unwrap_or_default()).await?;
    }
    Ok(Frame::Message(Message { sequence, content_type, data }))
}

#[cfg(test)]
mod tests;
