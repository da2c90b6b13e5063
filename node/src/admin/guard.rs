//! Who may do what on `admin.listen`: each request passes here before any route sees it.
//!
//! Three paths, letter by letter, are open to everybody; whatever else is asked for needs a good token, whether there is such a route
//! or not. So no way of writing a path (doubled slashes, dots, percent signs) leads anywhere without one.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_http::ConnectionType;
use actix_http::error::PayloadError;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpMessage as _, HttpResponse};
use futures::{Stream, StreamExt};
use serde_json::{Map, Value};

use super::AdminState;
use super::connections::{Answering, Connection};
use super::gate::{Gate, Tokens};
use super::routes::{error, page};
use super::streams::{MAX_STREAMS, Place};
use super::token::{self, Misplaced};
use crate::config::sections::TokenSource;
use crate::jwt::TokenError;

/// Paths that need no token (contract: "Admin HTTP").
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The largest head of a request, in bytes: a token of the largest kind, and as much again for the rest, twice.
const MAX_HEAD: usize = 32 << 10;

/// How long the body of a request may take.
const BODY_WITHIN: Duration = Duration::from_secs(15);

/// The longest subject that is written into the audit log, in characters.
const MAX_SUBJECT: usize = 64;

/// Who asks, as the audit log names him. Put into the request's extensions.
#[derive(Clone, Debug)]
pub struct Actor(pub String);

/// Who asks, and where the node looks for tokens first: the page sends its own there.
type Admitted = (Actor, Option<TokenSource>);

/// A refusal.
struct Refused {
    answer: HttpResponse,
    why: String,
}

/// Lets a request through, or answers it.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> actix_web::Result<ServiceResponse<Counted>> {
    let (Some(gate), Some(connection)) =
        (request.app_data::<Data<Gate>>().cloned(), request.conn_data::<Arc<Connection>>().cloned())
    else {
        // Both are set where this is.
        return Err(actix_web::error::ErrorInternalServerError("a request without a connection"));
    };
    let answering = connection.begin();
    let late = Rc::new(Cell::new(false));
    let mut answer = match admit(&mut request, &gate, connection.peer) {
        Ok(None) => {
            // What is open to everybody reads no body of anybody.
            let has_body = !matches!(request.take_payload(), Payload::None);
            let mut answer = next.call(request).await?;
            if has_body {
                close(&mut answer);
            }
            answer
        }
        Ok(Some((actor, source))) => {
            request.extensions_mut().insert(actor);
            if let Some(source) = source {
                request.extensions_mut().insert(source);
            }
            let payload = request.take_payload();
            request.set_payload(in_time(payload, Rc::clone(&late)));
            let answer = next.call(request).await?;
            if late.get() {
                let text = format!("the body was not there within {} s", BODY_WITHIN.as_secs());
                answer.into_response(error(StatusCode::REQUEST_TIMEOUT, "Too slow", &text))
            } else {
                answer
            }
        }
        Err(refused) => {
            let answer = for_people(&request, &gate, *refused).await;
            let has_body = !matches!(request.take_payload(), Payload::None);
            let mut answer = request.into_response(answer);
            if has_body {
                // Nobody is going to read it.
                close(&mut answer);
            }
            answer
        }
    };
    let is_stream = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let place = is_stream.then(|| gate.streams.admit());
    if let Some(None) = place {
        let text = format!("{MAX_STREAMS} streams are open over TCP; end one, or use the socket");
        answer = answer.into_response(error(StatusCode::SERVICE_UNAVAILABLE, "Too many streams", &text));
    }
    if late.get() || connection.is_retired() || !gate.rules().is_of(connection.tls.as_ref()) {
        close(&mut answer);
    }
    Ok(answer.map_body(|_, body| Counted { body, _answering: answering, _place: place.flatten() }))
}

fn close(answer: &mut ServiceResponse) {
    answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
}

/// A refusal in the form that a browser shows, where one asks for the page: with the same code, and a field for a token.
async fn for_people(request: &ServiceRequest, gate: &Gate, refused: Refused) -> HttpResponse {
    let Refused { answer, why } = refused;
    let status = answer.status();
    let head = request.head();
    let is_page = [Method::GET, Method::HEAD].contains(&head.method) && head.uri.path() == "/";
    // Programs read the same JSON as everywhere.
    let is_browser = |accept: &HeaderValue| accept.to_str().is_ok_and(|accept| accept.contains("text/html"));
    let is_page = is_page && head.headers.get(ACCEPT).is_some_and(is_browser);
    let state = request.app_data::<Data<AdminState>>().filter(|_| is_page);
    let (Some(state), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) = (state, status) else {
        return answer;
    };
    let rules = gate.rules();
    let source = rules.tokens.as_ref().and_then(|tokens| tokens.sources.first());
    let mut page = page::closed(state, status, &why, source).await;
    if let Some(challenge) = answer.headers().get(WWW_AUTHENTICATE) {
        page.headers_mut().insert(WWW_AUTHENTICATE, challenge.clone());
    }
    page
}

/// Who it is, where that matters.
fn admit(
    request: &mut ServiceRequest,
    gate: &Gate,
    peer: SocketAddr,
) -> Result<Option<Admitted>, Box<Refused>> {
    let head = request.head();
    let line = head.uri.path_and_query().map_or(0, |text| text.as_str().len());
    let size =
        head.headers.iter().fold(line, |size, (name, value)| size + name.as_str().len() + value.len() + 4);
    if size > MAX_HEAD {
        let text = format!("the request's head has {size} bytes; at most {MAX_HEAD} are read");
        let answer = error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Head too large", &text);
        return Err(Box::new(Refused { answer, why: text }));
    }
    if OPEN.contains(&head.uri.path()) {
        return Ok(None);
    }
    let rules = gate.rules();
    let Some(Tokens { verifier, sources }) = &rules.tokens else {
        return Err(unauthorized(
            "this address serves /healthz, /readyz and /metrics alone; set admin.jwt, or use the socket",
            "Bearer",
        ));
    };
    let found = token::take(request, sources);
    let token = match found {
        Ok(Some(token)) => token,
        Ok(None) => {
            let text = format!("no token; send one as {}", token::places(sources));
            return Err(unauthorized(&text, "Bearer"));
        }
        Err(Misplaced(reason)) => return Err(bad(gate, peer.ip(), reason)),
    };
    match verifier.check(&token) {
        Ok(claims) => Ok(Some((Actor(format!("jwt:{} {peer}", subject(&claims))), sources.first().cloned()))),
        Err(TokenError::Bad(reason)) => Err(bad(gate, peer.ip(), reason)),
        Err(refused @ TokenError::Claim(_)) => {
            tracing::warn!(ip = %peer.ip(), reason = %refused, "admin_denied");
            let why = refused.to_string();
            let answer = error(StatusCode::FORBIDDEN, "Not allowed", &why);
            Err(Box::new(Refused { answer, why }))
        }
    }
}

/// 401, or 429 from the address that sends too many.
fn bad(gate: &Gate, from: IpAddr, reason: &str) -> Box<Refused> {
    let Err(wait) = gate.throttle.bad(from, Instant::now()) else {
        // As many as the throttle lets pass.
        tracing::warn!(ip = %from, reason, "admin_denied");
        return unauthorized(reason, "Bearer error=\"invalid_token\"");
    };
    // Whole seconds are all that the header knows (RFC 9110, 10.2.3).
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    let text = format!("too many bad tokens from {from}; a good one is welcome at any time ({reason})");
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "Too many bad tokens", &text);
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        answer.headers_mut().insert(RETRY_AFTER, value);
    }
    Box::new(Refused { answer, why: text })
}

fn unauthorized(reason: &str, challenge: &'static str) -> Box<Refused> {
    let mut answer = error(StatusCode::UNAUTHORIZED, "Not authorized", reason);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    Box::new(Refused { answer, why: reason.to_owned() })
}

/// `sub`, fit for one line of a log: short, and no character that could pretend to be another field.
fn subject(claims: &Map<String, Value>) -> String {
    let text = claims.get("sub").and_then(Value::as_str).unwrap_or("-");
    let fit = |char: char| char.is_alphanumeric() || "-_.@+/|".contains(char);
    text.chars().take(MAX_SUBJECT).map(|char| if fit(char) { char } else { '_' }).collect()
}

/// The body, which ends with an error where it does not come in time.
fn in_time(payload: Payload, late: Rc<Cell<bool>>) -> Payload {
    if matches!(payload, Payload::None) {
        return payload;
    }
    // A bound, not a wait: who sends no faster is answered 408.
    let deadline = Box::pin(tokio::time::sleep(BODY_WITHIN));
    let timed = futures::stream::unfold((payload, deadline), move |(mut payload, mut deadline)| {
        let late = Rc::clone(&late);
        async move {
            let chunk: Result<Bytes, PayloadError> = tokio::select! {
                biased;
                chunk = payload.next() => chunk?,
                () = &mut deadline => {
                    late.set(true);
                    Err(PayloadError::Incomplete(Some(std::io::ErrorKind::TimedOut.into())))
                }
            };
            Some((chunk, (payload, deadline)))
        }
    });
    let boxed: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> = Box::pin(timed);
    Payload::Stream { payload: boxed }
}

/// An answer's body, to whose end the request is under way.
pub(super) struct Counted {
    body: BoxBody,
    _answering: Answering,
    /// That of a stream.
    _place: Option<Place>,
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_stays_within_its_field() {
        let claims = |sub: Value| Map::from_iter([("sub".to_owned(), sub)]);
        assert_eq!(subject(&claims("ann@example.org".into())), "ann@example.org");
        assert_eq!(subject(&claims("a\n{\"outcome\": 1} uid:0".into())), "a___outcome___1__uid_0");
        assert_eq!(subject(&claims("x".repeat(1000).into())).len(), MAX_SUBJECT);
        assert_eq!(subject(&claims(7.into())), "-");
        assert_eq!(subject(&Map::new()), "-");
    }
}
