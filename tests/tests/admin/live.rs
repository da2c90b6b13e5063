//! Every key of `admin` for TCP, changed on a live node: seen from outside, in both directions; and a change that fails.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, SystemTime};

use fednode_tests::web::{Authority, Way};
use fednode_tests::{Port, Spec, eventually};
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::scene::{SECRET, Scene, bearer, good, jwt, now, put, says, signed, tls};

async fn status(way: &Way, token: &str) -> u16 {
    way.ask(&format!("GET /admin/status\n{}", bearer(token)), "").await.status
}

async fn healthy(way: &Way) -> bool {
    way.try_ask("GET /healthz", "").await.is_ok_and(|reply| reply.status == 200)
}

#[tokio::test]
async fn listen() {
    let mut scene = Scene::plain().await;
    let (old, other) = (scene.plainly(), Port::free());
    let new = Way::Plain(other.address());
    let mut kept = old.connect().await.expect("a connection");
    let mut stream = old.connect().await.expect("a connection");
    let ask = format!("GET /v1/events\n{}", bearer(&good()));
    assert_eq!(stream.ask(&ask, "").await.expect("an answer").status, 200);
    assert_eq!(kept.ask("GET /healthz", "").await.expect("an answer").status, 200);

    let outcome = scene.reload("committed", |admin| admin["listen"] = json!(other.address())).await;
    assert_eq!(outcome["changes"][0]["strategy"], "replace_part", "{outcome:#}");
    assert!(healthy(&new).await && !scene.port.accepts());
    // Who is in is served, and told that this is the end of it; a stream goes on.
    let last = kept.ask("GET /healthz", "").await.expect("an answer");
    assert!(last.status == 200 && last.is_last(), "{last:?}");
    scene.reload("unchanged", |_| {}).await;
    stream.hear_of("reload_finished").await.expect("the stream goes on");

    // A wildcard of the same port in its place, and back; and off.
    let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, other.number()));
    scene.reload("committed", |admin| admin["listen"] = json!(wildcard)).await;
    assert!(healthy(&new).await && healthy(&Way::Plain(([127, 0, 0, 2], other.number()).into())).await);
    scene.reload("committed", |admin| admin["listen"] = json!(other.address())).await;
    assert!(healthy(&new).await && !healthy(&Way::Plain(([127, 0, 0, 2], other.number()).into())).await);
    scene.reload("committed", |admin| admin["listen"] = json!(null)).await;
    assert!(!other.accepts());
    scene.reload("committed", |admin| admin["listen"] = json!(other.address())).await;
    assert!(healthy(&new).await);
    // At once again where it was before.
    let first = scene.port.address();
    scene.reload("committed", |admin| admin["listen"] = json!(first)).await;
    assert_eq!(status(&old, &good()).await, 200);
}

#[tokio::test]
async fn a_port_that_another_has() {
    let mut scene = Scene::plain().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = taken.local_addr().expect("an address");
    let outcome = scene.reload("rejected", |admin| admin["listen"] = json!(address)).await;
    assert!(
        outcome["error"].as_str().is_some_and(|text| text.contains("in use by another process")),
        "{outcome:#}"
    );
    assert_eq!(outcome["errors"][0]["path"], "admin.listen");
    assert!(healthy(&scene.plainly()).await);
    // The port of a service, and of the node itself, given up in the same breath: words, not luck.
    let own = scene.port.address();
    let (member, door) = (Spec::new(), Port::free());
    scene.node.edit_peers(|peers| peers.push(member.entry()));
    let service = json!([{"name": "x", "peer": member.keys.public_key, "listen": door.address()}]);
    let committed = scene
        .node
        .reload_with(|conf| {
            conf["admin"]["listen"] = json!(own);
            conf["protocol"] = json!({"services": {"connect": service}});
        })
        .await;
    assert_eq!(committed["outcome"], "committed", "{committed:#}");
    let swapped = json!([{"name": "x", "peer": member.keys.public_key, "listen": own}]);
    let outcome = scene
        .node
        .reload_with(|conf| {
            conf["admin"]["listen"] = json!(door.address());
            conf["protocol"] = json!({"services": {"connect": swapped}});
        })
        .await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    let told = outcome["errors"].to_string();
    for words in
        ["the admin API (admin.listen)", "a service (protocol.services.connect)", "let it go in one reload"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(healthy(&scene.plainly()).await);
}

#[tokio::test]
async fn tls_on_and_off_on_one_port() {
    let mut scene = Scene::plain().await;
    let (plain, secured) = (scene.plainly(), scene.by_tls());
    let mut kept = plain.connect().await.expect("a connection");
    assert!(!kept.ask("GET /healthz", "").await.expect("an answer").is_last());
    for _ in 0..3 {
        let outcome = scene.reload("committed", |admin| admin["tls"] = tls()).await;
        assert_eq!(outcome["changes"][0]["strategy"], "in_place", "{outcome:#}");
        assert!(healthy(&secured).await && !healthy(&plain).await);
        scene.reload("committed", |admin| admin["tls"] = json!(null)).await;
        assert!(healthy(&plain).await && !healthy(&secured).await);
    }
    scene.reload("committed", |admin| admin["tls"] = tls()).await;
    if let Ok(last) = kept.ask("GET /healthz", "").await {
        assert!(last.is_last(), "{last:?}");
    }
    // Other keys leave connections alone.
    let mut kept = secured.connect().await.expect("a connection");
    assert!(!kept.ask("GET /healthz", "").await.expect("an answer").is_last());
    scene.reload("committed", |admin| admin["jwt"]["algorithm"] = json!("HS512")).await;
    assert!(!kept.ask("GET /healthz", "").await.expect("an answer").is_last());
    put(scene.node.spec(), &scene.authority.pair());
    scene.reload("committed", |_| {}).await;
    assert!(kept.ask("GET /healthz", "").await.expect("an answer").is_last());
}

#[tokio::test]
async fn client_certificates() {
    let mut scene = Scene::secured().await;
    let (own, stranger) = (scene.authority.pair(), Authority::new("stranger").pair());
    let way = |pair| Way::Tls(scene.port.address(), scene.authority.client(pair));
    let (without, with, with_another) = (way(None), way(Some(&own)), way(Some(&stranger)));
    assert!(healthy(&without).await);
    scene.reload("committed", |admin| admin["tls"]["client_ca"] = json!("ca.pem")).await;
    assert!(healthy(&with).await && !healthy(&without).await && !healthy(&with_another).await);
    assert_eq!(status(&with, &good()).await, 200);
    assert_eq!(with.ask("GET /admin/status", "").await.status, 401, "a certificate is no token");
    // Another authority: a session of before opens nothing.
    let second = Authority::new("second");
    std::fs::write(scene.node.spec().folder().join("ca.pem"), second.pem())
        .expect("the folder can be written");
    scene.reload("committed", |_| {}).await;
    let with_second = Way::Tls(scene.port.address(), scene.authority.client(Some(&second.pair())));
    assert!(!healthy(&with).await && healthy(&with_second).await);
    scene.reload("committed", |admin| admin["tls"]["client_ca"] = json!(null)).await;
    assert!(healthy(&without).await);
}

#[tokio::test]
async fn tokens() {
    let mut scene = Scene::plain().await;
    let way = scene.plainly();
    let claims = json!({"exp": now() + 600, "role": "reader"});
    assert_eq!(status(&way, &says(&claims)).await, 200);

    let other = "another shared secret of thirty-two bytes";
    std::fs::write(scene.node.spec().folder().join("jwt.secret"), format!("{other}\n"))
        .expect("it can be written");
    let from_file = json!({"algorithm": "HS256", "secret_file": "jwt.secret"});
    scene.reload("committed", |admin| admin["jwt"] = from_file).await;
    assert_eq!(status(&way, &says(&claims)).await, 401);
    assert_eq!(status(&way, &signed(Algorithm::HS256, other.as_bytes(), &claims)).await, 200);
    std::fs::write(scene.node.spec().folder().join("jwt.secret"), SECRET).expect("it can be written");
    scene.reload("committed", |_| {}).await;
    assert_eq!(status(&way, &says(&claims)).await, 200, "the file's content is configuration");

    scene.reload("committed", |admin| admin["jwt"]["algorithm"] = json!("HS512")).await;
    assert_eq!(status(&way, &says(&claims)).await, 401);
    assert_eq!(status(&way, &signed(Algorithm::HS512, SECRET.as_bytes(), &claims)).await, 200);

    let rule = json!([{"claim": "role", "operator": "equals", "value": "admin"}]);
    scene
        .reload("committed", |admin| {
            admin["jwt"] = json!({"algorithm": "HS256", "secret": SECRET, "claims": rule})
        })
        .await;
    assert_eq!(status(&way, &says(&claims)).await, 403);
    assert_eq!(status(&way, &says(&json!({"exp": now() + 600, "role": "admin"}))).await, 200);

    scene.reload("committed", |admin| admin["jwt"]["sources"] = json!([{"header": "X-Token"}])).await;
    let token = says(&json!({"exp": now() + 600, "role": "admin"}));
    assert_eq!(status(&way, &token).await, 401);
    assert_eq!(way.ask(&format!("GET /admin/status\nx-token: {token}"), "").await.status, 200);

    scene.reload("committed", |admin| admin["jwt"] = json!(null)).await;
    assert_eq!(way.ask(&format!("GET /admin/status\nx-token: {token}"), "").await.status, 401);
    assert!(healthy(&way).await);
    scene.reload("committed", |admin| admin["jwt"] = jwt()).await;
    assert_eq!(status(&way, &good()).await, 200);
}

#[tokio::test]
async fn a_change_that_fails_leaves_everything_as_it_was() {
    let mut scene = Scene::secured().await;
    let (way, other) = (scene.by_tls(), Port::free());
    let shown = way.connect().await.expect("a connection").certificate;
    let mut stream = way.connect().await.expect("a connection");
    let ask = format!("GET /v1/events\n{}", bearer(&good()));
    assert_eq!(stream.ask(&ask, "").await.expect("an answer").status, 200);
    for point in
        ["admin::bind", "admin::listen", "admin::serve", "admin::commit", "admin::probe", "network::probe"]
    {
        let mut kept = way.connect().await.expect("a connection");
        assert!(!kept.ask("GET /healthz", "").await.expect("an answer").is_last());
        put(scene.node.spec(), &scene.authority.pair());
        let before = scene.node.spec().conf.clone();
        scene.arms.arm(point, "return(error)");
        let outcome = scene
            .node
            .reload_with(|conf| {
                conf["admin"]["listen"] = json!(other.address());
                conf["admin"]["socket"] = json!("other.sock");
                conf["admin"]["jwt"]["algorithm"] = json!("HS384");
                conf["network"]["limits"] = json!({"connections": 1000});
            })
            .await;
        assert_eq!(outcome["outcome"], "rolled_back", "{point}: {outcome:#}");
        scene.node.edit(|conf| *conf = before);
        assert!(!other.accepts(), "{point}: the new address is closed");
        let line = way.connect().await.expect("the old address is open");
        assert_eq!(line.certificate, shown, "{point}: the old certificate");
        assert_eq!(status(&way, &good()).await, 200, "{point}: the old secret and algorithm");
        // One that was open under the old TLS is of it again, also where the new one was in force for a moment.
        let reply = kept.ask("GET /healthz", "").await.expect("an answer");
        assert_eq!(reply.status, 200, "{point}: {reply:?}");
    }
    stream.hear_of("rolled_back").await.expect("the stream goes on");
    let outcome = scene.node.hangup().await;
    assert_eq!(outcome["outcome"], "committed", "the certificate of the last round: {outcome:#}");
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_and_the_old_ones_serve_on() {
    let mut scene = Scene::secured().await;
    let way = scene.by_tls();
    let shown = way.connect().await.expect("a connection").certificate;
    let (one, other) = (scene.authority.pair(), scene.authority.pair());
    let folder = scene.node.spec().folder().to_owned();
    std::fs::write(folder.join("cert.pem"), &one.certificate).expect("the folder can be written");
    std::fs::write(folder.join("key.pem"), &other.key).expect("the folder can be written");
    let outcome = scene.reload("rejected", |_| {}).await;
    assert_eq!(outcome["errors"][0]["path"], "admin.tls.private_key", "{outcome:#}");
    assert!(outcome["errors"][0]["hint"].is_string(), "{outcome:#}");
    assert_eq!(way.connect().await.expect("a connection").certificate, shown);
    let key = other.key.lines().nth(1).expect("a key");
    assert!(!outcome.to_string().contains(key) && !scene.node.log().contains(key), "a secret");
    put(scene.node.spec(), &one);
    scene.reload("committed", |_| {}).await;
    assert_eq!(way.connect().await.expect("a connection").certificate, Some(one.der));
    let ready = way.ask("GET /readyz", "").await;
    assert_eq!(ready.json()["checks"]["certificates"]["status"], "pass");
}

#[tokio::test]
async fn a_certificate_that_expires_while_it_is_served() {
    let mut scene = Scene::secured().await;
    let socket = scene.socket();
    // One with a few seconds left; on a slow machine more than one is needed until one gets in in time.
    eventually("a certificate that is about to expire gets in", async || {
        put(scene.node.spec(), &scene.authority.pair_until(SystemTime::now() + Duration::from_secs(4)));
        let outcome = scene.node.hangup().await;
        let warned = outcome["warnings"].to_string().contains("expires on");
        (outcome["outcome"] == "committed" && warned).then_some(())
    })
    .await;
    let checked = eventually("the node is not ready any more", async || {
        let reply = socket.ask("GET /readyz", "").await;
        (reply.status == 503).then(|| reply.json())
    })
    .await;
    assert_eq!(checked["checks"]["certificates"]["status"], "fail", "{checked:#}");
    let error = checked["checks"]["certificates"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("has expired on"), "{checked:#}");
    // What runs is no reason to refuse another change, and is spoken of.
    let outcome = scene.node.reload_with(|conf| conf["logging"]["level"] = json!("debug")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    assert!(outcome["warnings"].to_string().contains("has expired on"), "{outcome:#}");
    // Another one that is too old is.
    put(scene.node.spec(), &scene.authority.pair_until(SystemTime::now() - Duration::from_secs(4)));
    let outcome = scene.reload("rejected", |_| {}).await;
    assert_eq!(outcome["errors"][0]["path"], "admin.tls.certificate", "{outcome:#}");
    put(scene.node.spec(), &scene.authority.pair());
    scene.reload("committed", |_| {}).await;
    assert_eq!(socket.ask("GET /readyz", "").await.status, 200);
}
