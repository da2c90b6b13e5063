//! The files of `admin.tls` and `admin.jwt`: what is refused, where, and in which words.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::*;

const TLS: &str = "tls: {certificate: cert.pem, private_key: key.pem, client_ca: ca.pem}";

/// A certificate that is valid from so many days ago to so many days from now.
fn lasting(key: &KeyPair, from: i64, to: i64) -> String {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let at = |days: i64| {
        let span = day * u32::try_from(days.abs()).unwrap();
        let now = SystemTime::now();
        (if days < 0 { now - span } else { now + span }).into()
    };
    params.not_before = at(from);
    params.not_after = at(to);
    params.self_signed(key).unwrap().pem()
}

/// A folder whose configuration has TLS, with these files.
fn folder(certificate: &str, key: &str, ca: &str) -> Folder {
    let folder = Folder::new();
    folder.write("cert.pem", certificate);
    folder.write("key.pem", key);
    folder.write("ca.pem", ca);
    folder.edit(&[("tls: null", TLS)]);
    folder
}

#[test]
fn files_that_cannot_serve_are_refused_by_name_with_a_remedy() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (good, good_key) = (certificate(&key), key.serialize_pem());
    let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let cases = [
        (
            block("CERTIFICATE"),
            good_key.clone(),
            good.clone(),
            "certificate",
            "cert.pem\" holds what is no X.509",
        ),
        (good.clone(), block("PRIVATE KEY"), good.clone(), "private_key", "key.pem\" holds no"),
        (
            good.clone(),
            other.serialize_pem(),
            good.clone(),
            "private_key",
            "is not the key of the certificate in",
        ),
        (
            good.clone(),
            good_key.clone(),
            block("CERTIFICATE"),
            "client_ca",
            "ca.pem\" holds no usable authority",
        ),
        (good_key.clone(), good_key.clone(), good.clone(), "certificate", "holds no PEM of a certificate"),
    ];
    for (certificate, key, ca, name, piece) in cases {
        let folder = folder(&certificate, &key, &ca);
        let problems = folder.rejection();
        let shown = problems_text(&problems);
        assert_eq!(problems.len(), 1, "{shown}");
        assert_eq!(problems[0].path, Some(format!("admin.tls.{name}")), "{shown}");
        assert!(shown.contains(piece), "{piece:?} in {shown}");
        assert!(problems[0].hint.is_some() && problems[0].line.is_some(), "{shown}");
        let secret = good_key.lines().nth(1).unwrap();
        assert!(!shown.contains(secret), "a secret: {shown}");
    }
}

#[test]
fn a_certificate_of_another_day_is_refused_unless_it_runs() {
    let key = KeyPair::generate().unwrap();
    for (from, to, piece) in [(-9, -2, "has expired on"), (2, 9, "is not valid before")] {
        let text = lasting(&key, from, to);
        let folder = folder(&text, &key.serialize_pem(), &text);
        let loaded = folder.load();
        let problem = |current: Option<&Config>| {
            let mut all = super::super::resources(&loaded.config, current, &[]);
            all.retain(|problem| problem.path.as_deref() == Some("admin.tls.certificate"));
            all.pop()
        };
        let refused = problem(None).expect("it cannot start");
        let authority = super::super::resources(&loaded.config, None, &[]).into_iter().any(|problem| {
            problem.path.as_deref() == Some("admin.tls.client_ca") && problem.message.contains("no authority")
        });
        assert!(authority, "the one authority is of the same days");
        assert!(refused.message.contains(piece), "{refused}");
        assert!(refused.hint.is_some() && refused.line.is_some(), "{refused}");
        assert!(problem(Some(&loaded.config)).is_none(), "other keys can be changed under it");
        assert!(
            loaded.warnings.iter().any(|warning| warning.message.contains(piece)),
            "{:?}",
            loaded.warnings
        );
    }
}

#[test]
fn a_certificate_that_ends_soon_is_spoken_of() {
    let key = KeyPair::generate().unwrap();
    for (days, expected) in [(13, true), (16, false)] {
        let text = lasting(&key, -9, days);
        let warnings = folder(&text, &key.serialize_pem(), &text).load().warnings;
        let said = warnings.iter().find(|warning| warning.path.as_deref() == Some("admin.tls.certificate"));
        assert_eq!(said.is_some(), expected, "{days} days: {warnings:?}");
        assert!(said.is_none_or(|warning| warning.message.contains("expires on")), "{said:?}");
    }
}

#[test]
fn a_public_key_is_of_the_algorithm() {
    let (p256, ed) = (
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
    );
    let (p256, ed) = (p256.public_key_pem(), ed.public_key_pem());
    for (algorithm, pem, good) in [
        ("ES256", &p256, true),
        ("EdDSA", &ed, true),
        ("ES256", &ed, false),
        ("EdDSA", &p256, false),
        ("RS256", &p256, false),
    ] {
        let folder = Folder::new();
        folder.write("k.pem", pem);
        folder.edit(&[("jwt: null", &format!("jwt: {{algorithm: {algorithm}, public_key_file: k.pem}}"))]);
        let loaded = folder.load_against(None);
        assert_eq!(loaded.is_ok(), good, "{algorithm}: {loaded:?}");
        if let Err(rejection) = loaded {
            let shown = problems_text(&rejection.problems);
            assert!(shown.contains("admin.jwt.public_key_file: the file \"k.pem\" holds no"), "{shown}");
        }
    }
}
