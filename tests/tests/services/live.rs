//! What a reload changes, and what it leaves alone: open streams.

use fednode_tests::arms::Arms;
use fednode_tests::{Port, Spec, Traffic, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::scene::*;

#[tokio::test]
async fn services_are_added_changed_and_removed_under_an_open_stream() {
    let mut scene = Scene::with(echo().await).await;
    let traffic = Traffic::start(&scene.nodes[HERE], &scene.nodes[THERE]).await;
    let before = scene.connections().await;
    let mut open = dial(&scene.port).await;
    is_alive(&mut open).await;
    scene.wait_for_streams(1).await;

    // Added: works at once.
    let (there, other) = (named("another").await, Port::free());
    let it = scene.nodes[THERE].spec().conf["protocol"]["services"]["expose"][0].clone();
    let outcome = scene.expose(json!([it, {"name": "more", "target": there.to_string()}])).await;
    assert_eq!(outcome["changes"][0]["path"], "protocol.services.expose");
    assert_eq!(outcome["changes"][0]["component"], "protocol");
    assert_eq!(outcome["warnings"], json!([]), "{outcome:#}");
    let rows = json!([scene.connection("it", &scene.port), scene.connection("more", &other)]);
    let outcome = scene.connect(rows).await;
    assert_eq!(outcome["changes"][0]["path"], "protocol.services.connect");
    assert_eq!(outcome["changes"][0]["strategy"], "replace_part");
    assert_eq!(hears(&other).await, "another");
    is_alive(&mut open).await;

    // The listeners swap their services.
    let rows = json!([scene.connection("it", &other), scene.connection("more", &scene.port)]);
    scene.connect(rows).await;
    assert_eq!(hears(&scene.port).await, "another");
    is_alive(&mut dial(&other).await).await;
    is_alive(&mut open).await;

    // Another target, and the plan says beforehand what goes on under the old one.
    let planned = {
        scene.nodes[THERE]
            .edit(|conf| conf["protocol"]["services"]["expose"][0]["target"] = json!(there.to_string()));
        let output = scene.nodes[THERE].spec().cli(&["reload", "--dry-run", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let warning = &planned["warnings"][0];
    assert_eq!(warning["path"], "protocol.services.expose", "{planned:#}");
    assert!(warning["message"].as_str().unwrap().contains("of service 'it' go"), "{planned:#}");
    committed(&scene.nodes[THERE].hangup().await);
    assert_eq!(hears(&other).await, "another");
    is_alive(&mut open).await;

    // Removed: new ones are refused at once, the open one goes on to its end, and is shown until then.
    scene.expose(json!([])).await;
    assert_eq!(hears(&other).await, "");
    scene.connect(json!([])).await;
    assert!(!other.accepts() && !scene.port.accepts());
    is_alive(&mut open).await;
    scene.wait_for_streams(1).await;
    for (node, key) in [(THERE, "expose"), (HERE, "connect")] {
        let shown = services(&scene.nodes[node]).await;
        let row = &shown[key][0];
        assert_eq!((&row["name"], &row["removed"]), (&json!("it"), &json!(true)), "{shown:#}");
        assert_eq!(row["open_streams"], 1, "{shown:#}");
    }
    open.shutdown().await.unwrap();
    assert_eq!(read_all(&mut open).await.unwrap(), b"");
    scene.wait_for_streams(0).await;
    assert_eq!(services(&scene.nodes[HERE]).await, json!({"expose": [], "connect": []}));
    traffic.finish().await;
    assert_eq!(scene.connections().await, before);
}

#[tokio::test]
async fn a_port_that_is_taken_rejects_the_change_and_the_old_one_works() {
    let mut scene = Scene::with(named("it").await).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let row = scene.connection("it", &scene.port);
    let mut moved = row.clone();
    moved["listen"] = json!(address);
    let outcome = scene.nodes[HERE]
        .reload_with(|conf| conf["protocol"]["services"]["connect"] = json!([row, moved]))
        .await;
    assert_eq!(outcome["outcome"], "rejected", "{outcome:#}");
    let error = &outcome["errors"][0];
    assert_eq!(error["path"], "protocol.services.connect[1].listen", "{outcome:#}");
    assert!(error["message"].as_str().unwrap().contains(&address) && error["hint"].is_string(), "{error}");
    assert_eq!(hears(&scene.port).await, "it");
    drop(taken);
    committed(&scene.nodes[HERE].hangup().await);
    assert_eq!(hears(&scene.port).await, "it");
}

#[tokio::test]
async fn a_port_changes_hands_between_services_and_the_node_in_two_reloads() {
    let mut scene = Scene::with(echo().await).await;
    let own = scene.port.loopback();
    let listen = |conf: &Value| conf["network"]["addresses"].clone();
    let before = listen(&scene.nodes[1].spec().conf);
    // The node's own ports, of services too, are free for a check that knows nothing but the file.
    let checked = scene.nodes[1].spec().cli(&["check"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let services = scene.nodes[1].spec().conf["protocol"]["services"].clone();
    let rejected = scene.nodes[1]
        .reload_with(|conf| {
            conf["protocol"]["services"]["connect"] = json!([]);
            conf["network"]["addresses"] = json!([before[0], own]);
        })
        .await;
    assert_eq!(rejected["outcome"], "rejected", "{rejected:#}");
    let error = rejected["errors"][0].clone();
    assert_eq!(error["path"], "network.addresses[1]", "{error:#}");
    assert!(error["message"].as_str().unwrap().contains("until this reload is done"), "{error:#}");
    for (connect, addresses) in [
        (json!([]), before.clone()),
        (json!([]), json!([before[0], own])),
        (json!([]), before.clone()),
        (services["connect"].clone(), before),
    ] {
        let outcome = scene.nodes[1]
            .reload_with(|conf| {
                conf["protocol"]["services"]["connect"] = connect;
                conf["network"]["addresses"] = addresses;
            })
            .await;
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    }
    is_alive(&mut dial(&scene.port).await).await;
}

#[tokio::test]
async fn a_node_does_not_start_where_a_port_of_a_service_is_taken() {
    let port = Port::free();
    let _taken = std::net::TcpListener::bind(port.address()).unwrap();
    let mut specs = Spec::federation(2);
    let peer = specs[0].keys.public_key.clone();
    specs[1].conf["protocol"] = json!({"services": {"connect": [
        {"name": "it", "peer": peer, "listen": port.address().to_string()}
    ]}});
    let mut node = specs.remove(1).spawn();
    assert_eq!(node.wait_for_end().await.code(), Some(1));
    let said = node.stderr();
    assert!(said.contains("protocol.services.connect[0].listen") && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn whatever_fails_in_a_change_leaves_services_and_streams_as_they_were() {
    let mut specs = Spec::federation(2);
    let arms = Arms::beside(specs[HERE].folder());
    let there = Arms::beside(specs[THERE].folder());
    for (spec, arms) in specs.iter_mut().zip([&there, &arms]) {
        *spec = std::mem::take(spec).env(Arms::VARIABLE, &arms.folder().display().to_string());
        spec.conf["reload"]["budget"] = json!("3s");
    }
    let mut scene = Scene::of(specs, echo().await).await;
    let before = scene.connections().await;
    let mut open = dial(&scene.port).await;
    is_alive(&mut open).await;
    let (other, named) = (Port::free(), named("another").await);
    // The last two lose the actor: one that panics on the way back, and one that blocks its thread. A successor takes office.
    for (point, action) in [
        ("protocol::prepare", "return(error_after)"),
        ("protocol::commit", "return(error)"),
        ("protocol::commit", "return(error_after)"),
        ("protocol::commit", "panic"),
        ("protocol::probe", "return(error)"),
        ("protocol::probe", "return(hang)"),
        ("protocol::commit", "sleep(6000)"),
    ] {
        let what = format!("{action} at {point}");
        let rows = [scene.connection("it", &scene.port), scene.connection("it", &other)];
        for (node, arms, section, value) in [
            (HERE, &arms, "connect", json!([rows[1]])),
            (THERE, &there, "expose", json!([{"name": "it", "target": named.to_string()}])),
        ] {
            let old = scene.nodes[node].spec().conf["protocol"]["services"][section].clone();
            arms.arm(point, action);
            let outcome =
                scene.nodes[node].reload_with(|conf| conf["protocol"]["services"][section] = value).await;
            assert_eq!(outcome["outcome"], "rolled_back", "{what}: {outcome:#}");
            assert!(arms.was_hit(point), "{what}");
            arms.clear();
            assert!(!other.accepts(), "{what}");
            is_alive(&mut open).await;
            is_alive(&mut dial(&scene.port).await).await;
            scene.nodes[node].edit(|conf| conf["protocol"]["services"][section] = old);
            assert_eq!(scene.nodes[node].hangup().await["outcome"], "unchanged", "{what}");
        }
    }
    // And the next good change works.
    let row = scene.connection("it", &other);
    scene.connect(json!([row])).await;
    is_alive(&mut dial(&other).await).await;
    is_alive(&mut open).await;
    assert!(!scene.port.accepts());
    assert_eq!(scene.connections().await, before);
}

#[tokio::test]
async fn a_stop_is_a_reset_for_streams_that_are_idle_and_so_is_a_kill() {
    for signal in [Signal::TERM, Signal::KILL] {
        for node in [THERE, HERE] {
            let mut scene = Scene::with(echo().await).await;
            let mut open = dial(&scene.port).await;
            is_alive(&mut open).await;
            scene.nodes[node].signal(signal);
            let status = scene.nodes[node].wait_for_end().await;
            assert_eq!(status.success(), signal == Signal::TERM);
            let error = read_all(&mut open).await.expect_err("what was not ended is reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn services_are_shown() {
    let scene = Scene::with(echo().await).await;
    let mut open = dial(&scene.port).await;
    is_alive(&mut open).await;
    scene.wait_for_streams(1).await;
    // Bytes are counted when they are passed on: whoever has them may be faster.
    let here = eventually("all that came is counted", async || {
        let here = services(&scene.nodes[HERE]).await;
        (here["connect"][0]["bytes_received"] == 12).then_some(here)
    })
    .await;
    let row = &here["connect"][0];
    assert_eq!((&row["name"], &row["peer_state"]), (&json!("it"), &json!("connected")), "{here:#}");
    assert_eq!(row["bytes_sent"], 12, "{here:#}");
    let output = scene.nodes[THERE].spec().cli(&["services"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("it") && text.contains("1 stream,"), "{text}");
    let output = scene.nodes[HERE].spec().cli(&["services", "--json"]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["connect"][0]["listen"], scene.port.address().to_string());
    let metrics = scene.nodes[HERE].client().get("/metrics").await.unwrap().body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for line in [
        "fednode_service_streams{service=\"it\"} 1",
        "fednode_service_bytes_total{service=\"it\",direction=\"sent\"} 12",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert_eq!(scene.nodes[HERE].status().await["services"], json!({"expose": [], "connect": ["it"]}));
    drop(open);
    scene.wait_for_streams(0).await;
    let (status, spec) = { scene }.nodes.remove(HERE).stop().await;
    assert!(status.success());
    assert_eq!(spec.cli(&["services"]).status.code(), Some(5));
}
