//! What the TCP side of the API goes by: one immutable value behind an atomic pointer, read by each handshake and each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::streams::Streams;
use super::throttle::Throttle;
use super::tls::{Age, Tls, TlsError};
use crate::config::AdminSection;
use crate::config::sections::{TlsSection, TokenSource};
use crate::jwt::{KeyError, Verifier};

/// The rules in force, and what is remembered across their changes.
#[derive(Debug, Default)]
pub struct Gate {
    rules: ArcSwap<Rules>,
    /// Bad tokens, by address.
    pub throttle: Throttle,
    /// Answers without an end.
    pub streams: Streams,
}

/// What `admin.listen`, `admin.tls` and `admin.jwt` come to.
#[derive(Debug, Default)]
pub struct Rules {
    /// Where it is served.
    pub listen: Option<SocketAddr>,
    /// Whether by TLS.
    pub tls: Option<Tls>,
    /// Whether anything but health and metrics is served, and to whom.
    pub tokens: Option<Tokens>,
    /// What the TLS was made of.
    made_of: Option<TlsSection>,
}

/// Which tokens are good, and where they are looked for.
#[derive(Debug)]
pub struct Tokens {
    /// Which.
    pub verifier: Verifier,
    /// Where, in this order.
    pub sources: Vec<TokenSource>,
}

/// Why a section cannot be put in force. The configuration's own judgement has found it before.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// `admin.tls`.
    #[error("admin.tls: {0}")]
    Tls(#[from] TlsError),
    /// `admin.jwt`.
    #[error("admin.jwt: {0}")]
    Jwt(#[from] KeyError),
}

// === impl Gate ===

impl Gate {
    /// The rules that are in force now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Puts others in force.
    pub fn set(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// What is wrong with the certificate that is served now, if anything.
    #[must_use]
    pub fn trouble(&self, now: SystemTime) -> Option<String> {
        let rules = self.rules.load();
        let tls = rules.tls.as_ref().filter(|_| rules.listen.is_some())?;
        match tls.validity.at(now) {
            Age::Valid(_) => None,
            Age::Expired => {
                Some(format!("the certificate of admin.tls has expired on {}", tls.validity.end()))
            }
            Age::TooYoung => {
                Some(format!("the certificate of admin.tls is not valid before {}", tls.validity.begin()))
            }
        }
    }
}

// === impl Rules ===

impl Rules {
    /// The rules of a section. What is as in `before` is shared with it: connections under the same TLS are not old ones.
    ///
    /// # Errors
    /// If certificate, key or secret cannot serve.
    pub fn new(section: &AdminSection, before: &Self) -> Result<Self, RulesError> {
        let tls = match &section.tls {
            Some(tls) if before.made_of.as_ref() == Some(tls) => before.tls.clone(),
            Some(tls) => Some(Tls::new(tls)?),
            None => None,
        };
        let tokens = match &section.jwt {
            Some(jwt) => Some(Tokens { verifier: Verifier::new(jwt)?, sources: jwt.sources.clone() }),
            None => None,
        };
        Ok(Self { listen: section.listen, tls, tokens, made_of: section.tls.clone() })
    }

    /// Whether a connection that was accepted under this TLS is of the rules in force.
    #[must_use]
    pub fn is_of(&self, accepted: Option<&Arc<ServerConfig>>) -> bool {
        match (&self.tls, accepted) {
            (Some(tls), Some(accepted)) => Arc::ptr_eq(&tls.server, accepted),
            (tls, accepted) => tls.is_none() && accepted.is_none(),
        }
    }
}
