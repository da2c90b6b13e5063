//! Where a token is found in a request: the places that `admin.jwt.sources` names, in their order.

use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;
use actix_web::http::header::AUTHORIZATION;
use actix_web::http::uri::PathAndQuery;
use actix_web::web::Query;

use crate::config::sections::TokenSource;

/// A token is there, and cannot be taken for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misplaced(pub(super) &'static str);

/// Takes the token out of the first place that holds one. Parameters that may hold one are taken out of the query in any case: no route
/// and no log line sees them.
pub(super) fn take(
    request: &mut ServiceRequest,
    sources: &[TokenSource],
) -> Result<Option<String>, Misplaced> {
    let mut found = None;
    for source in sources {
        let here = match source {
            TokenSource::Header(name) => in_header(request, name)?,
            TokenSource::Query(name) => out_of_query(request, name)?,
        };
        found = found.or(here);
    }
    Ok(found)
}

/// The places, for whoever sent none.
pub(super) fn places(sources: &[TokenSource]) -> String {
    let place = |source: &TokenSource| match source {
        TokenSource::Header(name) if name.eq_ignore_ascii_case("authorization") => {
            "`Authorization: Bearer TOKEN`".to_owned()
        }
        TokenSource::Header(name) => format!("`{name}: TOKEN`"),
        TokenSource::Query(name) => format!("`?{name}=TOKEN`"),
    };
    sources.iter().map(place).collect::<Vec<_>>().join(" or ")
}

fn in_header(request: &ServiceRequest, name: &str) -> Result<Option<String>, Misplaced> {
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Misplaced("two headers hold a token; which one counts is nobody's guess"));
    }
    let text = value.to_str().map_err(|_| Misplaced("this is no token"))?.trim();
    let bearer = |text: &str| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let text = if bearer(text) { text[7..].trim_start() } else { text };
    // Another scheme's credentials may be for a proxy on the way, and the token in another place.
    let is_other = name.eq_ignore_ascii_case(AUTHORIZATION.as_str()) && text.contains(' ');
    Ok((!text.is_empty() && !is_other).then(|| text.to_owned()))
}

fn out_of_query(request: &mut ServiceRequest, name: &str) -> Result<Option<String>, Misplaced> {
    let query = request.query_string();
    if query.is_empty() {
        return Ok(None);
    }
    let pieces: Vec<&str> = query.split('&').collect();
    let (mut kept, mut found) = (Vec::new(), Vec::new());
    for piece in &pieces {
        let parsed = Query::<Vec<(String, String)>>::from_query(piece).map(Query::into_inner);
        match parsed.ok().and_then(|mut pairs| pairs.pop()).filter(|(key, _)| key == name) {
            Some((_, value)) => found.push(value),
            None => kept.push(*piece),
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let text = if kept.is_empty() {
        request.path().to_owned()
    } else {
        format!("{}?{}", request.path(), kept.join("&"))
    };
    let without: PathAndQuery = text.parse().map_err(|_| Misplaced("the query cannot be read"))?;
    request.head_mut().uri = Uri::from(without);
    let token = found.pop().filter(|token| !token.is_empty());
    if found.is_empty() {
        Ok(token)
    } else {
        Err(Misplaced("the query holds two tokens; which one counts is nobody's guess"))
    }
}
