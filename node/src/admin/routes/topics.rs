//! Broadcast topics for the application behind the node: publish to one, and what arrives on it as server-sent events.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use net::PublishError;
use serde_json::json;

use super::body::{self, Unread};
use super::{AdminState, error, only, sse};

/// How long a message that is being published may take when the node stops.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

type State = Data<AdminState>;

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/v1/topics/{topic:.+}/messages")
            .get(subscribe)
            .post(publish)
            .default_service(only("GET, POST")),
    );
}

async fn publish(
    state: State,
    request: HttpRequest,
    topic: Path<String>,
    body: web::Payload,
) -> HttpResponse {
    if !state.topics.has(&topic) {
        return failed(&PublishError::UnknownTopic);
    }
    let max = state.current.load().protocol.max_message_size;
    let data = match body::read(body, max).await {
        Ok(data) => data,
        Err(Unread::TooLarge) => return failed(&PublishError::TooLarge { max }),
        Err(Unread::Broken(answer)) => return answer,
    };
    let _under_way = state.requests.begin();
    let stopped = async {
        let _ = state.stopping.clone().wait_for(|stopping| *stopping).await;
        // A network that still runs needs no longer; one that has ended answers nobody.
        tokio::time::sleep(LAST_MESSAGES).await;
    };
    tokio::select! {
        biased;
        published = state.topics.publish(&topic, body::content_type(&request), data) => match published {
            Ok(()) => HttpResponse::Ok().json(json!({"status": "ok"})),
            Err(cause) => failed(&cause),
        },
        () = stopped => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "Message not published",
            "the node is stopping; whether the message went out is unknown",
        ),
    }
}

fn failed(cause: &PublishError) -> HttpResponse {
    let status = match cause {
        PublishError::UnknownTopic => StatusCode::NOT_FOUND,
        PublishError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        PublishError::ContentType => StatusCode::BAD_REQUEST,
        PublishError::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        PublishError::Busy | PublishError::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut answer = error(status, "Message not published", &cause.to_string());
    if let PublishError::RateLimited { retry_after } = cause {
        // Whole seconds are all that the header knows (RFC 9110, 10.2.3); the text says it exactly.
        let seconds = retry_after.as_secs().saturating_add(1);
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

async fn subscribe(state: State, request: HttpRequest, topic: Path<String>) -> HttpResponse {
    let Some(messages) = state.topics.subscribe(&topic, sse::last_event_id(&request)) else {
        return error(StatusCode::NOT_FOUND, "Unknown topic", &PublishError::UnknownTopic.to_string());
    };
    let events = futures::stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        Some(match messages.recv().await {
            Ok(message) => {
                let content_type = message.content_type.as_deref();
                (sse::message(message.id, &message.from, content_type, &message.data), Some(messages))
            }
            Err(ended) => (sse::end(ended), None),
        })
    });
    sse::respond(&state, events)
}
