//! The routes of the contract that exist so far.

mod block;
mod body;
mod events;
mod messages;
pub(super) mod page;
mod peers;
mod reloads;
mod services;
mod sse;
mod topics;

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::error::{JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, ALLOW, HeaderValue};
use actix_web::web::{self, Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route, guard};
use reload::Outcome;
use serde::Deserialize;
use serde_json::json;

use super::{AdminState, Caller};
use crate::diff;
use block::block;

/// The largest request that carries JSON.
const MAX_JSON: usize = 64 << 10;

/// How many history entries one answer holds at most.
const MAX_HISTORY: usize = 1000;

type State = Data<AdminState>;

#[derive(Debug, Deserialize)]
struct HistoryQuery {
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// Compare this file instead of the node's own. Only on the socket.
    config: Option<PathBuf>,
}

/// Adds the routes.
pub fn configure(app: &mut ServiceConfig) {
    app.app_data(web::JsonConfig::default().limit(MAX_JSON).error_handler(|error, _| bad_json(error)))
        .app_data(web::PayloadConfig::new(MAX_JSON))
        .app_data(web::QueryConfig::default().error_handler(|error, _| bad_query(error)))
        .service(web::resource("/healthz").route(read().to(healthz)).default_service(only(READ)))
        .service(web::resource("/readyz").route(read().to(readyz)).default_service(only(READ)))
        .service(web::resource("/metrics").route(read().to(metrics)).default_service(only(READ)))
        .service(web::resource("/admin/status").route(read().to(status)).default_service(only(READ)))
        .service(web::resource("/admin/config").route(read().to(config)).default_service(only(READ)))
        .service(web::resource("/admin/diff").route(read().to(difference)).default_service(only(READ)))
        .service(web::resource("/admin/history").route(read().to(history)).default_service(only(READ)))
        .configure(reloads::configure)
        .configure(peers::configure)
        .configure(messages::configure)
        .configure(services::configure)
        .configure(topics::configure)
        .configure(events::configure)
        .configure(page::configure)
        .default_service(web::to(|request: HttpRequest| async move {
            error(StatusCode::NOT_FOUND, "Not found", &format!("there is no {}", request.path()))
        }));
}

/// The contract's error body.
pub(super) fn error(status: StatusCode, message: &str, error: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({"status": "error", "message": message, "error": error}))
}

/// The methods of [`read`].
const READ: &str = "GET, HEAD";

/// What has a body that ends: whoever asks with HEAD learns what GET would have said, without it (RFC 9110, 9.3.2).
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// What a resource answers to other methods than these, which the header names (RFC 9110, 15.5.6).
fn only(methods: &'static str) -> Route {
    web::to(move |request: HttpRequest| async move {
        let text = format!("{} is not for {}, only for {methods}", request.path(), request.method());
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", &text);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        answer
    })
}

fn bad_json(cause: JsonPayloadError) -> actix_web::Error {
    let response = error(StatusCode::BAD_REQUEST, "Bad request body", &cause.to_string());
    actix_web::error::InternalError::from_response(cause, response).into()
}

fn bad_query(cause: QueryPayloadError) -> actix_web::Error {
    let response = error(StatusCode::BAD_REQUEST, "Bad query", &cause.to_string());
    actix_web::error::InternalError::from_response(cause, response).into()
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

async fn readyz(state: State) -> HttpResponse {
    let (ready, body) = state.ready().await;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(body)
}

async fn metrics(state: State, request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let open_metrics = accept.contains("application/openmetrics-text");
    let content_type = if open_metrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    let metrics = Arc::clone(&state.metrics);
    match block(move || metrics.encode(open_metrics)).await {
        Ok(Ok(text)) => HttpResponse::Ok().content_type(content_type).body(text),
        Ok(Err(cause)) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "Metrics are not to be had", &cause.to_string())
        }
        Err(cause) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "Metrics are not to be had", &cause.to_string())
        }
    }
}

async fn status(state: State) -> HttpResponse {
    let state = state.into_inner();
    match block(move || state.status()).await {
        Ok(status) => HttpResponse::Ok().json(status),
        Err(cause) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The status is not to be had", &cause.to_string())
        }
    }
}

async fn config(state: State) -> HttpResponse {
    let config = state.current.load_full();
    HttpResponse::Ok().json(json!({
        "generation": state.board.read().generation,
        "config": config.to_json(),
        "text": config.canonical(),
        "peers": config.canonical_peers(),
    }))
}

async fn difference(state: State, request: HttpRequest, query: Query<DiffQuery>) -> HttpResponse {
    let DiffQuery { config } = query.into_inner();
    if config.is_some() && request.conn_data::<Caller>().is_none() {
        let text = "config is for the socket, whose users may read what the node may read";
        return error(StatusCode::BAD_REQUEST, "Bad query", text);
    }
    let (current, generation) = (state.current.load_full(), state.board.read().generation);
    let compared = block(move || diff::against_file(&current, generation, config.as_deref())).await;
    match compared {
        Ok(Ok(diff)) => HttpResponse::Ok().json(json!({"same": diff.is_empty(), "diff": diff})),
        Ok(Err(problems)) => HttpResponse::Ok().json(json!({
            "same": false,
            "diff": null,
            "errors": problems,
            "error": Outcome::error_text(&problems),
        })),
        Err(cause) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The files were not compared", &cause.to_string())
        }
    }
}

async fn history(state: State, query: Query<HistoryQuery>) -> HttpResponse {
    let limit = query.limit.unwrap_or(50).min(MAX_HISTORY);
    let history = Arc::clone(&state.history);
    match block(move || (history.generations(limit), history.audit_tail(limit))).await {
        Ok((Ok(generations), Ok(attempts))) => HttpResponse::Ok()
            .json(json!({"current": state.board.read().generation, "generations": generations, "attempts": attempts})),
        Ok((Err(cause), _) | (_, Err(cause))) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The history cannot be read", &cause)
        }
        Err(cause) => error(StatusCode::INTERNAL_SERVER_ERROR, "The history cannot be read", &cause.to_string()),
    }
}
