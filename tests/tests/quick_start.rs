//! The commands of `docs/quick-start.md`, as they stand there, by a shell: who follows the page gets what it says.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fednode::client::Client;
use fednode_tests::port::Port;
use fednode_tests::{eventually, process};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/quick-start.md");

/// Each line counts.
const START: &str = "set -eu\n";

/// A node that a line of the page starts. Killed when the test ends, however it ends.
struct Running(Child);

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("a child can be killed");
        self.0.wait().expect("a child can be waited for");
    }
}

#[tokio::test]
async fn the_commands_of_the_quick_start_do_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink(process::binary(), programs.join("fednode")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let ports = ["9001", "9002", "7001", "8080"].map(|written| (written, Port::free()));
    let mut running = Vec::new();
    let mut script = START.to_owned();
    for line in commands(PAGE) {
        let mut line = line.to_owned();
        for (written, port) in &ports {
            line = line.replace(written, &port.address().port().to_string());
        }
        if !line.ends_with(" run") {
            script.push_str(&line);
            script.push('\n');
            continue;
        }
        // What comes before has to be done, and what comes after wants the node.
        shell(&script, folder.path(), &path);
        START.clone_into(&mut script);
        let mut node = Command::new("sh");
        node.args(["-c", &format!("exec {line}")]).current_dir(folder.path()).env("PATH", &path);
        running.push(Running(node.stdout(Stdio::null()).spawn().expect("a shell")));
        let name = line.split(['/', ' ']).nth(2).expect("a folder").to_owned();
        serves(&folder.path().join(name)).await;
    }
    assert_eq!(running.len(), 2, "the page starts two nodes");
    shell(&script, folder.path(), &path);

    let north = Client::new(folder.path().join("north/data/admin.sock"));
    let connected = eventually("North has South", async || {
        let status: Value = north.get("/admin/status").await.ok()?.json().ok()?;
        (status["members"][0]["state"] == "connected").then_some(status)
    });
    let status = connected.await;
    assert_eq!(status["members"][0]["name"], "South Inc.", "{status:#}");
    assert_eq!(status["topics"][0], "blocks");
    assert_eq!(status["services"]["connect"][0], "web");
    // Undone by the last but one command: the file, too.
    assert_eq!(status["file_differs"], false, "{status:#}");
    let conf = fs::read_to_string(folder.path().join("north/conf.yaml")).unwrap();
    assert!(conf.contains("level: info"), "{conf}");
}

/// The lines of the page's `sh` blocks.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let fence = line.starts_with("```");
        if fence {
            inside = *line == "```sh";
        }
        inside && !fence
    })
}

fn shell(script: &str, folder: &Path, path: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(folder).env("PATH", path).env_remove("FEDNODE_CONFIG");
    let output = shell.output().expect("a shell");
    assert!(output.status.success(), "{script}\n{output:?}");
}

async fn serves(folder: &Path) {
    let client = Client::new(folder.join("data/admin.sock"));
    eventually("the node serves", async || client.get("/healthz").await.ok()).await;
}
