//! Routes that change `peers.yaml` (contract: "peers.yaml"): the file and a reload, as one transaction.
//!
//! The file is written first, under the lock that every writer takes, and then reloaded like any edit; if that does not stand, it
//! says again what it said. So an order that is acknowledged is in the file and runs, and one that is refused is in neither.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use reload::{Aim, Outcome, Refusal, Reload};
use serde::Deserialize;
use storage::PeerKey;
use storage::peers_file::edit::{self, EditError, Effect, Entry, Order};
use storage::peers_file::rewrite::{RewriteError, Rewritten, Turn};

use super::block::block;
use super::reloads::{code, met, origin, refused};
use super::{State, error, only, read};

/// The largest body: a list of some thousand members.
const MAX_BODY: usize = 4 << 20;
/// The most members in one request.
const MAX_ORDERS: usize = 10_000;

/// How often an editor may save a text without it between an order's write and its reload, before that is given up.
const TRIES: usize = 20;

const NOT_CHANGED: &str = "The peers were not changed";
const OVERWRITTEN: &str = "peers.yaml is saved by somebody else again and again; nothing was done (close the editor, and try again)";

/// A file with orders carried out, and nobody else's turn until this is dropped.
struct Written {
    turn: Turn,
    rewritten: Rewritten,
}

/// A member as it is posted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    public_key: String,
    #[serde(default)]
    addresses: Option<Vec<String>>,
    #[serde(default)]
    name: Option<String>,
}

/// Whoever means it to be a dry run must not change anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// One member, or a list of them: all are added, or none.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Body {
    One(Posted),
    Many(Vec<Posted>),
}

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/admin/peers")
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .route(read().to(list))
            .post(add)
            .default_service(only("GET, HEAD, POST")),
    )
    .service(web::resource("/admin/peers/{key:.+}").delete(remove).default_service(only("DELETE")));
}

/// The members. Whom the node has learned of besides stands in the status.
async fn list(state: State) -> HttpResponse {
    HttpResponse::Ok().json(state.view.members())
}

async fn add(
    state: State,
    request: HttpRequest,
    _: Query<NoQuery>,
    body: Result<Bytes, actix_web::Error>,
) -> HttpResponse {
    let bad = |text: &str| error(StatusCode::BAD_REQUEST, "Bad request body", text);
    let body = match body {
        Ok(body) => body,
        Err(cause) => {
            return error(cause.as_response_error().status_code(), "Bad request body", &cause.to_string());
        }
    };
    let posted = match serde_json::from_slice(&body) {
        Ok(Body::One(one)) => vec![one],
        Ok(Body::Many(many)) if (1..=MAX_ORDERS).contains(&many.len()) => many,
        Ok(Body::Many(many)) => {
            return bad(&format!("{} members; 1 to {MAX_ORDERS} are possible", many.len()));
        }
        Err(_) => {
            return bad("expected {\"public_key\": …, \"addresses\": […], \"name\": …}, or a list of such");
        }
    };
    let orders: Result<Vec<Order>, String> = posted.into_iter().map(Posted::order).collect();
    match orders {
        Ok(orders) => change(&state, &request, orders).await,
        Err(text) => bad(&text),
    }
}

async fn remove(state: State, request: HttpRequest, _: Query<NoQuery>, key: Path<String>) -> HttpResponse {
    match key.parse() {
        Ok(key) => change(&state, &request, vec![Order::Remove(key)]).await,
        Err(cause) => error(StatusCode::NOT_FOUND, "Unknown peer", &format!("{key} {cause}")),
    }
}

/// The transaction.
async fn change(state: &State, request: &HttpRequest, orders: Vec<Order>) -> HttpResponse {
    let expect = match met(state, request) {
        Ok(expect) => expect,
        Err(answer) => return *answer,
    };
    let Some(coordinator) = state.coordinator.get() else {
        return refused(&Refusal::Stopping);
    };
    let _under_way = state.requests.begin();
    let mut tries = 1;
    loop {
        let written = match write(state, &orders).await {
            Ok(written) => written,
            Err(answer) => return answer,
        };
        let effects = written.rewritten.effects.clone();
        let asked = Reload { origin: origin(request, None), expect, aim: Aim::Files, confirm: None };
        let answered = coordinator.send(asked).await;
        let stood = answered.as_ref().ok().and_then(|answer| answer.as_ref().ok());
        let stood = stood.filter(|outcome| outcome.outcome.is_success());
        // An editor may have saved another text, or a rollback have written one, before the reload read the file: then what has
        // stood the reload is theirs, and what has not is theirs as well.
        if let Some(outcome) = stood
            && written.is_in_force(state, &orders)
        {
            return told(outcome, &effects);
        }
        let is_theirs = put_back(written).await && matches!(answered, Ok(Ok(_)));
        if (is_theirs || stood.is_some()) && tries < TRIES {
            tries += 1;
            continue;
        }
        return match answered {
            Ok(Ok(_)) if stood.is_some() => error(StatusCode::SERVICE_UNAVAILABLE, NOT_CHANGED, OVERWRITTEN),
            Ok(Ok(outcome)) => told(&outcome, &effects),
            Ok(Err(refusal)) => refused(&refusal),
            Err(gone) => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "The reload engine is gone", &gone.to_string())
            }
        };
    }
}

/// Carries the orders out on the file, when it is its turn.
async fn write(state: &State, orders: &[Order]) -> Result<Written, HttpResponse> {
    let (file, own, orders) = (state.current.load().peers.file.clone(), state.key, orders.to_vec());
    let members = state.view.members().len();
    // Waits for its turn and for the disk: blocks.
    let written = block(move || {
        let turn = Turn::wait(&file)?.of_running(members);
        let rewritten = turn.rewrite(&orders, Some(&own))?;
        Ok::<_, RewriteError>(Written { turn, rewritten })
    });
    match written.await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(cause)) => Err(not_written(&cause)),
        Err(cause) => Err(error(StatusCode::INTERNAL_SERVER_ERROR, NOT_CHANGED, &cause.to_string())),
    }
}

/// The file says again what it said, unless somebody has edited it since: whether somebody has.
async fn put_back(Written { turn, rewritten }: Written) -> bool {
    let back = block(move || turn.put_back(&rewritten)).await;
    match back {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            tracing::info!("peers.yaml was edited while an order was carried out on it");
            return true;
        }
        Ok(Err(cause)) => tracing::error!(%cause, "peers.yaml still says what was refused"),
        Err(cause) => tracing::error!(%cause, "peers.yaml still says what was refused"),
    }
    false
}

// === impl Written ===

impl Written {
    /// Whether what runs says what the orders say.
    fn is_in_force(&self, state: &State, orders: &[Order]) -> bool {
        let current = state.current.load();
        let runs = current.source.snapshot.peers.as_deref();
        if runs == Some(&*self.rewritten.after) {
            return true;
        }
        match edit::edit(runs, orders) {
            Ok(edited) => edited.effects.iter().all(|effect| *effect == Effect::Unchanged),
            Err(EditError::Unknown(_)) => matches!(orders, [Order::Remove(_)]),
            Err(_) => false,
        }
    }
}

fn told(outcome: &Arc<Outcome>, effects: &[Effect]) -> HttpResponse {
    let status = match code(outcome.outcome) {
        StatusCode::OK if effects.contains(&Effect::Added) => StatusCode::CREATED,
        other => other,
    };
    HttpResponse::build(status).json(&**outcome)
}

fn not_written(cause: &RewriteError) -> HttpResponse {
    let status = match cause {
        RewriteError::Edit { source: EditError::Unknown(_), .. } => StatusCode::NOT_FOUND,
        RewriteError::Invalid(_) | RewriteError::Edit { .. } => StatusCode::BAD_REQUEST,
        RewriteError::Mounted(_) | RewriteError::Gone { .. } => StatusCode::CONFLICT,
        RewriteError::Busy { .. } | RewriteError::Restless(_) => StatusCode::SERVICE_UNAVAILABLE,
        RewriteError::Lock { .. } | RewriteError::Read { .. } | RewriteError::Write(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    error(status, NOT_CHANGED, &cause.to_string())
}

// === impl Posted ===

impl Posted {
    fn order(self) -> Result<Order, String> {
        let Self { public_key, addresses, name } = self;
        let key: PeerKey = public_key.parse().map_err(|error| format!("public_key {error}"))?;
        Ok(Order::Set(Entry { key, addresses, name }))
    }
}
