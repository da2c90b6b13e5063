//! `/`: the page.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};

use super::block::block;
use super::{AdminState, READ, error, only, read};
use crate::admin::page::{self, Shown, TokenPlace};
use crate::config::sections::TokenSource;

/// How many reloads it shows.
const RELOADS: usize = 30;

type State = Data<AdminState>;

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/").route(read().to(overview)).default_service(only(READ)));
}

async fn overview(state: State, request: HttpRequest) -> HttpResponse {
    // On the socket none is needed.
    let source = request.extensions().get::<TokenSource>().cloned();
    let (_, ready) = state.ready().await;
    let state = state.into_inner();
    let read = block(move || {
        let history = Arc::clone(&state.history);
        let attempts = history.audit_tail(RELOADS)?;
        Ok::<_, String>(page::open(
            &Shown { status: state.status(), ready, attempts },
            source.as_ref().map(place),
        ))
    });
    match read.await {
        Ok(Ok(html)) => respond(StatusCode::OK, html),
        Ok(Err(cause)) => error(StatusCode::INTERNAL_SERVER_ERROR, "The history cannot be read", &cause),
        Err(cause) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The page is not to be had", &cause.to_string())
        }
    }
}

/// The page for somebody who is not let in, and why: he may know whether the node is ready, and can show a token.
pub(in crate::admin) async fn closed(
    state: &AdminState,
    status: StatusCode,
    why: &str,
    source: Option<&TokenSource>,
) -> HttpResponse {
    let (_, ready) = state.ready().await;
    respond(status, page::closed(&ready, why, source.map(place)))
}

fn place(source: &TokenSource) -> TokenPlace<'_> {
    match source {
        TokenSource::Header(name) => TokenPlace::Header(name),
        TokenSource::Query(name) => TokenPlace::Query(name),
    }
}

/// The page, with what a browser may do with it.
fn respond(status: StatusCode, html: String) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((VARY, "Authorization"))
        .insert_header((CONTENT_SECURITY_POLICY, page::POLICY.as_str()))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(html)
}
