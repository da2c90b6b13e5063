//! `/`: the page.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Data, ServiceConfig};

use super::{AdminState, error, only};
use crate::admin::page::{self, Shown};

/// How many reloads it shows.
const RELOADS: usize = 30;

type State = Data<AdminState>;

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/").get(overview).default_service(only("GET")));
}

async fn overview(state: State) -> HttpResponse {
    let (_, ready) = state.ready().await;
    let state = state.into_inner();
    let read = web::block(move || {
        let history = Arc::clone(&state.history);
        let attempts = history.audit_tail(RELOADS)?;
        Ok::<_, String>(page::open(&Shown { status: state.status(), ready, attempts }, None))
    });
    match read.await {
        Ok(Ok(html)) => respond(StatusCode::OK, html),
        Ok(Err(cause)) => error(StatusCode::INTERNAL_SERVER_ERROR, "The history cannot be read", &cause),
        Err(cause) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "The page is not to be had", &cause.to_string())
        }
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
