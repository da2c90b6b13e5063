//! The page at `/` of the admin server: what an operator wants to see at a glance (O1), in one document.
//!
//! All of it is written here, in Rust, so that it says the same without its script. The script only asks for the page again when
//! something happens, and carries the token, which a browser does not do by itself.

mod overview;
mod timeline;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("page/style.css");

const SCRIPT: &str = include_str!("page/script.js");

/// What the browser may do with the page: run this script, use this style, ask this server. Neither a member's name nor an error's
/// text can add to that, whatever is in them, and nobody can put the page into a frame of theirs.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE),
    )
});

/// The values that the page shows, as the API answers them.
pub(super) struct Shown {
    /// `GET /admin/status`.
    pub(super) status: Value,
    /// `GET /readyz`.
    pub(super) ready: Value,
    /// The last attempts of `GET /admin/history`, newest first.
    pub(super) attempts: Vec<Value>,
}

/// Where a token is looked for: what the script sends it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenPlace<'a> {
    /// In this header.
    Header(&'a str),
    /// In this parameter of the address.
    Query(&'a str),
}

/// The page for somebody who may see it.
pub(super) fn open(shown: &Shown, token: Option<TokenPlace<'_>>) -> String {
    let name = overview::name(&shown.status);
    let body = html! {
        (overview::header(&shown.status))
        (overview::alarms(&shown.status, &shown.ready))
        (overview::figures(&shown.status))
        (overview::actions(&shown.status))
        (timeline::reloads(&shown.attempts))
        (overview::members(&shown.status))
        (overview::the_rest(&shown.status, &shown.ready))
    };
    document(&name, &body, token, true)
}

/// The page for somebody who has shown no token, or one that does not count: whether the node is ready, which anybody may know.
pub(super) fn closed(ready: &Value, why: &str, token: Option<TokenPlace<'_>>) -> String {
    let body = html! {
        header { h1 { "fednode" } p.sub { (overview::text(ready, "version")) } }
        (overview::health(ready))
        p { (why) }
    };
    document("fednode", &body, token, false)
}

fn document(title: &str, body: &Markup, token: Option<TokenPlace<'_>>, open: bool) -> String {
    let (place, name) = match token {
        Some(TokenPlace::Header(name)) => ("header", name),
        Some(TokenPlace::Query(name)) => ("query", name),
        None => ("", ""),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                noscript { meta http-equiv="refresh" content="10"; }
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body data-token-place=(place) data-token-name=(name) {
                // Of no use without the script, which shows it.
                form #token hidden {
                    label for="token-value" { "Token" }
                    input #token-value type="password" autocomplete="off" spellcheck="false" placeholder="fednode token";
                    button { "Use" }
                    button type="button" #forget { "Forget" }
                    span #live role="status" {}
                }
                noscript { p.sub { "Without script this page is as of now, and comes anew every ten seconds." } }
                main data-open=(open) { (body) }
                pre #answer hidden {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

#[cfg(test)]
mod tests;
