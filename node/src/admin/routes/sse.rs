//! Server-sent events (HTML, 9.2): what the streams of this API have in common.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt};
use net::Ended;
use serde_json::{Value, json};
use storage::PeerKey;

use super::AdminState;

/// A stream that says nothing is told from a dead one by a comment, this often: a subscriber that is gone is noticed by it, and
/// what arrives meanwhile is in danger.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Answers with these events, until they end or the node stops.
pub(super) fn respond(state: &AdminState, events: impl Stream<Item = String> + 'static) -> HttpResponse {
    let stopping = state.stopping.clone();
    let events = events.boxed_local();
    let stream = futures::stream::unfold((events, stopping), |(mut events, mut stopping)| async move {
        let text = tokio::select! {
            event = events.next() => event?,
            // Proxies close a response that is silent for long; and a write is how a reader who is gone is found out.
            () = tokio::time::sleep(KEEP_ALIVE) => ": still here\n\n".to_owned(),
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (events, stopping)))
    });
    // The comment makes the headers go out: the caller knows that it is subscribed.
    let hello = futures::stream::once(async { Ok(Bytes::from_static(b": subscribed\n\n")) });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(hello.chain(stream))
}

/// The last event that a reader who comes back has had. What is no id of ours is as good as none (the client sends back whatever it
/// was given).
pub(super) fn last_event_id(request: &HttpRequest) -> Option<u64> {
    let last = request.headers().get("last-event-id")?;
    last.to_str().ok()?.trim().parse().ok()
}

/// A message as the contract writes it.
pub(super) fn message(id: u64, from: &PeerKey, content_type: Option<&str>, data: &[u8]) -> String {
    let mut event = json!({"id": id, "from": from, "content_type": content_type});
    match std::str::from_utf8(data) {
        Ok(text) => event["data"] = text.into(),
        Err(_) => event["data_base64"] = STANDARD.encode(data).into(),
    }
    format!("id: {id}\ndata: {event}\n\n")
}

/// An event with a name.
pub(super) fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// The last event of a stream whose reader is still there.
pub(super) fn end(ended: Ended) -> String {
    let reason = match ended {
        Ended::Removed => "removed",
        Ended::TooSlow => "too_slow",
    };
    named("end", &json!({"event": "end", "reason": reason, "message": ended.to_string()}))
}
