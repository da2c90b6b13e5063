//! The section `admin` of `conf.yaml` (O2). The files that it names are read here: their content is configuration.

use std::path::Path;

use net::Endpoint;
use reload::Secret;
use storage::document::{Node, Section};

use super::certificates;
use super::files::{self, named, named_pem, without_line_end};
use super::listen::socket_address;
use super::sections::{
    AdminSection, Claim, ClaimOperator, JwtAlgorithm, JwtKey, JwtSection, TlsSection, TokenSource,
};

/// The longest path of a Unix socket that Linux takes (`sun_path`, with its closing NUL).
const MAX_SOCKET_PATH: usize = 107;

/// The shortest shared secret, in bytes: as long as the shortest hash (RFC 7518, 3.2).
const MIN_SECRET: usize = 32;

/// The most claims and token sources, each: all are looked at for every request.
const MAX_RULES: usize = 32;

/// Decodes the section.
pub(super) fn section(
    section: Section<'_>,
    folder: &Path,
    data_dir: &Path,
    listeners: &mut Vec<(String, Endpoint)>,
) -> AdminSection {
    let socket_node = section.key("socket");
    let socket = files::path_of(&socket_node, data_dir).unwrap_or_else(|| data_dir.join("admin.sock"));
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let message = format!("{} has {length} bytes, too long for a socket", socket.display());
        socket_node.refuse(
            message,
            format!("at most {MAX_SOCKET_PATH}: write a short absolute path, as /run/fednode.sock"),
        );
    }
    let listen_node = section.key("listen").nullable();
    let listen = socket_address(&listen_node, "127.0.0.1:9100");
    listeners.extend(listen.map(|address| (listen_node.path(), Endpoint::tcp(address))));
    let tls_node = section.key("tls").nullable();
    let tls = if tls_node.is_given() { tls(tls_node.section(), folder) } else { None };
    let jwt_node = section.key("jwt").secret().nullable();
    let jwt = if jwt_node.is_given() { jwt(jwt_node.section(), folder) } else { None };
    section.finish();
    AdminSection { socket, listen, tls, jwt }
}

fn tls(section: Section<'_>, folder: &Path) -> Option<TlsSection> {
    let certificate_node = section.key("certificate").required("cert.pem");
    let private_key_node = section.key("private_key").required("key.pem");
    let client_ca_node = section.key("client_ca").nullable();
    let certificate = named_pem(&certificate_node, folder, files::CERTIFICATE);
    let private_key = named_pem(&private_key_node, folder, files::PRIVATE_KEY);
    let client_ca = named_pem(&client_ca_node, folder, files::CERTIFICATE);
    section.finish();
    let client_ca_is_wrong = client_ca_node.is_given() && client_ca.is_none();
    let section = TlsSection { certificate: certificate?, private_key: private_key?, client_ca };
    if !client_ca_is_wrong {
        let files = certificates::Files {
            certificate: &certificate_node,
            private_key: &private_key_node,
            client_ca: &client_ca_node,
        };
        certificates::judge_tls(&section, &files);
    }
    Some(section)
}

fn jwt(section: Section<'_>, folder: &Path) -> Option<JwtSection> {
    let algorithm = section.key("algorithm").required("HS256").one_of(JwtAlgorithm::NAMES);
    let public = section.key("public_key_file").nullable();
    let key = algorithm.and_then(|algorithm| key(&section, &public, folder, algorithm));
    let claims = claims(&section.key("claims"));
    let sources = sources(&section.key("sources"));
    if algorithm.is_none() {
        // Which of them is right depends on the algorithm; none is unknown.
        for name in ["secret", "secret_file"] {
            let _ = section.key(name);
        }
    }
    section.finish();
    let jwt = JwtSection { algorithm: algorithm?, key: key?, claims, sources };
    if let JwtKey::PublicKey(_) = &jwt.key {
        certificates::judge_key(&jwt, &public);
    }
    Some(jwt)
}

fn key(section: &Section<'_>, public: &Node<'_>, folder: &Path, algorithm: JwtAlgorithm) -> Option<JwtKey> {
    let secret = section.key("secret").secret().nullable();
    let secret_file = section.key("secret_file").nullable();
    if algorithm.is_shared() {
        if public.is_given() {
            public.refuse("is for RS256, ES256 and EdDSA", "this algorithm takes `secret` or `secret_file`");
        }
        if secret_file.is_given() {
            if secret.is_given() {
                secret_file.refuse("is given as well as secret", "keep one of the two");
            }
            let file = named(&secret_file, folder)?;
            long_enough(&secret_file, without_line_end(file.content.expose()))?;
            return Some(JwtKey::SecretFile(file));
        }
        let text = secret.required("<32 bytes or more>").text()?;
        long_enough(&secret, text.as_bytes())?;
        return Some(JwtKey::Inline(Secret::new(text.as_bytes().to_vec())));
    }
    for shared in [&secret, &secret_file] {
        if shared.is_given() {
            shared.refuse("is for HS256, HS384 and HS512", "this algorithm takes `public_key_file`");
        }
    }
    named_pem(&public.required("key.pem"), folder, files::PUBLIC_KEY).map(JwtKey::PublicKey)
}

fn long_enough(node: &Node<'_>, secret: &[u8]) -> Option<()> {
    if secret.len() < MIN_SECRET {
        node.refuse(
            format!("the secret has {} bytes", secret.len()),
            format!("at least {MIN_SECRET}, as `openssl rand -base64 32` prints them"),
        );
        return None;
    }
    Some(())
}

fn claims(list: &Node<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    for item in list.items() {
        let entry = item.section();
        let claim = entry.key("claim").required("role").filled();
        let operator = entry.key("operator").required("equals").one_of(ClaimOperator::NAMES);
        let value_node = entry.key("value").required("admin");
        let value = operator.and_then(|operator| claim_value(&value_node, operator));
        entry.finish();
        if let (Some(claim), Some(operator), Some(value)) = (claim, operator, value) {
            claims.push(Claim { claim: claim.to_owned(), operator, value });
        }
    }
    bounded(list, claims.len());
    claims
}

fn claim_value(node: &Node<'_>, operator: ClaimOperator) -> Option<serde_json::Value> {
    let value = serde_json::to_value(node.value()?).ok()?;
    let is_plain = |value: &serde_json::Value| value.is_string() || value.is_number() || value.is_boolean();
    let (good, hint) = match operator {
        ClaimOperator::In => (
            value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_plain)),
            "`in` takes a list, as [admin, operator]",
        ),
        ClaimOperator::Equals | ClaimOperator::Contains => {
            (is_plain(&value), "write a text, a number, true or false")
        }
    };
    if !good {
        node.refuse(format!("{} is no value for this operator", node.shown()), hint);
        return None;
    }
    Some(value)
}

fn sources(list: &Node<'_>) -> Vec<TokenSource> {
    let mut sources = Vec::new();
    let mut wrong = false;
    for item in list.items() {
        let entry = item.section();
        let (header, query) = (entry.key("header").nullable(), entry.key("query").nullable());
        let source = match (header.is_given(), query.is_given()) {
            (true, false) => token(&header, is_header).map(TokenSource::Header),
            (false, true) => {
                token(&query, |name| !name.contains(['&', '=', '#', ' '])).map(TokenSource::Query)
            }
            _ if entry.is_given() => {
                item.refuse("names no single place", "write {header: NAME} or {query: NAME}");
                None
            }
            _ => None,
        };
        entry.finish();
        wrong |= source.is_none();
        sources.extend(source);
    }
    bounded(list, sources.len());
    if sources.is_empty() && !wrong {
        sources.push(TokenSource::Header("Authorization".to_owned()));
    }
    sources
}

fn token(node: &Node<'_>, good: impl Fn(&str) -> bool) -> Option<String> {
    let name = node.filled()?;
    if !good(name) || name.len() > 128 {
        node.refuse(
            format!("{} is no such name", node.shown()),
            "write it as {header: X-Token} or {query: token}",
        );
        return None;
    }
    Some(name.to_owned())
}

/// A field name of HTTP (RFC 9110, 5.1).
fn is_header(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn bounded(list: &Node<'_>, count: usize) {
    if count > MAX_RULES {
        list.refuse(format!("has {count} entries"), format!("at most {MAX_RULES}"));
    }
}
