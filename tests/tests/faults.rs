//! A component that refuses, errors, panics, never answers, answers late or blocks its thread, in prepare or in commit: the
//! whole node is back on the old generation within the budget, sockets and side effects included; a late answer changes
//! nothing; the next good reload works. For each component and each step.

use fednode::client::Client;
use fednode_tests::{Arms, Node, Port, Side, Spec, Stage, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// As fault points know them. A blocked thread sleeps for longer than everything else here.
const FAULTS: [(&str, &str); 6] = [
    ("refuses", "return(error)"),
    ("errors after its work", "return(error_after)"),
    ("panics", "panic"),
    ("never answers", "return(hang)"),
    ("answers late", "return(late:3000)"),
    ("blocks its thread", "sleep(4000)"),
];

const BUDGET_MS: f64 = 1500.0;

struct Case {
    node: Node,
    other: Node,
    second: Port,
}

impl Case {
    async fn start(component: &str, step: &str, faults: &[(&str, &str)]) -> Self {
        // Each fault once, then off for the good reload there and the good one back.
        let mut actions: Vec<String> =
            faults.iter().map(|(_, action)| format!("1*{action}->2*off")).collect();
        actions.push("off".to_owned());
        let mut specs = Spec::federation(2);
        let other = specs.pop().expect("two");
        let mut spec = specs
            .pop()
            .expect("two")
            .env("FAILPOINTS", &format!("{component}::{step}={}", actions.join("->")));
        spec.conf["reload"]["budget"] = json!(format!("{BUDGET_MS}ms"));
        let (node, other) = (spec.start().await, other.start().await);
        node.wait_for_connections(1).await;
        Self { node, other, second: Port::free() }
    }

    /// Changes something of every component.
    fn edit_to_new(&mut self) {
        let (first, second) = (self.node.spec().port.loopback(), self.second.loopback());
        self.node.edit(|conf| {
            conf["logging"]["level"] = json!("debug");
            conf["network"]["addresses"] = json!([first, second]);
            conf["protocol"] = json!({"max_message_size": "1KiB"});
            conf["admin"] = json!({"socket": "new.sock"});
        });
        let entry = json!({"public_key": NOBODY, "addresses": []});
        self.node.edit_peers(|peers| peers.push(entry));
    }

    fn edit_to_old(&mut self) {
        let first = self.node.spec().port.loopback();
        self.node.edit(|conf| {
            conf["logging"]["level"] = json!("info");
            conf["network"]["addresses"] = json!([first]);
            conf["protocol"] = json!({});
            conf["admin"] = json!({});
        });
        self.node.edit_peers(|peers| peers.retain(|peer| peer["public_key"] != NOBODY));
    }

    fn client(&self, socket: &str) -> Client {
        Client::new(self.node.spec().folder().join("data").join(socket))
    }

    /// What can be seen from outside of the configuration in force.
    async fn assert_in_force(&self, new: bool, what: &str) {
        let (there, gone) = if new { ("new.sock", "admin.sock") } else { ("admin.sock", "new.sock") };
        let status: Value = self
            .client(there)
            .get("/admin/status")
            .await
            .unwrap_or_else(|e| panic!("{what}: {e}"))
            .json()
            .unwrap();
        let gone = self.node.spec().folder().join("data").join(gone);
        eventually(&format!("{what}: {} is gone", gone.display()), async || (!gone.exists()).then_some(()))
            .await;
        assert_eq!(self.second.accepts(), new, "{what}: the second port");
        assert!(self.node.spec().port.accepts(), "{what}: the first port");
        let members = status["members"].as_array().unwrap();
        assert_eq!(members.iter().any(|member| member["public_key"] == NOBODY), new, "{what}: {members:#?}");
        let path = format!("/v1/peers/{}/messages", self.other.key().replace('+', "-").replace('/', "_"));
        let answer = self.client(there).post(&path, &[], vec![b'x'; 2000]).await.unwrap();
        assert_eq!(answer.status.as_u16(), if new { 413 } else { 200 }, "{what}: {answer:?}");
        // The level in force shows in what a reload logs that changes nothing.
        let logged = self.node.log().len();
        let unchanged: Value =
            self.client(there).post("/admin/reload", &[], vec![]).await.unwrap().json().unwrap();
        if unchanged["outcome"] == "unchanged" {
            let lines = self.node.log()[logged..].to_owned();
            assert_eq!(lines.contains("\"DEBUG\""), new, "{what}: {lines}");
        }
        assert_eq!(status["state"], "idle", "{what}");
        assert_eq!(status["degraded"], false, "{what}");
    }
}

/// A key of nobody who runs: a public key from RFC 8032's test vectors.
const NOBODY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

async fn every_fault(component: &str, step: &str, faults: &[(&str, &str)]) {
    let mut case = Case::start(component, step, faults).await;
    let connection = case.node.connections().await;
    for (name, _) in faults {
        let what = format!("{component} {name} in {step}");
        case.assert_in_force(false, &format!("before {what}")).await;
        case.edit_to_new();
        let generation = case.node.status().await["generation"].clone();
        let outcome = case.node.hangup().await;
        assert_eq!(outcome["outcome"], "rolled_back", "{what}: {outcome:#}");
        assert!(outcome["error"].as_str().unwrap().contains(component), "{what}: {outcome:#}");
        assert_eq!(outcome["config_generation"], generation, "{what}");
        let took = outcome["duration_ms"].as_f64().unwrap();
        assert!(took < 2.0 * BUDGET_MS, "{what}: took {took} ms");
        // The file goes back too, so that what is asked next changes nothing.
        case.edit_to_old();
        case.assert_in_force(false, &format!("after {what}")).await;

        case.edit_to_new();
        let outcome = case.node.hangup().await;
        assert_eq!(outcome["outcome"], "committed", "the next good one after {what}: {outcome:#}");
        case.assert_in_force(true, &format!("committed after {what}")).await;
        case.edit_to_old();
        let outcome = case.node.hangup().await;
        assert_eq!(outcome["outcome"], "committed", "and back after {what}: {outcome:#}");
    }
    assert_eq!(case.node.connections().await, connection, "the connection lives through all of it");
}

macro_rules! cases {
    ($($name:ident: $component:literal, $step:literal, $faults:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                every_fault($component, $step, &$faults).await;
            }
        )*
    };
}

cases! {
    logging_in_prepare: "logging", "prepare", FAULTS;
    logging_in_commit: "logging", "commit", FAULTS;
    logging_in_probe: "logging", "probe", FAULTS[..5];
    peer_store_in_prepare: "peer_store", "prepare", FAULTS;
    peer_store_in_commit: "peer_store", "commit", FAULTS;
    // The one component that cannot be left behind when its thread is stuck.
    network_in_prepare: "network", "prepare", FAULTS[..5];
    network_in_commit: "network", "commit", FAULTS[..5];
    protocol_in_prepare: "protocol", "prepare", FAULTS;
    protocol_in_commit: "protocol", "commit", FAULTS;
    admin_in_prepare: "admin", "prepare", FAULTS;
    admin_in_commit: "admin", "commit", FAULTS;
}

#[tokio::test]
async fn a_network_whose_thread_is_stuck_is_emergency_and_recovers_with_a_good_reload() {
    let mut case = Case::start("network", "commit", &[("blocks its thread", "sleep(5000)")]).await;
    let connection = case.node.connections().await;
    case.edit_to_new();
    let outcome = case.node.hangup().await;
    assert_eq!(outcome["outcome"], "failed", "{outcome:#}");
    let status = case.node.status().await;
    assert_eq!((&status["state"], &status["degraded"]), (&json!("failed"), &json!(true)));
    let ready = case.node.client().get("/readyz").await.unwrap();
    assert_eq!(ready.status.as_u16(), 503);
    // When its thread comes back, it finds the rollback waiting; the next reload heals.
    eventually("a reload leads out of emergency", async || {
        let outcome = case.node.hangup().await;
        (outcome["outcome"] == "committed").then_some(())
    })
    .await;
    case.assert_in_force(true, "after the emergency").await;
    assert_eq!(case.client("new.sock").get("/readyz").await.unwrap().status.as_u16(), 200);
    let status: Value = case.client("new.sock").get("/admin/status").await.unwrap().json().unwrap();
    assert_eq!(status["connections"][0]["id"], connection[0].0.as_str());
}

#[tokio::test]
async fn sigterm_during_a_hanging_reload_stops_the_node_in_time() {
    let mut spec = Spec::new().env("FAILPOINTS", "network::prepare=return(hang)");
    spec.conf["reload"]["budget"] = json!("2s");
    let mut node = spec.start().await;
    let port = Port::free();
    node.edit(|conf| conf["network"]["addresses"] = json!([port.loopback()]));
    node.signal(Signal::HUP);
    eventually("the reload hangs", async || (node.status().await["state"] == "updating").then_some(())).await;
    node.signal(Signal::TERM);
    let status = node.wait_for_end().await;
    assert!(status.success(), "{status}");
    node.wait_for_log("Shutdown complete").await;
    assert_eq!(node.audit().last().unwrap()["outcome"], "rolled_back");
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut spec = Spec::new().env("FAILPOINTS", "network::prepare=return(hang)");
    spec.conf["reload"]["budget"] = json!("30s");
    let mut node = spec.start().await;
    let port = Port::free();
    node.edit(|conf| conf["network"]["addresses"] = json!([port.loopback()]));
    node.signal(Signal::HUP);
    eventually("the reload hangs", async || (node.status().await["state"] == "updating").then_some(())).await;
    node.signal(Signal::TERM);
    node.wait_for_log("Shutting down...").await;
    node.signal(Signal::TERM);
    node.wait_for_log("a second signal").await;
    node.wait_for_end().await;
    assert_eq!(node.audit().len(), 1, "nobody waited for the reload");
}

/// Found by `fednode-stress`: the line of a refusal overtook that of the commit before it, which the disk kept waiting.
#[tokio::test]
async fn the_audit_log_is_in_the_order_of_what_it_tells() {
    let mut stage = Stage::started().await;
    stage.arms.arm("coordinator::audit", "sleep(700)");
    stage.write(Side::New);
    stage.node().signal(Signal::HUP);
    eventually("the line is about to be written", async || {
        stage.arms.was_hit("coordinator::audit").then_some(())
    })
    .await;
    std::fs::write(stage.node().spec().conf_path(), "").expect("the folder can be written");
    stage.node().signal(Signal::HUP);
    let lines = eventually("both lines", async || {
        let lines = fednode_tests::process::audit(&stage.data_dir());
        (lines.len() >= 3).then_some(lines)
    })
    .await;
    let told: Vec<_> = lines.iter().map(|line| (&line["outcome"], &line["config_generation"])).collect();
    let expected = [("committed", 1), ("committed", 2), ("rejected", 2)].map(|(o, g)| (json!(o), json!(g)));
    assert_eq!(told, expected.iter().map(|(o, g)| (o, g)).collect::<Vec<_>>());
}

/// The disk takes an audit line and does not come back: whoever asks is answered, and so is the next.
#[tokio::test]
async fn a_disk_that_does_not_answer_keeps_nobody_waiting() {
    let spec = Spec::new();
    let arms = Arms::beside(spec.folder());
    let mut spec = spec.env(Arms::VARIABLE, &arms.folder().display().to_string());
    spec.conf["reload"]["budget"] = json!("2s");
    let mut node = spec.start().await;
    // Longer than any test.
    arms.arm("coordinator::audit", "sleep(600000)");
    for level in ["debug", "info"] {
        node.edit(|conf| conf["logging"]["level"] = json!(level));
        let answer = node.client().post("/admin/reload", &[], vec![]).await.expect("it answers");
        let outcome: Value = answer.json().expect("JSON");
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
        assert_eq!(node.status().await["generation"], outcome["config_generation"]);
    }
    node.wait_for_log("the audit log cannot be written").await;
}
