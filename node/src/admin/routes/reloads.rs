//! Routes that change the configuration: reload, rollback, confirm.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::IF_MATCH;
use actix_web::web::{self, Query, ServiceConfig};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use reload::outcome::Kind;
use reload::{Aim, Confirm, DryRun, Generation, Origin, Outcome, Refusal, Reload, Trigger, Which};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use storage::document::units::Span;

use super::super::{AdminState, CONFIRM, Caller, TokenHolder};
use super::block::block;
use super::{State, error, only};
use crate::client::CLIENT_HEADER;
use crate::config::Config;
use crate::history::History;
use crate::start_from::from_history;

const REFUSED: &str = "Configuration reload refused";

/// A misspelt `dry_run` must not be a reload.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadQuery {
    #[serde(default)]
    dry_run: bool,
    /// Judge this file instead of the node's own. Only with `dry_run`, and only on the socket, whose users may read what
    /// the node may read.
    config: Option<PathBuf>,
    /// Go back after this long unless it is confirmed, as `5m`.
    confirm: Option<String>,
}

/// The body of a reload request may say why, and how long to wait for a confirmation.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadBody {
    note: Option<String>,
    confirm: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    generation: Option<u64>,
    note: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmBody {
    note: Option<String>,
}

type Body = Result<web::Bytes, actix_web::Error>;

/// Adds the routes.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/admin/reload").post(reload).default_service(only("POST")))
        .service(web::resource("/admin/rollback").post(rollback).default_service(only("POST")))
        .service(web::resource("/admin/confirm").post(confirm).default_service(only("POST")));
}

async fn reload(state: State, request: HttpRequest, query: Query<ReloadQuery>, body: Body) -> HttpResponse {
    let ReloadBody { note, confirm } = match parse(body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let ReloadQuery { dry_run, config, confirm: in_query } = query.into_inner();
    let confirm = match confirm.or(in_query).as_deref().map(within).transpose() {
        Ok(confirm) => confirm,
        Err(text) => return error(StatusCode::BAD_REQUEST, "Bad confirm", &text),
    };
    if dry_run && confirm.is_some() {
        return error(StatusCode::BAD_REQUEST, "Bad query", "a dry run leaves nothing to confirm");
    }
    if !dry_run && config.is_some() {
        let text = "config is for dry runs; a node reloads its own file";
        return error(StatusCode::BAD_REQUEST, "Bad query", text);
    }
    if config.is_some() && request.conn_data::<Caller>().is_none() {
        let text = "config is for the socket, whose users may read what the node may read";
        return error(StatusCode::BAD_REQUEST, "Bad query", text);
    }
    if dry_run {
        let own = |path: &PathBuf| *path == state.current.load().source.path;
        let which = config.filter(|path| !own(path)).map_or(Which::OwnToLook, Which::Other);
        return look(&state, &request, note, which).await;
    }
    ask(&state, &request, note, Aim::Files, confirm).await
}

async fn rollback(state: State, request: HttpRequest, query: Query<ReloadQuery>, body: Body) -> HttpResponse {
    let RollbackBody { generation, note } = match parse(body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    // What the caller goes by comes before what he asks for (RFC 9110, 13.2.1). The engine looks once more, when it is his turn.
    if let Err(answer) = met(&state, &request) {
        return *answer;
    }
    let state_too = state.clone();
    // Looks at the history: blocks.
    let found = block(move || target(&state_too, generation)).await;
    let generation = match found {
        Ok(Ok(generation)) => generation,
        Ok(Err(text)) => return error(StatusCode::NOT_FOUND, REFUSED, &text),
        Err(cause) => return error(StatusCode::INTERNAL_SERVER_ERROR, REFUSED, &cause.to_string()),
    };
    if query.dry_run {
        return look(&state, &request, note, Which::Generation(generation)).await;
    }
    ask(&state, &request, note, Aim::Generation(generation), None).await
}

async fn confirm(state: State, request: HttpRequest, body: Body) -> HttpResponse {
    let ConfirmBody { note } = match parse(body) {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let expect = match expected(&request) {
        Ok(expect) => expect,
        Err(answer) => return *answer,
    };
    let Some(coordinator) = state.coordinator.get() else { return refused(&Refusal::Stopping) };
    let _under_way = state.requests.begin();
    answer(coordinator.send(Confirm { origin: origin(&request, note), expect }).await)
}

async fn ask(
    state: &AdminState,
    request: &HttpRequest,
    note: Option<String>,
    aim: Aim,
    confirm: Option<Duration>,
) -> HttpResponse {
    let expect = match expected(request) {
        Ok(expect) => expect,
        Err(answer) => return *answer,
    };
    let Some(coordinator) = state.coordinator.get() else { return refused(&Refusal::Stopping) };
    let mut origin = origin(request, note);
    if aim != Aim::Files {
        origin.trigger = Trigger::Rollback;
    }
    let _under_way = state.requests.begin();
    answer(coordinator.send(Reload { origin, expect, aim, confirm }).await)
}

async fn look(state: &AdminState, request: &HttpRequest, note: Option<String>, which: Which) -> HttpResponse {
    if let Err(answer) = met(state, request) {
        return *answer;
    }
    let Some(coordinator) = state.coordinator.get() else { return refused(&Refusal::Stopping) };
    let _under_way = state.requests.begin();
    answer(coordinator.send(DryRun { origin: origin(request, note), which }).await)
}

fn answer(answered: Result<Result<Arc<Outcome>, Refusal>, actix::MailboxError>) -> HttpResponse {
    match answered {
        Ok(Ok(outcome)) => HttpResponse::build(code(outcome.outcome)).json(&*outcome),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => error(StatusCode::INTERNAL_SERVER_ERROR, "The reload engine is gone", &gone.to_string()),
    }
}

/// The generation to go back to: the one named, or the newest before this one with other contents.
fn target(state: &AdminState, named: Option<u64>) -> Result<Generation, String> {
    let numbers = state.history.numbers();
    if let Some(named) = named {
        let found = Generation::new(named).filter(|named| numbers.contains(named));
        return found.ok_or_else(|| {
            format!("generation {named} is not in the history (`fednode history` lists those that are)")
        });
    }
    let (current, running) = (state.board.read().generation, state.current.load_full());
    let mut older = numbers.into_iter().filter(|number| *number < current);
    older
        .find(|number| differs(&state.history, *number, &running))
        .ok_or_else(|| format!("there is no generation before {current} with other contents"))
}

/// Whether a generation says something else than what runs. One that cannot be run today does: trying tells why. One whose file
/// is damaged is passed over.
fn differs(history: &History, generation: Generation, running: &Arc<Config>) -> bool {
    let path = &running.source.path;
    history.read(generation).is_ok()
        && from_history(history, path, generation, Some(running))
            .map_or(true, |loaded| *loaded.config != **running)
}

fn within(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error| format!("confirm is {text:?}: {error}"))?;
    if CONFIRM.contains(&span.0) {
        return Ok(span.0);
    }
    let (from, to) = (Span(*CONFIRM.start()), Span(*CONFIRM.end()));
    Err(format!("confirm is {text:?}; from {from} to {to} is possible"))
}

/// An empty body says nothing.
fn parse<T: Default + DeserializeOwned>(body: Body) -> Result<T, Box<HttpResponse>> {
    let body = body.map_err(|cause| {
        let status = cause.as_response_error().status_code();
        Box::new(error(status, "Bad request body", &cause.to_string()))
    })?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body)
        .map_err(|cause| Box::new(error(StatusCode::BAD_REQUEST, "Bad request body", &cause.to_string())))
}

/// The contract's codes.
pub(super) const fn code(kind: Kind) -> StatusCode {
    match kind {
        Kind::Committed | Kind::Unchanged | Kind::Planned => StatusCode::OK,
        Kind::Rejected => StatusCode::BAD_REQUEST,
        Kind::RolledBack => StatusCode::CONFLICT,
        Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) fn refused(refusal: &Refusal) -> HttpResponse {
    let status = match refusal {
        Refusal::Stopping | Refusal::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Mismatch { .. } => StatusCode::PRECONDITION_FAILED,
        Refusal::NothingToConfirm => StatusCode::CONFLICT,
    };
    error(status, REFUSED, &refusal.to_string())
}

/// `If-Match: "42"`. A text that is no generation is not current either.
fn expected(request: &HttpRequest) -> Result<Option<Generation>, Box<HttpResponse>> {
    let Some(value) = request.headers().get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    text.trim_matches('"').parse().map(Some).map_err(|_| {
        let text =
            format!("If-Match is {text}; a generation in double quotes was expected; nothing was done");
        Box::new(error(StatusCode::PRECONDITION_FAILED, REFUSED, &text))
    })
}

/// The same, if that generation is current now: for what is done before the engine is asked.
pub(super) fn met(
    state: &AdminState,
    request: &HttpRequest,
) -> Result<Option<Generation>, Box<HttpResponse>> {
    let expected = expected(request)?;
    let current = state.board.read().generation;
    match expected.filter(|expected| *expected != current) {
        Some(expected) => Err(Box::new(refused(&Refusal::Mismatch { expected, current }))),
        None => Ok(expected),
    }
}

pub(super) fn origin(request: &HttpRequest, note: Option<String>) -> Origin {
    let cli = request.headers().get(CLIENT_HEADER).is_some_and(|value| value == "cli");
    Origin { trigger: if cli { Trigger::Cli } else { Trigger::Api }, actor: actor(request), note }
}

/// Who asks: by a token, or through the socket.
fn actor(request: &HttpRequest) -> Option<String> {
    let holder = request.extensions().get::<TokenHolder>().map(|TokenHolder(name)| name.clone());
    holder.or_else(|| request.conn_data::<Caller>().map(ToString::to_string))
}
