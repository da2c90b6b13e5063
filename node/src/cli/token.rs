//! `fednode token`: a JSON Web Token (RFC 7519) that the node's own admin API takes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};
use storage::document::units::Span;

use super::{Common, REFUSED, print, print_json};
use crate::config::sections::{Claim, ClaimOperator, JwtAlgorithm, JwtKey, JwtSection};
use crate::config::{self, Config, LoadOptions};

/// The longest time that a token may be good for: a year. One that leaks is good for as long.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The largest private key that is read, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// A claim as it is given: `role=admin`.
#[derive(Clone, Debug)]
pub(super) struct Given(String, Value);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("admin.jwt in {} is null: no token is asked for (write one, as {{algorithm: HS256, secret_file: jwt.secret}})", .0.display())]
    NoSection(PathBuf),
    #[error("admin.jwt has only the public half of the key: name the private one with --key FILE (PEM)")]
    NoKey,
    #[error("--key is for RS256, ES256 and EdDSA: with {0} the secret of admin.jwt signs (leave --key out)")]
    Shared(&'static str),
    #[error("{}: cannot be read: {cause} (name the private key with --key)", .path.display())]
    Read { path: PathBuf, cause: storage::document::ReadError },
    #[error("{}: is no private key for {algorithm}: {cause} (write it as PKCS #8: openssl pkcs8 -topk8 -nocrypt -in FILE)", .path.display())]
    Key { path: PathBuf, algorithm: &'static str, cause: jsonwebtoken::errors::Error },
    #[error("{}: is not the private half of {} (admin.jwt.public_key_file): the node would refuse its tokens", .path.display(), .public.display())]
    OtherHalf { path: PathBuf, public: PathBuf },
    #[error("the claim {0} is set by --ttl (leave it out)")]
    Reserved(String),
    #[error("the claim {0} is given twice (give it once; a list is written as JSON)")]
    Twice(String),
    #[error("admin.jwt.claims demands of {claim} to be {what}: say which with --claim {claim}=VALUE")]
    Undecided { claim: String, what: String },
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// A token and what is in it.
struct Minted {
    token: String,
    claims: Map<String, Value>,
}

/// Mints a token and prints it.
pub(super) fn token(common: &Common, given: &[Given], ttl: Span, key: Option<&Path>) -> ExitCode {
    let path = common.config();
    let loaded = match Config::load(&path, None, LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(rejection) => {
            eprintln!("{}", config::problems_text(&rejection.problems));
            return ExitCode::from(REFUSED);
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let minted = match &loaded.config.admin.jwt {
        Some(section) => mint(section, given, ttl.0, now, key),
        None => Err(TokenError::NoSection(path)),
    };
    match minted {
        Ok(Minted { token, claims }) if common.json => {
            print_json(&json!({"token": token, "expires": claims.get("exp"), "claims": claims}));
        }
        Ok(minted) => print(&format!("{}\n", minted.token)),
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::from(REFUSED);
        }
    }
    ExitCode::SUCCESS
}

/// `name=value` of the command line.
pub(super) fn given(text: &str) -> Result<Given, String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() {
        return Err("has no name: write it as NAME=VALUE".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok(Given(name.to_owned(), value))
}

/// A time to live that is worth something: `exp` counts whole seconds.
pub(super) fn ttl(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if (Duration::from_secs(1)..=LONGEST).contains(&span.0) {
        return Ok(span);
    }
    Err(format!("from 1s to {}", Span(LONGEST)))
}

fn mint(
    section: &JwtSection,
    given: &[Given],
    ttl: Duration,
    now: u64,
    key: Option<&Path>,
) -> Result<Minted, TokenError> {
    let mut claims = Map::new();
    for Given(name, value) in given {
        if name == "exp" {
            return Err(TokenError::Reserved(name.clone()));
        }
        if claims.insert(name.clone(), value.clone()).is_some() {
            return Err(TokenError::Twice(name.clone()));
        }
    }
    demanded(&section.claims, &mut claims)?;
    let sub = format!("uid:{}", rustix::process::getuid().as_raw());
    claims.entry("sub").or_insert_with(|| sub.into());
    claims.entry("iat").or_insert_with(|| now.into());
    claims.insert("exp".to_owned(), now.saturating_add(ttl.as_secs()).into());
    let (algorithm, name) = algorithm(section.algorithm);
    let signing = signing_key(section, name, key)?;
    let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &signing)?;
    if let (JwtKey::PublicKey(public), Some(path)) = (&section.key, key)
        && !is_good(&token, algorithm, &public.content)
    {
        return Err(TokenError::OtherHalf { path: path.to_owned(), public: public.path.clone() });
    }
    Ok(Minted { token, claims })
}

/// Adds what the rules demand where there is one way to satisfy them; what was given stays.
fn demanded(rules: &[Claim], claims: &mut Map<String, Value>) -> Result<(), TokenError> {
    let given: Vec<String> = claims.keys().cloned().collect();
    for Claim { claim, operator, value } in rules.iter().filter(|rule| !given.contains(&rule.claim)) {
        let is_new = !claims.contains_key(claim);
        match (operator, value.as_array().map(Vec::as_slice)) {
            (ClaimOperator::Equals, _) => drop(claims.insert(claim.clone(), value.clone())),
            (ClaimOperator::In, Some([only])) => drop(claims.insert(claim.clone(), only.clone())),
            // Several of these are one list.
            (ClaimOperator::Contains, _) => {
                let list = claims.entry(claim.clone()).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(value.clone());
                }
            }
            (ClaimOperator::In, _) if is_new => {
                let what = format!("one of {value}");
                return Err(TokenError::Undecided { claim: claim.clone(), what });
            }
            (ClaimOperator::In, _) => {}
        }
    }
    Ok(())
}

const fn algorithm(algorithm: JwtAlgorithm) -> (Algorithm, &'static str) {
    match algorithm {
        JwtAlgorithm::Hs256 => (Algorithm::HS256, "HS256"),
        JwtAlgorithm::Hs384 => (Algorithm::HS384, "HS384"),
        JwtAlgorithm::Hs512 => (Algorithm::HS512, "HS512"),
        JwtAlgorithm::Rs256 => (Algorithm::RS256, "RS256"),
        JwtAlgorithm::Es256 => (Algorithm::ES256, "ES256"),
        JwtAlgorithm::EdDsa => (Algorithm::EdDSA, "EdDSA"),
    }
}

fn signing_key(
    section: &JwtSection,
    name: &'static str,
    key: Option<&Path>,
) -> Result<EncodingKey, TokenError> {
    if section.algorithm.is_shared() {
        return match key {
            Some(_) => Err(TokenError::Shared(name)),
            None => Ok(EncodingKey::from_secret(section.key.bytes())),
        };
    }
    let path = key.ok_or(TokenError::NoKey)?;
    let read = storage::document::source::read(path, MAX_KEY);
    let pem = read.map_err(|cause| TokenError::Read { path: path.to_owned(), cause })?;
    let parsed = match section.algorithm {
        JwtAlgorithm::Es256 => EncodingKey::from_ec_pem(&pem.bytes),
        JwtAlgorithm::EdDsa => EncodingKey::from_ed_pem(&pem.bytes),
        _ => EncodingKey::from_rsa_pem(&pem.bytes),
    };
    parsed.map_err(|cause| TokenError::Key { path: path.to_owned(), algorithm: name, cause })
}

/// Whether the configured public key takes the signature.
fn is_good(token: &str, algorithm: Algorithm, public: &reload::Secret<std::sync::Arc<[u8]>>) -> bool {
    let pem = public.expose();
    let key = match algorithm {
        Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    };
    let mut validation = Validation::new(algorithm);
    // Only the signature is in question.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    key.is_ok_and(|key| jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(claims: Vec<Claim>) -> JwtSection {
        JwtSection {
            algorithm: JwtAlgorithm::Hs256,
            key: JwtKey::Inline(reload::Secret::new(vec![b'x'; 32])),
            claims,
            sources: Vec::new(),
        }
    }

    fn rule(claim: &str, operator: ClaimOperator, value: Value) -> Claim {
        Claim { claim: claim.to_owned(), operator, value }
    }

    #[test]
    fn what_the_rules_demand_is_there_and_what_is_given_wins() {
        let hour = Duration::from_secs(3600);
        let section = section(vec![
            rule("role", ClaimOperator::Equals, json!("admin")),
            rule("scope", ClaimOperator::Contains, json!("read")),
            rule("scope", ClaimOperator::Contains, json!("write")),
            rule("site", ClaimOperator::In, json!(["one"])),
            rule("team", ClaimOperator::In, json!(["a", "b"])),
        ]);
        let error = mint(&section, &[], hour, 100, None).err().unwrap().to_string();
        assert!(error.contains("--claim team=VALUE") && error.contains(r#"["a","b"]"#), "{error}");
        let minted = mint(&section, &[given("team=b").unwrap()], hour, 100, None).unwrap();
        let claims = Value::Object(minted.claims);
        assert_eq!(
            (&claims["role"], &claims["site"], &claims["team"]),
            (&json!("admin"), &json!("one"), &json!("b"))
        );
        assert_eq!(claims["scope"], json!(["read", "write"]));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(100), &json!(3700)));
        let key = DecodingKey::from_secret(&[b'x'; 32]);
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let read = jsonwebtoken::decode::<Value>(&minted.token, &key, &validation).unwrap();
        assert_eq!(read.claims, claims);

        let given = [given("team=b").unwrap(), given("role=\"guest\"").unwrap(), given("n=[1]").unwrap()];
        let claims = mint(&section, &given, hour, 100, None).unwrap().claims;
        assert_eq!((&claims["role"], &claims["n"]), (&json!("guest"), &json!([1])));
    }

    /// Key pairs that openssl made for this test.
    const ED25519: (&str, &str) = (
        "MC4CAQAwBQYDK2VwBCIEIKbQVBOPH11iPrEEVXGcNyIIpkrjk6Ja11lfI69kkx10",
        "MCowBQYDK2VwAyEAmMvUsUfLkL2D4k8QUBCMhsWUAEZXHfaQ1z8c8MZ+gM4=",
    );
    const P256: (&str, &str) = (
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3uG7vkHR0hleYDKnP99MoMaAxLag8cNiogmFTjJ5wDehRANCAAS1fj8FwdZc9F1PUYXX\
         QOU0+sgsuGdQUvw2ijA7guhiNA6Wlz+Bg4+JHgh2hPKK1JWM/w8xN7FTBvIIy4v74qhf",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEtX4/BcHWXPRdT1GF10DlNPrILLhnUFL8NoowO4LoYjQOlpc/gYOPiR4IdoTyitSVjP8PMTexUwbyCMuL\
         ++KoXw==",
    );
    /// RFC 8032's first test vector.
    const OTHER: &str = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    fn pem(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn a_private_key_signs_if_it_is_the_other_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private.pem");
        let minted = |algorithm, private: &str, public: &str| {
            std::fs::write(&path, private).unwrap();
            let content: std::sync::Arc<[u8]> = pem("PUBLIC KEY", public).into_bytes().into();
            let file = crate::config::sections::NamedFile {
                path: "public.pem".into(),
                digest: storage::Digest::of(&content),
                content: reload::Secret::new(content),
            };
            let section = JwtSection { algorithm, key: JwtKey::PublicKey(file), ..section(vec![]) };
            let without = mint(&section, &[], Duration::from_secs(60), 1, None).err().unwrap().to_string();
            assert!(without.contains("--key FILE"), "{without}");
            mint(&section, &[], Duration::from_secs(60), 1, Some(&path)).map_err(|error| error.to_string())
        };
        let (ed, ec) = (pem("PRIVATE KEY", ED25519.0), pem("PRIVATE KEY", P256.0));
        // The signature was checked with the public half.
        assert_eq!(minted(JwtAlgorithm::EdDsa, &ed, ED25519.1).unwrap().token.split('.').count(), 3);
        assert_eq!(minted(JwtAlgorithm::Es256, &ec, P256.1).unwrap().token.split('.').count(), 3);
        let refused = [
            (minted(JwtAlgorithm::EdDsa, &ed, OTHER), "not the private half of public.pem"),
            (minted(JwtAlgorithm::EdDsa, &ec, ED25519.1), "no private key for EdDSA"),
            (minted(JwtAlgorithm::Es256, "nonsense", P256.1), "PKCS #8"),
        ];
        for (refused, piece) in refused {
            let error = refused.err().unwrap();
            assert!(error.contains(piece), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let section = JwtSection { algorithm: JwtAlgorithm::Es256, ..section(vec![]) };
        let error = mint(&section, &[], Duration::from_secs(60), 1, Some(&path)).err().unwrap().to_string();
        assert!(error.contains("private.pem"), "{error}");
    }

    #[test]
    fn what_makes_no_token_is_told() {
        let hour = Duration::from_secs(3600);
        let told = |given_claims: &[&str], key: Option<&str>| {
            let claims: Vec<_> = given_claims.iter().map(|text| given(text).unwrap()).collect();
            mint(&section(vec![]), &claims, hour, 1, key.map(Path::new)).err().unwrap().to_string()
        };
        assert!(told(&["exp=9"], None).contains("--ttl"));
        assert!(told(&["a=1", "a=2"], None).contains("twice"));
        assert!(told(&[], Some("k.pem")).contains("HS256"));
        assert!(given("role").is_err() && given("=x").is_err());
        assert!(ttl("0s").is_err() && ttl("9000h").is_err() && ttl("1h").is_ok());
    }
}
