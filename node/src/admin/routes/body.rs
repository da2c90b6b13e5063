//! The payload of a message: raw bytes, gathered no further than the largest message.

use actix_web::http::StatusCode;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, http::header::CONTENT_TYPE};
use futures::StreamExt;

use super::error;

/// Why there is no payload.
pub(super) enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// It broke off.
    Broken(HttpResponse),
}

/// Reads it.
pub(super) async fn read(mut body: Payload, max: usize) -> Result<Vec<u8>, Unread> {
    let mut data = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|cause| {
            Unread::Broken(error(StatusCode::BAD_REQUEST, "Bad request body", &cause.to_string()))
        })?;
        if data.len() + chunk.len() > max {
            return Err(Unread::TooLarge);
        }
        data.extend_from_slice(&chunk);
    }
    Ok(data)
}

/// What the caller says that it is; `""`, which no message may have, if that is no text.
pub(super) fn content_type(request: &HttpRequest) -> Option<&str> {
    request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default())
}
