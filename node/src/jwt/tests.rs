//! Tokens good and bad.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use reload::Secret;
use serde_json::json;
use storage::Digest;

use super::*;
use crate::config::sections::NamedFile;

const SECRET: &[u8] = b"thirty-two bytes of a shared one";
/// Made for these tests, and for nothing else.
const RSA: &str = include_str!("keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("keys/rsa.pub");
/// The same in its older form.
const PKCS1: &str = include_str!("keys/rsa.pkcs1.pub");
/// 1024 bits.
const SHORT: &str = include_str!("keys/short.pub");

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn shared(algorithm: JwtAlgorithm, claims: Vec<Claim>) -> Verifier {
    let key = JwtKey::Inline(Secret::new(SECRET.to_vec()));
    Verifier::new(&JwtSection { algorithm, key, claims, sources: Vec::new() }).unwrap()
}

fn public(algorithm: JwtAlgorithm, pem: &str) -> Result<Verifier, KeyError> {
    let content: Arc<[u8]> = pem.as_bytes().into();
    let digest = Digest::of(&content);
    let key = JwtKey::PublicKey(NamedFile { path: "k.pem".into(), content: Secret::new(content), digest });
    Verifier::new(&JwtSection { algorithm, key, claims: Vec::new(), sources: Vec::new() })
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET), claims)
}

fn bad(verifier: &Verifier, token: &str) -> &'static str {
    match verifier.check(token) {
        Err(TokenError::Bad(reason)) => reason,
        other => panic!("{token}: {other:?}"),
    }
}

#[test]
fn a_good_token_of_each_algorithm() {
    let claims = json!({"exp": now() + 60, "sub": "ann"});
    for (algorithm, name) in [
        (Algorithm::HS256, JwtAlgorithm::Hs256),
        (Algorithm::HS384, JwtAlgorithm::Hs384),
        (Algorithm::HS512, JwtAlgorithm::Hs512),
    ] {
        let token = sign(algorithm, &EncodingKey::from_secret(SECRET), &claims);
        assert_eq!(shared(name, Vec::new()).check(&token).unwrap()["sub"], "ann");
    }
    let rsa = sign(Algorithm::RS256, &EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(), &claims);
    assert_eq!(public(JwtAlgorithm::Rs256, RSA_PUBLIC).unwrap().check(&rsa).unwrap()["sub"], "ann");
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let token = sign(Algorithm::ES256, &EncodingKey::from_ec_der(p256.serialized_der()), &claims);
    let verifier = public(JwtAlgorithm::Es256, &p256.public_key_pem()).unwrap();
    assert_eq!(verifier.check(&token).unwrap()["sub"], "ann");
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let token = sign(Algorithm::EdDSA, &EncodingKey::from_ed_der(ed.serialized_der()), &claims);
    let verifier = public(JwtAlgorithm::EdDsa, &ed.public_key_pem()).unwrap();
    assert_eq!(verifier.check(&token).unwrap()["sub"], "ann");
}

#[test]
fn times_count_with_some_leeway() {
    let verifier = shared(JwtAlgorithm::Hs256, Vec::new());
    let says = |claims: Value| bad(&verifier, &hs256(&claims));
    assert_eq!(says(json!({"sub": "ann"})), "the token has no `exp`");
    assert_eq!(says(json!({"exp": null})), "the token has no `exp`");
    assert_eq!(says(json!({"exp": "tomorrow"})), "the token has no `exp`");
    assert_eq!(says(json!({"exp": now() - LEEWAY - 5})), "the token has expired");
    assert_eq!(says(json!({"exp": 0})), "the token has expired");
    assert_eq!(says(json!({"exp": now() + 900, "nbf": now() + LEEWAY + 60})), "the token is not valid yet");
    assert_eq!(says(json!({"exp": now() + 900, "nbf": "soon"})), "the token's `exp` or `nbf` is no time");
    assert!(verifier.check(&hs256(&json!({"exp": now() - LEEWAY / 2}))).is_ok());
    assert!(verifier.check(&hs256(&json!({"exp": now() + 900, "nbf": now()}))).is_ok());
    assert!(
        verifier.check(&hs256(&json!({"exp": now() + 900, "aud": "whoever"}))).is_ok(),
        "no rule of audience"
    );
}

#[test]
fn the_algorithm_is_the_configurations_choice() {
    let claims = json!({"exp": now() + 60});
    let verifier = shared(JwtAlgorithm::Hs256, Vec::new());
    let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for none in ["none", "None", "NONE", ""] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", encoded(json!({"alg": none})), encoded(claims.clone()));
            assert_eq!(bad(&verifier, &token), "this is no token", "{none}");
        }
    }
    let other = "the token is not signed with the algorithm that admin.jwt names";
    assert_eq!(bad(&verifier, &sign(Algorithm::HS512, &EncodingKey::from_secret(SECRET), &claims)), other);
    // The public key, which everybody may know, taken for a shared secret.
    let verifier = public(JwtAlgorithm::Rs256, RSA_PUBLIC).unwrap();
    let confused = EncodingKey::from_secret(RSA_PUBLIC.as_bytes());
    assert_eq!(bad(&verifier, &sign(Algorithm::HS256, &confused, &claims)), other);
    assert_eq!(bad(&verifier, &hs256(&claims)), other);
}

#[test]
fn what_was_tampered_with_is_no_token() {
    let verifier = shared(JwtAlgorithm::Hs256, Vec::new());
    let token = hs256(&json!({"exp": now() + 60, "role": "reader"}));
    let parts: Vec<&str> = token.split('.').collect();
    let admin = URL_SAFE_NO_PAD.encode(json!({"exp": now() + 60, "role": "admin"}).to_string());
    let signature = "the token's signature is not of the key in admin.jwt";
    assert_eq!(bad(&verifier, &format!("{}.{admin}.{}", parts[0], parts[2])), signature);
    assert_eq!(bad(&verifier, &format!("{}.{}.", parts[0], parts[1])), signature);
    let other = EncodingKey::from_secret(b"another secret of thirty-two byte");
    assert_eq!(bad(&verifier, &sign(Algorithm::HS256, &other, &json!({"exp": now() + 60}))), signature);
    for text in ["", ".", "..", "...", "a.b", "a.b.c", "Basic YTpi", "\u{1F600}", &format!("{token}.x")] {
        assert_eq!(bad(&verifier, text), "this is no token", "{text}");
    }
    assert_eq!(bad(&verifier, &"x".repeat(MAX_TOKEN + 1)), "the token is larger than 8 KiB");
    let mut header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), parts[1]);
    assert!(bad(&verifier, &format!("{body}.{}", parts[2])).contains("`crit`"));
    header["crit"] = json!([]);
    let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), parts[1]);
    assert!(bad(&verifier, &format!("{body}.{}", parts[2])).contains("`crit`"));
}

#[test]
fn a_key_has_to_be_of_its_kind_and_long_enough() {
    assert_eq!(public(JwtAlgorithm::Es256, RSA_PUBLIC).unwrap_err(), KeyError::Kind { kind: "P-256" });
    assert_eq!(public(JwtAlgorithm::EdDsa, RSA_PUBLIC).unwrap_err(), KeyError::Kind { kind: "Ed25519" });
    assert_eq!(public(JwtAlgorithm::Rs256, "x").unwrap_err(), KeyError::Kind { kind: "RSA" });
    assert_eq!(public(JwtAlgorithm::Rs256, SHORT).unwrap_err(), KeyError::Short { bits: 1024 });
    assert!(public(JwtAlgorithm::Rs256, PKCS1).is_ok());
}

#[test]
fn rules_of_claims() {
    let rule = |operator, value: Value| Claim { claim: "c".to_owned(), operator, value };
    let met = |operator, value: Value, said: Value| rule(operator, value).is_met(Some(&said));
    use ClaimOperator::{Contains, Equals, In};
    assert!(met(Equals, json!("admin"), json!("admin")) && !met(Equals, json!("admin"), json!("Admin")));
    assert!(met(Equals, json!(1), json!(1.0)) && !met(Equals, json!(1), json!("1")));
    assert!(met(Equals, json!(true), json!(true)) && !met(Equals, json!(true), json!("true")));
    assert!(!met(Equals, json!("admin"), json!(["admin"])));
    assert!(met(Contains, json!("admin"), json!(["x", "admin"])) && met(Contains, json!(7), json!([7])));
    assert!(met(Contains, json!("b"), json!("a b c")) && !met(Contains, json!("admin"), json!("not-admin")));
    assert!(!met(Contains, json!("a"), json!({"a": 1})) && !met(Contains, json!(1), json!("1")));
    assert!(met(In, json!(["a", 7]), json!(7)) && !met(In, json!(["a"]), json!("b")));
    assert!(met(In, json!(["a"]), json!(["b", "a"])) && !met(In, json!(["a"]), json!([])));
    assert!(!rule(Equals, json!(null)).is_met(None), "nothing said is nothing met");
    let verifier = shared(JwtAlgorithm::Hs256, vec![rule(Equals, json!("admin"))]);
    assert!(verifier.check(&hs256(&json!({"exp": now() + 60, "c": "admin"}))).is_ok());
    for claims in [json!({"exp": now() + 60, "c": "reader"}), json!({"exp": now() + 60})] {
        assert_eq!(verifier.check(&hs256(&claims)), Err(TokenError::Claim("c".to_owned())));
    }
}
