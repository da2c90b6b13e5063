//! TLS of the admin API: from the PEM files of `admin.tls` to a rustls configuration, and how long the certificate lasts.
//!
//! The provider is ring alone, TLS 1.2 and 1.3 as rustls chooses their suites. Nothing is resumed across a change: each
//! configuration has its own session store, so that a session of an authority that is not trusted any more is a new handshake.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::FromDer as _;

use crate::config::sections::{NamedFile, TlsSection};

/// The most certificates in one file: chains have three, authorities some dozens.
const MAX_CERTIFICATES: usize = 1024;

/// What `admin.tls` comes to.
#[derive(Clone)]
pub struct Tls {
    /// For handshakes.
    pub server: Arc<ServerConfig>,
    /// When the certificates of the chain are valid.
    pub validity: Validity,
}

/// When all certificates of a chain are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From the beginning of this second, Unix time.
    pub from: i64,
    /// To the end of this second, Unix time.
    pub to: i64,
}

/// What a certificate is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Not valid yet.
    TooYoung,
    /// Valid for so long.
    Valid(Duration),
    /// Valid no more.
    Expired,
}

/// Which of the files of `admin.tls` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `certificate`.
    Certificate,
    /// `private_key`.
    PrivateKey,
    /// `client_ca`.
    ClientCa,
}

/// Why the files of `admin.tls` cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("{cause}")]
    File {
        /// Which.
        part: Part,
        /// What is wrong, after the file's name.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Certificate and key are of two pairs.
    #[error("is not the key of the certificate")]
    Mismatch,
}

// === impl Tls ===

impl Tls {
    /// Reads the files' contents.
    ///
    /// # Errors
    /// If they cannot serve. That a certificate has expired is none: see [`Validity`].
    pub fn new(section: &TlsSection) -> Result<Self, TlsError> {
        let chain = certificates(&section.certificate, Part::Certificate)?;
        let validity = validity(&chain)?;
        let key = PrivateKeyDer::from_pem_slice(section.private_key.content.expose()).map_err(|_| {
            // Not the cause: it might quote the key.
            wrong(
                Part::PrivateKey,
                "holds no private key that can be read",
                "write an unencrypted PKCS #8 key in PEM",
            )
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(Part::Certificate, error, "this is a bug"))?;
        let builder = match &section.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file, Part::ClientCa)? {
                    roots.add(certificate).map_err(|error| {
                        wrong(Part::ClientCa, format!("holds no usable authority: {error}"), CHAIN)
                    })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| {
                    wrong(Part::ClientCa, format!("holds no usable authority: {error}"), CHAIN)
                })?)
            }
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
            rustls::Error::InvalidCertificate(_) => {
                wrong(Part::Certificate, format!("holds no usable certificate: {error}"), CHAIN)
            }
            _ => wrong(
                Part::PrivateKey,
                "holds no key of a kind that TLS knows",
                "use Ed25519, P-256, P-384 or RSA",
            ),
        })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { server: Arc::new(server), validity })
    }
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("validity", &self.validity).finish_non_exhaustive()
    }
}

const CHAIN: &str = "write the certificates in PEM, the server's own first";

fn wrong(part: Part, cause: impl fmt::Display, remedy: &'static str) -> TlsError {
    TlsError::File { part, cause: cause.to_string(), remedy }
}

fn certificates(file: &NamedFile, part: Part) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| wrong(part, format!("holds a certificate that cannot be read: {error}"), CHAIN);
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(file.content.expose()) {
        if chain.len() == MAX_CERTIFICATES {
            return Err(wrong(part, format!("holds more than {MAX_CERTIFICATES} certificates"), CHAIN));
        }
        chain.push(certificate.map_err(|error| unreadable(error.to_string()))?);
    }
    if chain.is_empty() { Err(wrong(part, "holds no certificate", CHAIN)) } else { Ok(chain) }
}

/// When all of them are valid.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, TlsError> {
    let mut all = Validity { from: i64::MIN, to: i64::MAX };
    for certificate in chain {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
            .map_err(|_| wrong(Part::Certificate, "holds what is no X.509 certificate", CHAIN))?;
        let validity = parsed.validity();
        all.from = all.from.max(validity.not_before.timestamp());
        all.to = all.to.min(validity.not_after.timestamp());
    }
    Ok(all)
}

/// When the chain of this section is valid; `None` where it cannot be read.
#[must_use]
pub fn validity_of(section: &TlsSection) -> Option<Validity> {
    validity(&certificates(&section.certificate, Part::Certificate).ok()?).ok()
}

/// When each authority that signs clients' certificates is valid; none where they cannot be read.
#[must_use]
pub fn authorities_of(section: &TlsSection) -> Vec<Validity> {
    let file = section.client_ca.as_ref();
    let read = file.and_then(|file| certificates(file, Part::ClientCa).ok()).unwrap_or_default();
    read.into_iter().filter_map(|certificate| validity(&[certificate]).ok()).collect()
}

// === impl Validity ===

impl Validity {
    /// How old a chain is.
    #[must_use]
    pub fn at(&self, now: SystemTime) -> Age {
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        if now < self.from {
            return Age::TooYoung;
        }
        match u64::try_from(self.to.saturating_sub(now)) {
            Ok(left) => Age::Valid(Duration::from_secs(left)),
            Err(_) => Age::Expired,
        }
    }

    /// The last second, for people.
    #[must_use]
    pub fn end(&self) -> String {
        time(self.to)
    }

    /// The first second, for people.
    #[must_use]
    pub fn begin(&self) -> String {
        time(self.from)
    }
}

fn time(unix: i64) -> String {
    let since = u64::try_from(unix).unwrap_or(0);
    // What humantime can write ends with the year 9999.
    let time = UNIX_EPOCH + Duration::from_secs(since.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_as_old_as_its_members_allow() {
        let validity = Validity { from: 100, to: 200 };
        let at = |unix| validity.at(UNIX_EPOCH + Duration::from_secs(unix));
        assert_eq!(at(99), Age::TooYoung);
        assert_eq!(at(100), Age::Valid(Duration::from_secs(100)));
        assert_eq!(at(200), Age::Valid(Duration::ZERO));
        assert_eq!(at(201), Age::Expired);
        assert_eq!(validity.end(), "1970-01-01T00:03:20Z");
    }
}
