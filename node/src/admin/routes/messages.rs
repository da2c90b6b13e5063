//! Direct messages for the application behind the node: send one, and the inbox as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use net::{Received, SendError};
use serde_json::json;
use storage::PeerKey;

use super::{AdminState, error, wrong_method};

/// A stream that says nothing is told from a dead one by a comment, this often: a subscriber that is gone is noticed by it, and
/// what arrives meanwhile is in danger.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

type State = Data<AdminState>;

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/v1/peers/{key:.+}/messages").post(send).default_service(web::to(wrong_method)),
    )
    .service(web::resource("/v1/messages").get(inbox).default_service(web::to(wrong_method)));
}

async fn send(state: State, request: HttpRequest, key: Path<String>, mut body: web::Payload) -> HttpResponse {
    let to: PeerKey = match key.parse() {
        Ok(key) => key,
        Err(cause) => {
            return error(StatusCode::NOT_FOUND, "Unknown peer", &format!("{key} {cause}"));
        }
    };
    let max = state.current.load().protocol.max_message_size;
    let mut data = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(cause) => return error(StatusCode::BAD_REQUEST, "Bad request body", &cause.to_string()),
        };
        if data.len() + chunk.len() > max {
            return failed(&SendError::TooLarge { max });
        }
        data.extend_from_slice(&chunk);
    }
    let _under_way = state.requests.begin();
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    match state.messages.send(&to, content_type, data).await {
        Ok(()) => HttpResponse::Ok().json(json!({"status": "ok"})),
        Err(cause) => failed(&cause),
    }
}

fn failed(cause: &SendError) -> HttpResponse {
    let status = match cause {
        SendError::UnknownPeer => StatusCode::NOT_FOUND,
        SendError::TooLarge { .. } | SendError::TooLargeThere => StatusCode::PAYLOAD_TOO_LARGE,
        SendError::ContentType => StatusCode::BAD_REQUEST,
        SendError::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(status, "Message not delivered", &cause.to_string())
}

async fn inbox(state: State, request: HttpRequest) -> HttpResponse {
    // What is no id of ours is as good as none (HTML, 9.2.4: the client sends back whatever it was given).
    let last = request.headers().get("last-event-id");
    let after = last.and_then(|value| value.to_str().ok()).and_then(|id| id.trim().parse().ok());
    let messages = state.messages.subscribe(after);
    let stopping = state.stopping.clone();
    let stream = futures::stream::unfold((messages, stopping), |(mut messages, mut stopping)| async move {
        let text = tokio::select! {
            message = messages.recv() => event(&*message?),
            // Proxies close a response that is silent for long; and a write is how a reader who is gone is found out.
            () = tokio::time::sleep(KEEP_ALIVE) => ": still here\n\n".to_owned(),
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (messages, stopping)))
    });
    // The comment makes the headers go out: the caller knows that it is subscribed.
    let hello = futures::stream::once(async { Ok(Bytes::from_static(b": subscribed\n\n")) });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(hello.chain(stream))
}

fn event(message: &Received) -> String {
    let mut data = json!({
        "id": message.id,
        "from": message.from,
        "content_type": message.content_type,
    });
    match std::str::from_utf8(&message.data) {
        Ok(text) => data["data"] = text.into(),
        Err(_) => data["data_base64"] = STANDARD.encode(&message.data).into(),
    }
    format!("id: {}\ndata: {data}\n\n", message.id)
}
