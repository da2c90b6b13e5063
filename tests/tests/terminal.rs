//! What a person sees at a terminal: the live view, colours, excerpts; and what a pipe gets instead.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use fednode_tests::{Node, Spec, Terminal, eventually, screenshot};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Nodes that know each other by name.
async fn federation(names: &[&str]) -> Vec<Node> {
    let mut specs = Spec::federation(names.len());
    for spec in &mut specs {
        let entries = spec.peers["peers"].as_array_mut().expect("a list");
        entries.iter_mut().zip(names).for_each(|(entry, name)| entry["name"] = json!(name));
    }
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    for node in &nodes {
        node.wait_for_connections(names.len() - 1).await;
    }
    nodes
}

/// The view follows what happens, and the terminal is as before when it ends.
///
/// With `FEDNODE_SCREENSHOT=FILE.svg` what is on the screen is drawn there: `docs/status-watch.svg` is such a picture.
#[tokio::test]
async fn the_live_view_follows_reloads_and_members() {
    let mut nodes = federation(&["north", "south", "west"]).await;
    let terminal = Terminal::run(nodes[0].spec().command(&["status", "--watch"]), 132, 40);
    let first = terminal.wait_for("2 members, 2 connected").await;
    assert!(
        first.contains("generation 1  idle") && first.contains("listens on /ip4/127.0.0.1/tcp/"),
        "{first}"
    );
    assert!(first.contains(" by startup at "), "{first}");

    nodes[0].edit(|conf| conf["logging"]["level"] = json!("debug"));
    assert_eq!(nodes[0].hangup().await["outcome"], "committed");
    let second = terminal.wait_for("generation 2  idle").await;
    assert!(second.contains("changed logging.level") && second.contains("prepare "), "{second}");
    terminal.wait_for("reload finished committed by signal").await;

    nodes[0].edit(|conf| conf["logging"]["level"] = json!("loud"));
    assert_eq!(nodes[0].hangup().await["outcome"], "rejected");
    terminal.wait_for("rejected by signal").await;

    let gone = nodes.pop().expect("three").kill().await;
    let third = terminal.wait_for("2 members, 1 connected").await;
    // Who is missing stands first.
    let (missing, there) = (third.find(" west"), third.find(" south"));
    assert!(missing.is_some() && missing < there, "{third}");
    assert!(terminal.text().contains("\x1b[32m"), "there are colours");
    drop(gone);
    if let Some(file) = std::env::var_os("FEDNODE_SCREENSHOT") {
        fs::write(file, screenshot::svg(&terminal.coloured_frame(), 132)).unwrap();
    }

    terminal.resize(60, 6);
    let small = terminal.wait_for("more lines").await;
    assert!(small.lines().count() <= 6 && small.lines().all(|line| line.chars().count() <= 60), "{small}");
    terminal.signal(Signal::INT);
    let (status, text) = terminal.end().await;
    assert_eq!(status.code(), Some(0));
    assert!(text.starts_with("\x1b[?1049h\x1b[?25l") && text.ends_with("\x1b[?25h\x1b[?1049l"), "{text:?}");
}

#[tokio::test]
async fn the_live_view_outlives_its_node() {
    let node = Spec::new().start().await;
    let terminal = Terminal::run(node.spec().command(&["status", "--watch"]), 100, 30);
    terminal.wait_for("0 members").await;
    let (_, spec) = node.stop().await;
    terminal.wait_for("NO NODE ANSWERS").await;
    let node = spec.spawn();
    terminal.wait_for("generation 1  idle").await;
    drop(node);
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.end().await.0.code(), Some(0));
}

/// The lines that a command prints into a pipe, until it is killed.
struct Piped {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Piped {
    fn run(node: &Node, arguments: &[&str]) -> Self {
        let mut child = node.spec().command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(1024);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The first line that is looked for; those before it are passed over.
    async fn wait_for(&self, mut wanted: impl FnMut(&str) -> bool) -> String {
        eventually("the line is printed", async || self.lines.try_iter().find(|line| wanted(line))).await
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn without_a_terminal_there_is_a_line_for_each_change() {
    let mut node = Spec::new().start().await;
    let text = Piped::run(&node, &["status", "--watch"]);
    let json = Piped::run(&node, &["status", "--watch", "--json"]);
    let line = text.wait_for(|line| line.contains("generation 1 idle")).await;
    assert!(!line.contains('\u{1b}'), "{line:?}");
    let generation =
        |line: &str| serde_json::from_str::<Value>(line).expect("each line is JSON")["generation"].clone();
    json.wait_for(|line| generation(line) == 1).await;
    node.edit(|conf| conf["logging"]["level"] = json!("warn"));
    assert_eq!(node.hangup().await["outcome"], "committed");
    text.wait_for(|line| line.contains("generation 2 idle") && line.contains("committed by signal")).await;
    json.wait_for(|line| generation(line) == 2).await;
}

#[tokio::test]
async fn a_problem_is_underlined_at_a_terminal_and_one_line_in_a_pipe() {
    let spec = Spec::new();
    let secret = &spec.keys.private_key;
    let text = format!(
        "node: {{private_key: \"{secret}\", worker_threads: many}}\nnetwork: {{addresses: [{}]}}\n\
         peers: {{connection_timeout: 10s}}\nlogging:\n  level: inof   # what we want\n  format: json\n\
         admin: {{jwt: {{algorithm: HS256, secret: hunter2}}}}\n",
        spec.port.loopback()
    );
    fs::write(spec.conf_path(), text).unwrap();
    fs::write(spec.peers_path(), "peers: []\n").unwrap();
    let (status, seen) = Terminal::run(spec.command(&["check"]), 120, 40).end().await;
    assert_eq!(status.code(), Some(1));
    let seen = seen.replace('\r', "");
    assert!(seen.contains("  5 |   level: inof …\n    |          \u{1b}[31m^^^^\u{1b}[0m\n"), "{seen}");
    assert!(seen.contains("  1 | … worker_threads: many …\n"), "{seen}");
    assert!(!seen.contains(secret) && !seen.contains("hunter2"), "a secret: {seen}");
    let (_, plain) = Terminal::run(
        {
            let mut c = spec.command(&["check"]);
            c.env("NO_COLOR", "1");
            c
        },
        120,
        40,
    )
    .end()
    .await;
    assert!(plain.contains("^^^^") && !plain.contains('\u{1b}'), "{plain:?}");

    let piped = spec.cli(&["check"]);
    let errors = String::from_utf8_lossy(&piped.stderr).into_owned();
    assert!(!errors.contains('^') && !errors.contains('\u{1b}'), "{errors}");
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 4, "a line for each problem, and how many: {errors}");
    assert!(
        lines[1].contains("conf.yaml:5:10: logging.level: \"inof\" is not known here (did you mean `info`?)"),
        "{errors}"
    );
}

#[tokio::test]
async fn a_reload_that_takes_its_time_says_what_it_waits_for() {
    let mut node = Spec::new().env("FAILPOINTS", "protocol::prepare=1*return(late:3000)->off").start().await;
    node.edit(|conf| conf["protocol"] = json!({"max_message_size": "2KiB"}));
    let terminal = Terminal::run(node.spec().command(&["reload"]), 100, 30);
    eventually("the wait is shown", async || terminal.text().contains("waiting for protocol").then_some(()))
        .await;
    let (status, text) = terminal.end().await;
    assert_eq!(status.code(), Some(0), "{text}");
    // The outcome stands where the sign of life was.
    assert!(text.contains("\r\u{1b}[Kcommitted: generation 1 -> 2"), "{text:?}");
}
