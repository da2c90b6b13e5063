//! Those who should stay out, one by one.

use fednode_tests::eventually;
use fednode_tests::web::Way;
use jsonwebtoken::Algorithm;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::scene::{SECRET, Scene, bearer, good, jwt, now, says, signed};

async fn status(way: &Way, headers: &str) -> u16 {
    let reply = way.ask(&format!("GET /admin/status\n{headers}"), "").await;
    if reply.status == 401 {
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{headers}: {reply:?}");
    }
    if reply.status != 200 {
        let body = reply.json();
        assert_eq!(body["status"], "error", "{headers}: {body}");
        assert!(body["message"].is_string() && body["error"].is_string(), "{headers}: {body}");
    }
    reply.status
}

#[tokio::test]
async fn tokens_that_do_not_open() {
    let rules = json!([
        {"claim": "role", "operator": "in", "value": ["admin", "operator"]},
        {"claim": "aud", "operator": "contains", "value": "fednode"},
    ]);
    let mut admin = jwt();
    admin["claims"] = rules;
    let scene = Scene::with(json!({"tls": crate::scene::tls(), "jwt": admin})).await;
    let way = scene.by_tls();
    let base = json!({"exp": now() + 600, "role": "admin", "aud": ["fednode", "other"]});
    let with = |name: &str, value: Value| {
        let mut claims = base.clone();
        claims[name] = value;
        claims
    };
    let none = |signature: &str| {
        use base64::Engine as _;
        let encode =
            |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{signature}", encode(&json!({"alg": "none", "typ": "JWT"})), encode(&base))
    };
    let cases: Vec<(&str, String, u16)> = vec![
        ("good", bearer(&says(&base)), 200),
        ("bare", format!("authorization: {}", says(&base)), 200),
        ("one of the values", bearer(&says(&with("role", json!("operator")))), 200),
        ("none", String::new(), 401),
        ("empty", "authorization: Bearer ".to_owned(), 401),
        ("another scheme", "authorization: Basic YTpi".to_owned(), 401),
        ("expired", bearer(&says(&with("exp", json!(now() - 300)))), 401),
        ("without end", bearer(&says(&with("exp", json!(null)))), 401),
        ("not yet", bearer(&says(&with("nbf", json!(now() + 300)))), 401),
        ("alg none", bearer(&none("")), 401),
        ("alg none, signed", bearer(&none("AAAA")), 401),
        ("another algorithm", bearer(&signed(Algorithm::HS512, SECRET.as_bytes(), &base)), 401),
        ("another secret", bearer(&signed(Algorithm::HS256, &[7; 32], &base)), 401),
        ("another role", bearer(&says(&with("role", json!("reader")))), 403),
        ("another audience", bearer(&says(&with("aud", json!(["other"])))), 403),
        ("too long", bearer(&says(&with("x", json!("x".repeat(9000))))), 401),
        ("garbage", bearer("a.b.c"), 401),
        ("two", format!("{}\n{}", bearer(&says(&base)), bearer(&says(&base))), 401),
        ("where none is looked for", format!("x-token: {}", says(&base)), 401),
        (
            "a foreign host",
            format!("{}\nhost: evil.example", bearer(&says(&with("role", json!("reader"))))),
            403,
        ),
        ("forwarded", "x-forwarded-for: 127.0.0.1\nx-original-url: /healthz".to_owned(), 401),
    ];
    for (what, headers, expected) in cases {
        assert_eq!(status(&way, &headers).await, expected, "{what}");
    }
    let query = format!("GET /admin/status?token={}", says(&base));
    assert_eq!(way.ask(&query, "").await.status, 401, "the query is no source here");
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let mut scene = Scene::plain().await;
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key can be made");
    let pem = key.public_key_pem();
    std::fs::write(scene.node.spec().folder().join("k.pem"), &pem).expect("the folder can be written");
    scene
        .reload("committed", |admin| admin["jwt"] = json!({"algorithm": "EdDSA", "public_key_file": "k.pem"}))
        .await;
    let way = scene.plainly();
    let claims = json!({"exp": now() + 600});
    let mut secrets =
        vec![pem.as_bytes().to_vec(), pem.trim().as_bytes().to_vec(), key.public_key_raw().to_vec()];
    secrets.push(key.public_key_der());
    for secret in secrets {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(status(&way, &bearer(&signed(algorithm, &secret, &claims))).await, 401);
        }
    }
    assert_eq!(status(&way, &bearer(&good())).await, 401, "the secret of before");
    let own = jsonwebtoken::EncodingKey::from_ed_der(&key.serialize_der());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::EdDSA), &claims, &own);
    assert_eq!(status(&way, &bearer(&token.expect("it can be signed"))).await, 200);
}

#[tokio::test]
async fn no_way_of_writing_a_path_leads_in() {
    let scene = Scene::secured().await;
    let way = scene.by_tls();
    let before = scene.node.audit().len();
    for path in [
        "//admin/reload",
        "/admin//reload",
        "/admin/reload/",
        "/healthz/../admin/reload",
        "/healthz/..%2fadmin/reload",
        "/healthz%2f..%2fadmin%2freload",
        "/%2e%2e/admin/reload",
        "/healthz/%2e%2e/admin/reload",
        "/healthz;/../admin/reload",
        "/healthz\\..\\admin\\reload",
        "/./admin/reload",
        "/%61dmin/reload",
        "/admin/%72eload",
        "/ADMIN/reload",
        "/healthz%00/admin/reload",
        "/healthz/",
        "//healthz",
        "/%68ealthz",
        "http://localhost/admin/reload",
        "http://localhost/healthz/../admin/reload",
        "*",
        "/admin/reload?path=/healthz",
        "/admin/reload#/healthz",
    ] {
        for method in ["POST", "GET", "OPTIONS", "HEAD"] {
            let mut line = way.connect().await.expect("a connection");
            let text = format!("{method} {path} HTTP/1.1\r\nhost: /healthz\r\nconnection: close\r\n\r\n");
            line.say(&text).await.expect("it can be sent");
            // Of HEAD the body is missing, of what is no request the answer may be, too.
            let Ok(reply) = line.hear().await else { continue };
            assert!([400, 401].contains(&reply.status), "{method} {path}: {reply:?}");
        }
    }
    assert_eq!(scene.node.audit().len(), before, "nothing was reloaded");
    let reply = way.ask(&format!("GET http://elsewhere/admin/status\n{}", bearer(&good())), "").await;
    assert_eq!(reply.status, 200, "the host is nobody's proof");
}

#[tokio::test]
async fn other_places_for_tokens_and_none_of_them_is_told() {
    let mut scene = Scene::plain().await;
    let way = scene.plainly();
    scene
        .node
        .reload_with(|conf| {
            conf["logging"]["level"] = json!("debug");
            conf["logging"]["targets"] = json!({"actix_http": "debug", "actix_web": "debug"});
            conf["admin"]["jwt"]["sources"] = json!([{"query": "token"}, {"header": "X-Token"}]);
        })
        .await;
    let token = good();
    let expired = says(&json!({"exp": 1, "sub": "ann"}));
    let query = |path: &str, token: &str| format!("{path}token={token}");
    assert_eq!(way.ask(&query("GET /admin/status?", &token), "").await.status, 200);
    assert_eq!(way.ask(&query("GET /admin/history?limit=1&", &token), "").await.status, 200);
    assert_eq!(way.ask(&query("POST /admin/reload?dry_run=true&", &token), "").await.status, 200);
    assert_eq!(way.ask(&query("GET /nowhere?", &token), "").await.status, 404);
    assert_eq!(way.ask(&query("GET /admin/status?", &expired), "").await.status, 401);
    assert_eq!(way.ask(&format!("GET /admin/status?token={token}&token={token}"), "").await.status, 401);
    assert_eq!(status(&way, &format!("x-token: {token}")).await, 200);
    assert_eq!(status(&way, &format!("X-TOKEN: Bearer {token}")).await, 200);
    assert_eq!(status(&way, &bearer(&token)).await, 401, "not a source any more");
    // What the expired one left in the log: that it was there, and nothing of it.
    let line = scene.node.wait_for_log("the token has expired").await;
    assert!(line.contains("admin_denied") && line.contains("127.0.0.1"), "{line}");
    for text in [token, expired] {
        for part in text.split('.') {
            assert!(!scene.node.log().contains(part), "a token in the log");
        }
    }
}

#[tokio::test]
async fn ten_thousand_bad_tokens_lock_nobody_out() {
    const CALLERS: usize = 8;
    const EACH: usize = 1250;
    let scene = Scene::secured().await;
    let way = scene.by_tls();
    let (token, bad) =
        (bearer(&good()), bearer(&signed(Algorithm::HS256, &[7; 32], &json!({"exp": now() + 600}))));
    let callers = (0..CALLERS).map(|_| {
        let (way, bad) = (way.clone(), bad.clone());
        tokio::spawn(async move {
            let mut counts = [0; 2];
            let mut line = way.connect().await.expect("a connection");
            for _ in 0..EACH {
                let reply = line.ask(&format!("GET /admin/status\n{bad}"), "").await.expect("an answer");
                match reply.status {
                    401 => counts[0] += 1,
                    429 => {
                        let wait: u64 =
                            reply.header("retry-after").and_then(|text| text.parse().ok()).expect("a number");
                        assert!((1..=60).contains(&wait), "{wait}");
                        assert_eq!(reply.json()["status"], "error");
                        counts[1] += 1;
                    }
                    other => panic!("{other}: {reply:?}"),
                }
            }
            counts
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut good_ones = 0;
    while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(status(&way, &token).await, 200, "a good token from the same address");
        good_ones += 1;
    }
    let mut counts = [0; 2];
    for caller in callers {
        let [unauthorized, too_many] = caller.await.expect("no caller fails");
        counts[0] += unauthorized;
        counts[1] += too_many;
    }
    assert_eq!(counts[0] + counts[1], CALLERS * EACH);
    assert!(counts[1] > counts[0] && counts[0] >= 20, "{counts:?}");
    assert!(good_ones > 0);
    assert_eq!(status(&scene.socket(), "").await, 200);
    // The log tells as many as were told 401.
    eventually("the log tells of it", async || {
        let told = scene.node.log().lines().filter(|line| line.contains("admin_denied")).count();
        (told == counts[0]).then_some(())
    })
    .await;
}
