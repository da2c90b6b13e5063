//! Tokens of the admin API (O2): JSON Web Tokens (RFC 7519), signed with the one algorithm that the configuration names.
//!
//! What a token says of its algorithm is never a choice: one that names another than `admin.jwt.algorithm` is refused before any
//! key is looked at (RFC 8725, 3.1), so that neither `none` nor a public key taken for a shared secret comes through.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::config::sections::{Claim, ClaimOperator, JwtAlgorithm, JwtKey, JwtSection};

/// How far the clocks of whoever makes tokens and of this node may be apart, in seconds (RFC 7519, 4.1.4).
pub const LEEWAY: u64 = 30;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 << 10;

/// The shortest RSA key, in bits (RFC 7518, 3.3).
const MIN_RSA: usize = 2048;

/// Checks tokens as one section `admin.jwt` demands.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    claims: Vec<Claim>,
}

/// Why a key cannot check signatures of its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key of the algorithm's kind.
    #[error("holds no {kind} public key")]
    Kind {
        /// The kind that the algorithm takes.
        kind: &'static str,
    },
    /// An RSA key that is too short to be trusted.
    #[error("holds an RSA key of {bits} bits; at least {MIN_RSA} are needed")]
    Short {
        /// Its length.
        bits: usize,
    },
}

/// Why a token is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It proves nothing: malformed, wrongly signed, or not valid now. The text holds nothing of the token.
    #[error("{0}")]
    Bad(&'static str),
    /// It is genuine, and does not say what the configuration demands.
    #[error("the claim {0:?} is not what admin.jwt.claims demands")]
    Claim(String),
}

/// What the header says that is not the signature's own matter.
#[derive(Deserialize)]
struct Critical {
    crit: Option<Value>,
}

// === impl Verifier ===

impl Verifier {
    /// A verifier for this section.
    ///
    /// # Errors
    /// If its key is none of its algorithm.
    pub fn new(section: &JwtSection) -> Result<Self, KeyError> {
        let key = decoding_key(section.algorithm, &section.key)?;
        let mut validation = Validation::new(algorithm(section.algorithm));
        validation.leeway = LEEWAY;
        validation.validate_exp = true;
        validation.validate_nbf = true;
        // Whom it is meant for is one of the claims, where the configuration asks for it.
        validation.validate_aud = false;
        Ok(Self { key, validation, claims: section.claims.clone() })
    }

    /// Checks a token; returns what it says.
    ///
    /// # Errors
    /// If it is not good.
    pub fn check(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Bad("the token is larger than 8 KiB"));
        }
        // An extension that must be understood is not (RFC 7515, 4.1.11).
        if critical(token).is_some_and(|header| header.crit.is_some()) {
            return Err(TokenError::Bad("the token's header has `crit`, and no extension is known here"));
        }
        let token = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation)
            .map_err(|error| TokenError::Bad(reason(error.kind())))?;
        match self.claims.iter().find(|rule| !rule.is_met(token.claims.get(&rule.claim))) {
            None => Ok(token.claims),
            Some(rule) => Err(TokenError::Claim(rule.claim.clone())),
        }
    }
}

impl std::fmt::Debug for Verifier {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key: _, validation, claims } = self;
        f.debug_struct("Verifier")
            .field("algorithms", &validation.algorithms)
            .field("claims", claims)
            .finish()
    }
}

// === impl Claim ===

impl Claim {
    /// Whether a token that says this, or nothing, under the claim's name meets the rule.
    ///
    /// `equals`: the same text, number or truth value. `contains`: a list with the value in it, or a text with it as one of its
    /// words (as OAuth writes `scope`, RFC 8693, 4.2). `in`: one of the values, or a list with one of them in it.
    #[must_use]
    pub fn is_met(&self, said: Option<&Value>) -> bool {
        let Some(said) = said else { return false };
        match self.operator {
            ClaimOperator::Equals => same(said, &self.value),
            ClaimOperator::Contains => match (said, &self.value) {
                (Value::Array(list), value) => list.iter().any(|item| same(item, value)),
                (Value::String(text), Value::String(word)) => {
                    text == word || text.split_ascii_whitespace().any(|each| each == word)
                }
                _ => false,
            },
            ClaimOperator::In => {
                let values = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
                let is_one = |said: &Value| values.iter().any(|value| same(said, value));
                match said {
                    Value::Array(list) => list.iter().any(is_one),
                    said => is_one(said),
                }
            }
        }
    }
}

/// Equal plain values; `1` and `1.0` are one number, as in JSON.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

/// The algorithm under the library's name.
#[must_use]
pub const fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs384 => Algorithm::HS384,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn decoding_key(algorithm: JwtAlgorithm, key: &JwtKey) -> Result<DecodingKey, KeyError> {
    let bytes = key.bytes();
    match algorithm {
        JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512 => {
            Ok(DecodingKey::from_secret(bytes))
        }
        JwtAlgorithm::Rs256 => {
            let error = KeyError::Kind { kind: "RSA" };
            let key = DecodingKey::from_rsa_pem(bytes).map_err(|_| error)?;
            match rsa_bits(key.try_get_as_bytes().map_err(|_| error)?) {
                Some(bits) if bits < MIN_RSA => Err(KeyError::Short { bits }),
                Some(_) => Ok(key),
                None => Err(error),
            }
        }
        JwtAlgorithm::Es256 => {
            let error = KeyError::Kind { kind: "P-256" };
            let key = DecodingKey::from_ec_pem(bytes).map_err(|_| error)?;
            // P-256 uncompressed (RFC 5480, 2.2); a point of another curve has another length.
            let point = key.try_get_as_bytes().map_err(|_| error)?;
            if point.len() == 65 && point.first() == Some(&4) { Ok(key) } else { Err(error) }
        }
        JwtAlgorithm::EdDsa => {
            let error = KeyError::Kind { kind: "Ed25519" };
            let key = DecodingKey::from_ed_pem(bytes).map_err(|_| error)?;
            let point = key.try_get_as_bytes().map_err(|_| error)?;
            if point.len() == 32 { Ok(key) } else { Err(error) }
        }
    }
}

/// How long the modulus of a key is, given as PKCS #1 has it (RFC 8017, A.1.1) or wrapped as X.509 does.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let size = |key: PublicKey<'_>| match key {
        PublicKey::RSA(key) => {
            let modulus = key.modulus.iter().position(|byte| *byte != 0).map(|at| &key.modulus[at..])?;
            let first = modulus.first()?;
            Some(modulus.len() * 8 - first.leading_zeros() as usize)
        }
        _ => None,
    };
    if let Ok((_, info)) = SubjectPublicKeyInfo::from_der(der) {
        return info.parsed().ok().and_then(size);
    }
    let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(der).ok()?;
    size(PublicKey::RSA(key))
}

/// The header, as far as the library does not judge it. `None` where there is none: the library says so in a moment.
fn critical(token: &str) -> Option<Critical> {
    use base64::Engine as _;
    let (header, _) = token.split_once('.')?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).ok()?;
    serde_json::from_slice(&bytes).ok()
}

const fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::MissingRequiredClaim(_) => "the token has no `exp`",
        ErrorKind::InvalidClaimFormat(_) => "the token's `exp` or `nbf` is no time",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token is not signed with the algorithm that admin.jwt names"
        }
        ErrorKind::InvalidSignature => "the token's signature is not of the key in admin.jwt",
        _ => "this is no token",
    }
}

#[cfg(test)]
mod tests;
