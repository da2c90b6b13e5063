//! The messages of peer exchange, `/vtcp/btc-foundation/v1.0.0`.
//!
//! ```text
//! message      = kind:u8  length:u32  body              (big endian; length counts the body)
//! request      = 1  number:u32  reach:u8  session:u64  after:u64  depth:u8  digest:16 × 2^depth
//! response     = 2  number:u32  session:u64  version:u64  more:u8  count:u16  record × count
//! announcement = 3  count:u8  record × count             (of the sender itself)
//! update       = 4  digest:16
//! record       = length:u16  envelope
//! ```
//! Whoever opens the stream asks, announces and tells of updates on it; the other side sends only responses. A length is judged before
//! anything is allocated for it, and memory grows with what has really arrived.
#![deny(clippy::arithmetic_side_effects)]

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::reach::Reach;
use super::record::{MAX_RECORD, RecordError};

/// The largest message with its header, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Records in one response.
pub const MAX_RECORDS: usize = 512;
/// Records in one announcement: one for each reach.
pub const MAX_OWN: usize = 3;

pub(super) const HEADER: usize = 5;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const ANNOUNCEMENT: u8 = 3;
const UPDATE: u8 = 4;
const REQUEST_HEAD: usize = 22;
pub(super) const RESPONSE_HEAD: usize = 23;
const DIGEST: usize = 16;
/// What a record takes besides its bytes.
pub(super) const RECORD_HEAD: usize = 2;

/// A hash over what is known, or over a part of it.
pub(crate) type Digest = [u8; DIGEST];

/// How many digests there are in a request, as a power of two: one over all, or one for each part of the keys.
pub const DEPTHS: [u8; 3] = [0, 4, 8];

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request(Request),
    Response(Response),
    /// The sender's own records.
    Announcement(Vec<Arc<[u8]>>),
    /// What the sender knows now; whoever knows something else may ask.
    Update(Digest),
}

/// What is new since then, as far as it is not the same already?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Comes back in the response.
    pub(crate) number: u32,
    /// How narrow the asker's connection is.
    pub(crate) reach: Reach,
    /// The session in which `after` was learned; 0 for none.
    pub(crate) session: u64,
    /// The version of the last response.
    pub(crate) after: u64,
    /// What the asker knows: 1, 16 or 256 digests.
    pub(crate) digests: Vec<Digest>,
}

/// The answer, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Of the request.
    pub(crate) number: u32,
    /// Names the process that counts versions.
    pub(crate) session: u64,
    /// To be asked for after.
    pub(crate) version: u64,
    /// There is more behind it.
    pub(crate) more: bool,
    /// Signed records, not judged yet.
    pub(crate) records: Vec<Arc<[u8]>>,
}

/// Why a stream of peer exchange is closed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The first byte names no kind of message.
    #[error("unknown kind of message {0}")]
    Kind(u8),
    /// A length that this kind of message cannot have.
    #[error("a message of kind {kind} has {length} bytes")]
    Length {
        /// The kind.
        kind: u8,
        /// The length that the message announced.
        length: usize,
    },
    /// The body does not say what its kind says.
    #[error("a message of kind {0} is not well-formed")]
    Malformed(u8),
    /// Another message was due, or an answer to another question.
    #[error("a message came that was not due")]
    OutOfTurn,
    /// A record that is not what it should be.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// More than a peer may ask and announce.
    #[error("the peer asks and announces too often")]
    TooOften,
    /// A response that leads nowhere.
    #[error("there is more behind a response that brought nothing new")]
    Circle,
    /// No answer in time.
    #[error("no answer in time")]
    Silence,
    /// The stream ended or broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
}

/// The front of a body that is still to be read.
struct Body<'a> {
    kind: u8,
    rest: &'a [u8],
}

// === impl ExchangeError ===

impl ExchangeError {
    /// Whether the peer broke a rule, and not only the stream.
    pub(crate) const fn is_violation(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Silence)
    }
}

// === impl Body ===

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ExchangeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ExchangeError::Malformed(self.kind))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ExchangeError> {
        self.take(N)?.try_into().map_err(|_| ExchangeError::Malformed(self.kind))
    }

    fn byte(&mut self) -> Result<u8, ExchangeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn u64(&mut self) -> Result<u64, ExchangeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn records(&mut self, count: usize) -> Result<Vec<Arc<[u8]>>, ExchangeError> {
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(u16::from_be_bytes(self.array()?));
            if length == 0 || length > MAX_RECORD {
                return Err(ExchangeError::Malformed(self.kind));
            }
            records.push(self.take(length)?.into());
        }
        Ok(records)
    }

    fn message(mut self) -> Result<Message, ExchangeError> {
        let malformed = ExchangeError::Malformed(self.kind);
        let message = match self.kind {
            REQUEST => {
                let number = u32::from_be_bytes(self.array()?);
                let reach = Reach::from_byte(self.byte()?).ok_or(malformed)?;
                let (session, after) = (self.u64()?, self.u64()?);
                let depth = self.byte()?;
                if !DEPTHS.contains(&depth) {
                    return Err(ExchangeError::Malformed(self.kind));
                }
                let mut digests = Vec::with_capacity(1 << depth);
                for _ in 0..1_usize << depth {
                    digests.push(self.array()?);
                }
                Message::Request(Request { number, reach, session, after, digests })
            }
            RESPONSE => {
                let number = u32::from_be_bytes(self.array()?);
                let (session, version) = (self.u64()?, self.u64()?);
                let more = match self.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err(malformed),
                };
                let count = usize::from(u16::from_be_bytes(self.array()?));
                if count > MAX_RECORDS {
                    return Err(malformed);
                }
                Message::Response(Response { number, session, version, more, records: self.records(count)? })
            }
            ANNOUNCEMENT => {
                let count = usize::from(self.byte()?);
                if count == 0 || count > MAX_OWN {
                    return Err(malformed);
                }
                Message::Announcement(self.records(count)?)
            }
            _ => Message::Update(self.array()?),
        };
        if self.rest.is_empty() { Ok(message) } else { Err(ExchangeError::Malformed(self.kind)) }
    }
}

// === impl Message ===

impl Message {
    /// The kinds by name, for figures; [`Message::kind`] is an index into it.
    pub(crate) const KINDS: [&'static str; 4] = ["request", "response", "announcement", "update"];

    /// Which of [`Message::KINDS`].
    pub(crate) const fn kind(&self) -> usize {
        match self {
            Self::Request(_) => 0,
            Self::Response(_) => 1,
            Self::Announcement(_) => 2,
            Self::Update(_) => 3,
        }
    }

    /// The message's bytes, its header before them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = vec![0; HEADER];
        let kind = match self {
            Self::Request(request) => {
                to.extend(request.number.to_be_bytes());
                to.push(request.reach.to_byte());
                to.extend(request.session.to_be_bytes());
                to.extend(request.after.to_be_bytes());
                to.push(u8::try_from(request.digests.len().trailing_zeros()).unwrap_or_default());
                to.extend(request.digests.iter().flatten());
                REQUEST
            }
            Self::Response(response) => {
                to.extend(response.number.to_be_bytes());
                to.extend(response.session.to_be_bytes());
                to.extend(response.version.to_be_bytes());
                to.push(u8::from(response.more));
                // Whoever makes a response keeps to the bound.
                to.extend(u16::try_from(response.records.len()).unwrap_or(u16::MAX).to_be_bytes());
                append(&mut to, &response.records);
                RESPONSE
            }
            Self::Announcement(records) => {
                to.push(u8::try_from(records.len()).unwrap_or(u8::MAX));
                append(&mut to, records);
                ANNOUNCEMENT
            }
            Self::Update(digest) => {
                to.extend(digest);
                UPDATE
            }
        };
        let length = u32::try_from(to.len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_be_bytes();
        if let Some(header) = to.first_chunk_mut() {
            *header = [kind, a, b, c, d];
        }
        to
    }

    /// Reads the next message, and tells how many bytes it had.
    ///
    /// # Errors
    /// If the bytes are no message, or the stream ends or breaks.
    pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<(Self, usize), ExchangeError> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await?;
        let [kind, a, b, c, d] = header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        judge(kind, length)?;
        let mut body = Vec::new();
        from.take(length as u64).read_to_end(&mut body).await?;
        if body.len() < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let message = Body { kind, rest: &body }.message()?;
        Ok((message, length.saturating_add(HEADER)))
    }
}

/// Whether a message of this kind may have so many bytes.
fn judge(kind: u8, length: usize) -> Result<(), ExchangeError> {
    let allowed = match kind {
        REQUEST => REQUEST_HEAD.saturating_add(DIGEST)..=REQUEST_HEAD.saturating_add(256 * DIGEST),
        RESPONSE => RESPONSE_HEAD..=MAX_MESSAGE.saturating_sub(HEADER),
        ANNOUNCEMENT => 4..=MAX_OWN.saturating_mul(MAX_RECORD.saturating_add(RECORD_HEAD)).saturating_add(1),
        UPDATE => DIGEST..=DIGEST,
        other => return Err(ExchangeError::Kind(other)),
    };
    if allowed.contains(&length) { Ok(()) } else { Err(ExchangeError::Length { kind, length }) }
}

fn append(to: &mut Vec<u8>, records: &[Arc<[u8]>]) {
    for record in records {
        // No record is longer than MAX_RECORD.
        to.extend(u16::try_from(record.len()).unwrap_or(u16::MAX).to_be_bytes());
        to.extend_from_slice(record);
    }
}

/// Writes a message and sends it off; gives its size in bytes.
pub(crate) async fn write<W: AsyncWrite + Unpin>(to: &mut W, message: &Message) -> io::Result<usize> {
    let bytes = message.encode();
    to.write_all(&bytes).await?;
    to.flush().await?;
    Ok(bytes.len())
}

/// Reads the messages in these bytes until one is none, and gives how many were. What fuzzers and tests call; what connections
/// read runs below it.
///
/// # Errors
/// What is wrong with the first bytes that are no message, or that they end in one.
pub fn decode_all(mut bytes: &[u8]) -> Result<usize, ExchangeError> {
    let mut count: usize = 0;
    while !bytes.is_empty() {
        let before = bytes;
        let read = futures::FutureExt::now_or_never(Message::read(&mut bytes));
        let (message, taken) = read.unwrap_or(Err(ExchangeError::Silence))?;
        assert_eq!(before.get(..taken), Some(&message.encode()[..]), "a message has one spelling");
        count = count.saturating_add(1);
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
