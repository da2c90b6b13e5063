//! The socket's folder is taken away, as on a machine that cleans `/run`: what a reload makes of that, and how the socket comes back.

use std::fs;
use std::path::PathBuf;

use fednode_tests::eventually;
use fednode_tests::web::{Reply, Way};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::scene::{Scene, bearer, good};

/// A node whose socket is in a folder of its own.
struct Cleaned {
    scene: Scene,
    folder: PathBuf,
}

// === impl Cleaned ===

impl Cleaned {
    async fn new() -> Self {
        let mut scene = Scene::plain().await;
        let folder = scene.node.spec().folder().join("run");
        fs::create_dir(&folder).expect("it can be made");
        let socket = folder.join("admin.sock");
        scene.reload("committed", |admin| admin["socket"] = json!(socket)).await;
        Self { scene, folder }
    }

    fn socket(&self) -> Way {
        Way::Socket(self.folder.join("admin.sock"))
    }

    fn take_away(&self) {
        fs::remove_dir_all(&self.folder).expect("it is there");
    }

    fn give_back(&self) {
        fs::create_dir(&self.folder).expect("it can be made");
    }

    /// The folder goes, and the node notices.
    async fn lose(&self) {
        self.take_away();
        self.scene.node.signal(Signal::HUP);
        self.scene.node.wait_for_log("the admin socket cannot be served again").await;
    }

    fn ask(&self) -> impl Future<Output = Reply> + use<> {
        let way = self.scene.plainly();
        async move { way.ask(&format!("POST /admin/reload\n{}", bearer(&good())), "").await }
    }

    async fn is_ready(&self) -> bool {
        self.scene.plainly().ask("GET /readyz", "").await.status == 200
    }

    async fn is_served(&self) -> bool {
        self.socket().try_ask("GET /healthz", "").await.is_ok_and(|reply| reply.status == 200)
    }
}

/// Something that changes `admin`, and keeps no caller out.
fn another_source(conf: &mut Value) {
    conf["admin"]["jwt"]["sources"] = json!([{"header": "Authorization"}, {"header": "X-Token"}]);
}

#[tokio::test]
async fn a_reload_of_admin_is_refused_while_it_is_away_and_one_that_is_rolled_back_serves_it_again() {
    let mut cleaned = Cleaned::new().await;
    cleaned.lose().await;
    cleaned.scene.node.edit(|conf| conf["logging"]["level"] = json!("debug"));
    assert_eq!(cleaned.ask().await.json()["outcome"], "committed", "whom it does not concern goes on");
    cleaned.scene.node.edit(another_source);
    let refused = cleaned.ask().await;
    let outcome = refused.json();
    assert_eq!((refused.status, &outcome["errors"][0]["path"]), (409, &json!("admin.socket")), "{outcome:#}");
    let told = outcome["errors"][0].to_string();
    assert!(
        told.contains(&cleaned.folder.display().to_string()) && told.contains("name a path in a folder"),
        "{told}"
    );
    assert!(cleaned.is_ready().await, "everything else goes on");

    cleaned.give_back();
    assert!(!cleaned.is_served().await, "nobody has asked for it yet");
    // Somebody names another place, which then will not do.
    let other = cleaned.scene.node.spec().folder().join("other.sock");
    cleaned.scene.node.edit(|conf| conf["admin"]["socket"] = json!(other));
    cleaned.scene.arms.arm("admin::probe", "return(error)");
    let outcome = cleaned.ask().await.json();
    assert_eq!(outcome["outcome"], "rolled_back", "{outcome:#}");
    assert!(cleaned.is_served().await, "the way back serves what the old configuration says");
    assert!(!other.exists());
    let outcome = cleaned.ask().await.json();
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let way = Way::Socket(other);
    assert_eq!(way.ask("GET /admin/status", "").await.json()["state"], "idle");
}

#[tokio::test]
async fn one_whose_folder_was_away_during_a_reload_is_back_with_it() {
    let cleaned = Cleaned::new().await;
    let away = cleaned.folder.with_extension("away");
    fs::rename(&cleaned.folder, &away).expect("it is there");
    for _ in 0..2 {
        cleaned.scene.node.signal(Signal::HUP);
    }
    cleaned.scene.node.wait_for_log("the admin socket cannot be served again").await;
    assert!(!cleaned.is_served().await);
    fs::rename(&away, &cleaned.folder).expect("it can be put back");
    assert!(cleaned.is_served().await, "nobody has to ask for it");
    let outcome = cleaned.ask().await.json();
    assert!(["committed", "unchanged"].contains(&outcome["outcome"].as_str().expect("one")), "{outcome:#}");
    assert!(cleaned.is_served().await);
}

#[tokio::test]
async fn a_successor_who_cannot_serve_it_says_so_and_serves_it_when_he_can() {
    let mut cleaned = Cleaned::new().await;
    cleaned.lose().await;
    let (mine, other) =
        (cleaned.folder.join("admin.sock"), cleaned.scene.node.spec().folder().join("other.sock"));
    cleaned.scene.node.edit(|conf| conf["admin"]["socket"] = json!(other));
    cleaned.scene.arms.arm("admin::commit", "return(hang)");
    let outcome = cleaned.ask().await.json();
    assert_ne!(outcome["outcome"], "committed", "{outcome:#}");
    cleaned.scene.node.wait_for_log("the admin API cannot be served").await;
    cleaned.give_back();
    cleaned.scene.node.edit(|conf| conf["admin"]["socket"] = json!(mine));
    cleaned.scene.node.signal(Signal::HUP);
    eventually("it is served again", async || cleaned.is_served().await.then_some(())).await;
    let outcome = eventually("a good reload", async || {
        let outcome = cleaned.ask().await.json();
        ["committed", "unchanged"].contains(&outcome["outcome"].as_str().expect("one")).then_some(outcome)
    })
    .await;
    assert!(cleaned.is_ready().await, "{outcome:#}");
}
