//! What is said on one stream: one end asks, announces and tells, the other answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite};
use storage::PeerKey;
use tokio::sync::Notify;

use super::book::Fate;
use super::known::{Known, Teller};
use super::reach::Reach;
use super::schedule::{Due, Schedule};
use super::wire::{self, Digest, ExchangeError, Message, Response};
use crate::post::Post;

/// So long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Responses to one question, of a member and of a stranger; what is still to come then comes with the next. A full one has some
/// 330 signatures to be checked, a tenth of a millisecond each.
const RESPONSES: usize = 32;
const RESPONSES_OF_A_STRANGER: usize = 4;
/// Signatures that are checked before others have a turn on this thread.
const AT_A_TIME: usize = 8;
/// What the smallest message costs its sender, and a peer that was looked at for it, in bytes of work.
const LEAST: usize = 1024;
const LOOK: usize = 16;
/// What a record costs that has to be checked.
const CHECK: usize = 4096;

/// One connection, for both of its streams.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) own: PeerKey,
    pub(super) peer: PeerKey,
    pub(super) reach: Reach,
    pub(super) known: Known,
    pub(super) post: Post,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The peer has told of a change.
    told: Notify,
    /// What the peer knew when it last said so.
    theirs: Mutex<Option<Digest>>,
}

// === impl Link ===

impl Link {
    pub(super) fn new(own: PeerKey, peer: PeerKey, reach: Reach, known: Known, post: Post) -> Self {
        Self { own, peer, reach, known, post, shared: Arc::default() }
    }

    fn knows(&self, digest: Digest) {
        *self.shared.theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
    }

    fn theirs(&self) -> Option<Digest> {
        *self.shared.theirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn say<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        message: Message,
    ) -> Result<(), ExchangeError> {
        let bytes = wire::write(stream, &message).await?;
        self.known.figures().sent(&message, bytes);
        Ok(())
    }

    async fn hear<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<Message, ExchangeError> {
        let (message, bytes) = Message::read(stream).await?;
        self.known.figures().received(&message, bytes);
        Ok(message)
    }
}

/// Asks, announces and tells, until the stream ends. `fruitful` becomes true with the first question that was answered.
pub(super) async fn speak<S>(mut stream: S, link: Link, fruitful: &mut bool) -> ExchangeError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match conversation(&mut stream, &link, fruitful).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn now() -> Instant {
    // Tests may hold tokio's clock.
    tokio::time::Instant::now().into_std()
}

async fn conversation<S>(
    stream: &mut S,
    link: &Link,
    fruitful: &mut bool,
) -> Result<Infallible, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // None of them ends: the link holds the senders.
    let (mut settings, mut own, mut changes) = (link.post.watch(), link.known.own(), link.known.changes());
    let mut schedule = Schedule::new(settings.borrow_and_update().exchange_interval, now());
    let mut number: u32 = 0;
    loop {
        match schedule.due(now()) {
            Some(Due::Announce) => {
                let records = link.known.own_records(&link.own, link.reach);
                if !records.is_empty() {
                    link.say(stream, Message::Announcement(records)).await?;
                }
            }
            Some(Due::Tell) => {
                let digest = link.known.digest(link.reach);
                if link.theirs() != Some(digest) {
                    link.say(stream, Message::Update(digest)).await?;
                }
            }
            Some(Due::Ask) => {
                if let Some(_question) = link.known.question(link.peer).await {
                    ask(stream, link, &mut number, !*fruitful).await?;
                    *fruitful = true;
                }
                link.known.tidy();
                schedule.asked(now(), rand::random());
            }
            None => {
                let next = tokio::time::Instant::from_std(schedule.next());
                tokio::select! {
                    // The clock of the schedule: what is due is looked at in the next round.
                    () = tokio::time::sleep_until(next) => {}
                    _ = own.changed() => schedule.own_changed(now(), rand::random()),
                    _ = changes.changed() => schedule.changed(now(), rand::random()),
                    () = link.shared.told.notified() => schedule.told(now(), rand::random()),
                    _ = settings.changed() => {
                        let interval = settings.borrow_and_update().exchange_interval;
                        schedule.set_interval(interval, rand::random());
                    }
                }
            }
        }
    }
}

/// One exchange: asks until the peer has nothing more to tell.
async fn ask<S>(stream: &mut S, link: &Link, number: &mut u32, is_first: bool) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let most = if link.known.is_member(&link.peer) { RESPONSES } else { RESPONSES_OF_A_STRANGER };
    for page in 0..most {
        *number = number.wrapping_add(1);
        let request = link.known.request(&link.peer, link.reach, *number, is_first && page == 0);
        let (session, after) = (request.session, request.after);
        let answered = async {
            link.say(stream, Message::Request(request)).await?;
            link.hear(stream).await
        };
        let answer = tokio::time::timeout(ANSWER, answered).await.map_err(|_| ExchangeError::Silence)??;
        let Message::Response(response) = answer else { return Err(ExchangeError::OutOfTurn) };
        if response.number != *number {
            return Err(ExchangeError::OutOfTurn);
        }
        let goes_on = response.session != session || response.version > after;
        if response.more && (response.records.is_empty() || !goes_on) {
            return Err(ExchangeError::Circle);
        }
        let more = response.more;
        take(link, response).await?;
        if !more {
            break;
        }
    }
    link.known.figures().has_asked();
    Ok(())
}

async fn take(link: &Link, response: Response) -> Result<(), ExchangeError> {
    let mut taken = 0_usize;
    for (at, bytes) in response.records.iter().enumerate() {
        if let Some((key, fate)) = link.known.take(bytes, Teller::Other(link.peer), link.reach)? {
            match fate {
                Fate::Taken => taken = taken.saturating_add(1),
                other => tracing::debug!(of = %key, by = %link.peer, fate = ?other, "a record was not taken"),
            }
        }
        if at % AT_A_TIME == AT_A_TIME - 1 {
            tokio::task::yield_now().await;
        }
    }
    // Only now: what was not read to its end is asked for again.
    link.known.heard(&link.peer, response.session, response.version);
    if taken > 0 {
        tracing::debug!(by = %link.peer, taken, "peers were learned");
        link.known.publish();
    }
    Ok(())
}

/// Answers what the peer asks and takes in what it announces, until the stream ends; gives the reason why it did.
pub(super) async fn serve<S>(mut stream: S, link: Link) -> ExchangeError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Err(error) = attend(&mut stream, &link).await {
            return error;
        }
    }
}

async fn attend<S>(stream: &mut S, link: &Link) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message = link.hear(stream).await?;
    let Link { known, peer, reach, .. } = link;
    if !known.may(peer) {
        return Err(ExchangeError::TooOften);
    }
    match message {
        Message::Request(request) => {
            if let [digest] = request.digests[..] {
                link.knows(digest);
            }
            let (response, looked) = known.answer(&request, peer, *reach);
            let bytes: usize = response.records.iter().map(|record| record.len()).sum();
            known.charge(peer, bytes.saturating_add(looked.saturating_mul(LOOK)).max(LEAST));
            link.say(stream, Message::Response(response)).await?;
            known.figures().has_answered();
        }
        Message::Announcement(records) => {
            known.charge(peer, records.len().saturating_mul(CHECK));
            for bytes in records {
                if let Some((key, fate)) = known.take(&bytes, Teller::Itself(*peer), *reach)? {
                    tracing::debug!(of = %key, ?fate, "a peer has announced itself");
                }
            }
            known.publish();
        }
        Message::Update(digest) => {
            known.charge(peer, LEAST);
            link.knows(digest);
            if known.digest(*reach) != digest {
                link.shared.told.notify_one();
            }
        }
        Message::Response(_) => return Err(ExchangeError::OutOfTurn),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
