//! The sections that this crate owns, as checked values; [`super::logging`] has one more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use net::Identity;
use reload::Secret;
use serde_json::Value;
use storage::Digest;

/// The section `node`, without what the network actor and the history own of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSection {
    /// The key pair.
    pub identity: Identity,
    /// Where the key pair is kept, unless in `conf.yaml` itself.
    pub key_file: Option<PathBuf>,
    /// How long a graceful stop may take.
    pub shutdown_timeout: Duration,
}

/// Where the history is kept: what the history component owns of the section `node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistorySection {
    /// Generations, audit log, admin socket, pid. Absolute.
    pub data_dir: PathBuf,
}

/// The section `admin`, with the content of the files that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSection {
    /// The Unix socket, absolute.
    pub socket: PathBuf,
    /// The TCP address to serve HTTP on.
    pub listen: Option<SocketAddr>,
    /// HTTPS on `listen`.
    pub tls: Option<TlsSection>,
    /// Who may do what on `listen`.
    pub jwt: Option<JwtSection>,
}

/// The section `admin.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSection {
    /// The certificate chain, PEM.
    pub certificate: NamedFile,
    /// Its private key, PEM.
    pub private_key: NamedFile,
    /// Demands client certificates of these authorities, PEM.
    pub client_ca: Option<NamedFile>,
}

/// A file that `conf.yaml` names: its content belongs to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// What it holds.
    pub content: Secret<Arc<[u8]>>,
    /// Of the content.
    pub digest: Digest,
}

/// The section `admin.jwt` (O2).
#[derive(Clone, Debug, PartialEq)]
pub struct JwtSection {
    /// The only algorithm that is accepted.
    pub algorithm: JwtAlgorithm,
    /// What signatures are checked with.
    pub key: JwtKey,
    /// What a token must say; all of it.
    pub claims: Vec<Claim>,
    /// Where a token is looked for, in this order.
    pub sources: Vec<TokenSource>,
}

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Es256,
    EdDsa,
}

/// What a token's signature is checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKey {
    /// HS…: the secret as it stands in `conf.yaml`.
    Inline(Secret<Vec<u8>>),
    /// HS…: the secret of a file.
    SecretFile(NamedFile),
    /// The others: a public key, PEM.
    PublicKey(NamedFile),
}

/// One demand on a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The claim's name.
    pub claim: String,
    /// How it is compared.
    pub operator: ClaimOperator,
    /// With what; a list where the operator is `in`.
    pub value: Value,
}

/// How a claim is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOperator {
    /// The claim is the value.
    Equals,
    /// The claim is a list, or a text of words, with the value in it.
    Contains,
    /// The claim is one of the values.
    In,
}

/// Where a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A request header; from `Authorization` after `Bearer `.
    Header(String),
    /// A query parameter.
    Query(String),
}

/// The section `reload`: what the coordinator itself goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadSection {
    /// From the start of a transaction to rest (R14).
    pub budget: Duration,
    /// Whether the files are watched (R24).
    pub watch: bool,
    /// How long a watched file must stand still.
    pub settle: Duration,
    /// How many generations are kept.
    pub history: u32,
    /// Whether health is probed after a commit (R23).
    pub health_gate: bool,
}

// === impl AdminSection ===

impl AdminSection {
    /// Every file that the section names.
    pub fn files(&self) -> impl Iterator<Item = &NamedFile> {
        let tls = self.tls.iter().flat_map(|tls| {
            [Some(&tls.certificate), Some(&tls.private_key), tls.client_ca.as_ref()].into_iter().flatten()
        });
        let jwt = self.jwt.iter().filter_map(|jwt| match &jwt.key {
            JwtKey::Inline(_) => None,
            JwtKey::SecretFile(file) | JwtKey::PublicKey(file) => Some(file),
        });
        tls.chain(jwt)
    }
}

// === impl JwtAlgorithm ===

impl JwtAlgorithm {
    /// Every algorithm under its name in `conf.yaml`.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("ES256", Self::Es256),
        ("EdDSA", Self::EdDsa),
    ];

    /// Whether both sides share one secret.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

// === impl JwtKey ===

impl JwtKey {
    /// The bytes: a secret as it stands (without the line end of a secret file), or PEM.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(secret) => secret.expose(),
            Self::SecretFile(file) => super::files::without_line_end(file.content.expose()),
            Self::PublicKey(file) => file.content.expose(),
        }
    }
}

// === impl ClaimOperator ===

impl ClaimOperator {
    /// Every operator under its name in `conf.yaml`.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("equals", Self::Equals), ("contains", Self::Contains), ("in", Self::In)];
}

/// The name under which a value stands in such a table.
pub(super) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, candidate)| candidate == value).map_or("", |(name, _)| name)
}
