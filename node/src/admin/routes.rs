//! The routes of the contract that exist so far.

mod messages;

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::error::{JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, IF_MATCH};
use actix_web::web::{self, Data, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use reload::outcome::Kind;
use reload::{DryRun, Generation, Origin, Outcome, Refusal, Reload, Trigger, Which};
use serde::Deserialize;
use serde_json::json;

use super::{AdminState, Caller};
use crate::client::CLIENT_HEADER;
use crate::diff;

/// The largest request that carries JSON.
const MAX_JSON: usize = 64 << 10;

/// How many history entries one answer holds at most.
const MAX_HISTORY: usize = 1000;

type State = Data<AdminState>;

#[derive(Debug, Default, Deserialize)]
struct ReloadQuery {
    #[serde(default)]
    dry_run: bool,
    /// Judge this file instead of the node's own. Only with `dry_run`, and only on the socket, whose users may read what
    /// the node may read.
    config: Option<PathBuf>,
}

/// The body of a reload request may say why.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadBody {
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
struct HistoryQuery {
    limit: Option<usize>,
}

/// Adds the routes.
pub fn configure(app: &mut ServiceConfig) {
    app.app_data(web::JsonConfig::default().limit(MAX_JSON).error_handler(|error, _| bad_json(error)))
        .app_data(web::PayloadConfig::new(MAX_JSON))
        .app_data(web::QueryConfig::default().error_handler(|error, _| bad_query(error)))
        .service(web::resource("/healthz").get(healthz).default_service(web::to(wrong_method)))
        .service(web::resource("/readyz").get(readyz).default_service(web::to(wrong_method)))
        .service(web::resource("/metrics").get(metrics).default_service(web::to(wrong_method)))
        .service(web::resource("/admin/reload").post(reload).default_service(web::to(wrong_method)))
        .service(web::resource("/admin/status").get(status).default_service(web::to(wrong_method)))
        .service(web::resource("/admin/config").get(config).default_service(web::to(wrong_method)))
        .service(web::resource("/admin/diff").get(difference).default_service(web::to(wrong_method)))
        .service(web::resource("/admin/history").get(history).default_service(web::to(wrong_method)))
        .service(web::resource("/admin/peers").get(peers).default_service(web::to(wrong_method)))
        .configure(messages::configure)
        .default_service(web::to(|request: HttpRequest| async move {
            error(StatusCode::NOT_FOUND, "Not found", &format!("there is no {}", request.path()))
        }));
}

/// The contract's error body.
pub(super) fn error(status: StatusCode, message: &str, error: &str) -> HttpResponse {
    HttpResponse::build(status).json(json!({"status": "error", "message": message, "error": error}))
}

async fn wrong_method(request: HttpRequest) -> HttpResponse {
    let text = format!("{} is not for {}", request.path(), request.method());
    error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", &text)
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
    match web::block(move || metrics.encode(open_metrics)).await {
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
    match web::block(move || state.status()).await {
        Ok(status) => HttpResponse::Ok().json(status),
        Err(cause) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The status is not to be had", &cause.to_string())
        }
    }
}

async fn peers(state: State) -> HttpResponse {
    HttpResponse::Ok().json(state.view.members())
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

async fn difference(state: State) -> HttpResponse {
    let (current, generation) = (state.current.load_full(), state.board.read().generation);
    let compared = web::block(move || diff::against_file(&current, generation)).await;
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
    match web::block(move || (history.generations(limit), history.audit_tail(limit))).await {
        Ok((Ok(generations), Ok(attempts))) => HttpResponse::Ok()
            .json(json!({"current": state.board.read().generation, "generations": generations, "attempts": attempts})),
        Ok((Err(cause), _) | (_, Err(cause))) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The history cannot be read", &cause)
        }
        Err(cause) => error(StatusCode::INTERNAL_SERVER_ERROR, "The history cannot be read", &cause.to_string()),
    }
}

async fn reload(
    state: State,
    request: HttpRequest,
    query: Query<ReloadQuery>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(cause) => {
            let status = cause.as_response_error().status_code();
            return error(status, "Bad request body", &cause.to_string());
        }
    };
    let body = if body.is_empty() { Ok(ReloadBody::default()) } else { serde_json::from_slice(&body) };
    let note = match body {
        Ok(body) => body.note,
        Err(cause) => return error(StatusCode::BAD_REQUEST, "Bad request body", &cause.to_string()),
    };
    let expect = match expected(&request) {
        Ok(expect) => expect,
        Err(text) => return error(StatusCode::PRECONDITION_FAILED, "Configuration reload refused", &text),
    };
    let Some(coordinator) = state.coordinator.get() else { return refused(&Refusal::Stopping) };
    let origin = origin(&request, note);
    let _under_way = state.requests.begin();
    let answer = if query.dry_run {
        if let Some(expected) = expect {
            let current = state.board.read().generation;
            if expected != current {
                return refused(&Refusal::Mismatch { expected, current });
            }
        }
        let which = query.into_inner().config.map_or(Which::OwnToLook, Which::Other);
        coordinator.send(DryRun { origin, which }).await
    } else if query.config.is_some() {
        let text = "config is for dry runs; a node reloads its own file";
        return error(StatusCode::BAD_REQUEST, "Bad query", text);
    } else {
        coordinator.send(Reload { origin, expect }).await
    };
    match answer {
        Ok(Ok(outcome)) => HttpResponse::build(code(outcome.outcome)).json(&*outcome),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => error(StatusCode::INTERNAL_SERVER_ERROR, "The reload engine is gone", &gone.to_string()),
    }
}

/// The contract's codes.
const fn code(kind: Kind) -> StatusCode {
    match kind {
        Kind::Committed | Kind::Unchanged | Kind::Planned => StatusCode::OK,
        Kind::Rejected => StatusCode::BAD_REQUEST,
        Kind::RolledBack => StatusCode::CONFLICT,
        Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refused(refusal: &Refusal) -> HttpResponse {
    let status = match refusal {
        Refusal::Stopping | Refusal::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Mismatch { .. } => StatusCode::PRECONDITION_FAILED,
    };
    error(status, "Configuration reload refused", &refusal.to_string())
}

/// `If-Match: "42"`; the error is a text that is no generation, and therefore not current either.
fn expected(request: &HttpRequest) -> Result<Option<Generation>, String> {
    let Some(value) = request.headers().get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse().ok().and_then(Generation::new);
    number.map(Some).ok_or_else(|| {
        format!("If-Match is {text}; a generation in double quotes was expected; nothing was done")
    })
}

fn origin(request: &HttpRequest, note: Option<String>) -> Origin {
    let cli = request.headers().get(CLIENT_HEADER).is_some_and(|value| value == "cli");
    Origin {
        trigger: if cli { Trigger::Cli } else { Trigger::Api },
        actor: request.conn_data::<Caller>().map(ToString::to_string),
        note,
    }
}
