//! Direct messages for the application behind the node: send one, and the inbox as server-sent events.

use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use net::{Ended, SendError};
use serde_json::json;
use storage::PeerKey;

use super::body::{self, Unread};
use super::{AdminState, error, only, sse};

type State = Data<AdminState>;

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/peers/{key:.+}/messages").post(send).default_service(only("POST")))
        .service(web::resource("/v1/messages").get(inbox).default_service(only("GET")));
}

async fn send(state: State, request: HttpRequest, key: Path<String>, body: web::Payload) -> HttpResponse {
    let to: PeerKey = match key.parse() {
        Ok(key) => key,
        Err(cause) => {
            return error(StatusCode::NOT_FOUND, "Unknown peer", &format!("{key} {cause}"));
        }
    };
    let max = state.current.load().protocol.max_message_size;
    let data = match body::read(body, max).await {
        Ok(data) => data,
        Err(Unread::TooLarge) => return failed(&SendError::TooLarge { max }),
        Err(Unread::Broken(answer)) => return answer,
    };
    let _under_way = state.requests.begin();
    match state.messages.send(&to, body::content_type(&request), data).await {
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
    let messages = state.messages.subscribe(sse::last_event_id(&request));
    let events = futures::stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        Some(match messages.recv().await {
            Some(message) => {
                let content_type = message.content_type.as_deref();
                (sse::message(message.id, &message.from, content_type, &message.data), Some(messages))
            }
            None => (sse::end(Ended::TooSlow), None),
        })
    });
    sse::respond(&state, events)
}
