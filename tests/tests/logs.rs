//! The log of a real node: moved away, cut off and full, and changed while much is written. (Counted line by line, at the pace of
//! the layer itself: `fednode`'s own tests.)

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fednode_tests::{Arms, Node, Spec, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A node that logs to a file, and to the console as well if asked to.
fn logging(console: bool) -> Spec {
    let mut spec = Spec::new();
    spec.conf["logging"]["console_output"] = json!(console);
    spec.conf["logging"]["file_output"] = json!(true);
    spec.conf["logging"]["file_name"] = json!("node.log");
    spec
}

fn file(node: &Node, name: &str) -> PathBuf {
    node.spec().folder().join(name)
}

fn text(node: &Node, name: &str) -> String {
    fs::read_to_string(file(node, name)).unwrap_or_default()
}

/// The generations whose reload a text tells the end of, each as often as it is told.
fn told(text: &str) -> BTreeMap<u64, usize> {
    let mut told = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("configuration reload finished")) {
        let number = if line.starts_with('{') {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            line["generation"].as_u64()
        } else {
            line.split_once(" generation=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        };
        *told.entry(number.unwrap_or_else(|| panic!("no generation: {line}"))).or_default() += 1;
    }
    told
}

async fn reload(node: &mut Node, size: u64) -> Value {
    let outcome = node.reload_with(|conf| conf["protocol"]["max_message_size"] = json!(size)).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    outcome
}

#[tokio::test]
async fn console_and_file_get_the_same() {
    let mut node = logging(true).start().await;
    reload(&mut node, 2000).await;
    // Each is written by a thread of its own.
    eventually("both are the same", async || (text(&node, "node.log") == node.log()).then_some(())).await;
    assert_eq!(told(&node.log()), BTreeMap::from([(2, 1)]));
}

/// `create` of logrotate(8): the file is moved away, a new one stands in its place, then comes SIGHUP.
#[tokio::test]
async fn a_file_that_logrotate_moved_away_is_opened_again() {
    let mut node = logging(false).start().await;
    reload(&mut node, 2000).await;
    fs::rename(file(&node, "node.log"), file(&node, "node.log.1")).unwrap();
    fs::write(file(&node, "node.log"), "").unwrap();
    // Until it is told, the node writes where it wrote.
    let outcome = node.hangup().await;
    assert_eq!(outcome["outcome"], "unchanged");
    // The request to open it again is answered beside the reload; only a later line shows that it was.
    let mut size = 3000;
    eventually("the new file is written to", async || {
        size += 1;
        reload(&mut node, size).await;
        (!text(&node, "node.log").is_empty()).then_some(())
    })
    .await;
    let (old, new) = (told(&text(&node, "node.log.1")), told(&text(&node, "node.log")));
    let last = node.audit().last().unwrap()["config_generation"].as_u64().unwrap();
    for generation in 3..=last {
        let times = old.get(&generation).unwrap_or(&0) + new.get(&generation).unwrap_or(&0);
        assert_eq!(times, 1, "generation {generation}: {old:?} {new:?}");
    }
    assert!(new.contains_key(&last));
}

/// `copytruncate` of logrotate(8): nobody is told anything.
#[tokio::test]
async fn a_file_that_logrotate_cut_off_goes_on_at_its_beginning() {
    let mut node = logging(false).start().await;
    reload(&mut node, 2000).await;
    fs::copy(file(&node, "node.log"), file(&node, "copy")).unwrap();
    fs::File::options().write(true).open(file(&node, "node.log")).unwrap().set_len(0).unwrap();
    reload(&mut node, 2001).await;
    let after = text(&node, "node.log");
    assert!(!after.contains('\0') && after.starts_with('{'), "a hole: {after:?}");
    assert_eq!((told(&text(&node, "copy"))[&2], told(&after)), (1, BTreeMap::from([(3, 1)])));
}

/// Visitors who open a connection and leave: at `debug`, libp2p has something to say of each.
struct Visitors {
    go_on: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

// === impl Visitors ===

impl Visitors {
    fn of(node: &Node) -> Self {
        let (go_on, address) = (Arc::new(AtomicBool::new(true)), node.spec().port.address());
        let thread = std::thread::spawn({
            let go_on = Arc::clone(&go_on);
            move || {
                while go_on.load(Ordering::Relaxed) {
                    // Whether it is let in is not the point.
                    drop(TcpStream::connect(address));
                }
            }
        });
        Self { go_on, thread: Some(thread) }
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.go_on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test]
async fn fifty_reloads_of_every_key_leave_every_line_whole() {
    const RELOADS: u64 = 50;
    let mut spec = logging(false);
    spec.conf["logging"]["level"] = json!("debug");
    let mut node = spec.start().await;
    let visitors = Visitors::of(&node);
    for number in 0..RELOADS {
        let outcome = node
            .reload_with(|conf| {
                let file = ["node.log", "other.log"][usize::from(number % 5 > 2)];
                let format = if number % 4 < 2 { "text" } else { "json" };
                let level = ["debug", "info"][usize::from(number % 3 == 1)];
                conf["logging"] = json!({
                    "level": level, "format": format, "console_output": false, "console_color": false,
                    "targets": {"libp2p_swarm": if number % 2 == 0 { "debug" } else { "warn" }},
                    "file_output": true, "file_name": file,
                    "file_max_size": 50_000 + number, "file_max_backups": 900 + number,
                });
            })
            .await;
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    }
    drop(visitors);
    let (status, spec) = node.stop().await;
    assert!(status.success());
    let mut finished = BTreeMap::new();
    let (mut lines, mut files) = (0, 0);
    for entry in fs::read_dir(spec.folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.contains(".log") || name.starts_with("std") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{name} is torn");
        for line in text.lines() {
            if line.starts_with('{') {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            } else {
                // A time, a level, a target.
                assert!(line.get(23..24) == Some("Z") && line.contains(": "), "{name}: torn: {line}");
            }
        }
        (lines, files) = (lines + text.lines().count(), files + 1);
        for (generation, times) in told(&text) {
            *finished.entry(generation).or_default() += times;
        }
    }
    let expected: BTreeMap<u64, usize> = (2..=RELOADS + 1).map(|generation| (generation, 1)).collect();
    assert_eq!(finished.range(2..).map(|(g, n)| (*g, *n)).collect::<BTreeMap<_, _>>(), expected);
    println!("{lines} lines in {files} files");
    assert!(lines > 300 && files > 2, "{lines} lines in {files} files are no load");
}

/// How many lines this one says were lost.
fn how_many(line: &str) -> Option<u64> {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (line["message"] == "log lines were lost").then(|| line["lost"].as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_full_disk_costs_log_lines_and_never_the_node() {
    let mut spec = logging(false);
    spec.conf["logging"]["level"] = json!("debug");
    spec.conf["logging"]["file_max_size"] = json!("1GiB");
    // No file larger than 32 KiB: the write that would make it so takes a part of a line and refuses the rest.
    let mut node = spec.wrapped(&["sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]).start().await;
    let visitors = Visitors::of(&node);
    let lost = async |node: &Node| -> u64 {
        let answer = node.client().get("/metrics").await.unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("fednode_log_lines_lost_total "));
        line.and_then(|number| number.parse().ok()).unwrap()
    };
    eventually("lines are lost", async || (lost(&node).await > 0).then_some(())).await;
    drop(visitors);
    // What is said of their going is said before the file is looked at: a line between that and the next step would be missed.
    node.wait_for_connections(0).await;
    // A part of a line stands there for the moment that it takes to cut it off again.
    eventually("the last line is whole", async || {
        let full = text(&node, "node.log");
        (full.ends_with('\n') && full.len() <= 32 << 10).then_some(())
    })
    .await;
    assert!(node.stderr().contains("log lines are being lost"), "{}", node.stderr());
    assert!(node.client().get("/readyz").await.unwrap().status.is_success());
    let outcome = node.reload_with(|conf| conf["logging"]["level"] = json!("info")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");

    let before = eventually("nothing is said any more", async || {
        let (count, before) = (lost(&node).await, text(&node, "node.log"));
        (count == lost(&node).await && before == text(&node, "node.log")).then_some(before)
    })
    .await;
    fs::File::options().write(true).open(file(&node, "node.log")).unwrap().set_len(0).unwrap();
    reload(&mut node, 2000).await;
    let after = text(&node, "node.log");
    assert!(after.contains("log lines were lost"), "{after}");
    // A short line may have found room between two that did not.
    let said: u64 = [before, after].iter().flat_map(|text| text.lines()).filter_map(how_many).sum();
    assert_eq!(said, lost(&node).await);
    node.signal(Signal::TERM);
    assert!(node.wait_for_end().await.success());
}

/// Longer than any test waits.
const FOR_GOOD: &str = "sleep(600000)";

/// Two that are connected, of which the first logs so, with its fault points.
async fn two(spec: impl FnOnce(&mut Spec)) -> (Vec<Node>, Arms) {
    let mut specs = Spec::federation(2);
    spec(&mut specs[0]);
    let arms = Arms::beside(specs[0].folder());
    specs[0] = std::mem::take(&mut specs[0]).env(Arms::VARIABLE, &arms.folder().display().to_string());
    let mut nodes: Vec<_> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    nodes[0].wait_for_connections(1).await;
    (nodes, arms)
}

/// Messages go both ways, on connections that nobody has closed.
async fn messages_go(nodes: &[Node], connections: &[(String, String)]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let answer = nodes[from].send(nodes[to].key(), "hello").await.unwrap();
        assert!(answer.status.is_success(), "{answer:?}");
    }
    assert_eq!(nodes[0].connections().await, connections);
}

/// A disk that does not answer, under the log file: a write to it, the opening of another, and the way to one that is well.
#[tokio::test]
async fn a_disk_that_hangs_costs_log_lines_and_never_the_node() {
    let (mut nodes, arms) = two(|spec| {
        spec.conf["logging"]["console_output"] = json!(false);
        spec.conf["logging"]["file_output"] = json!(true);
        spec.conf["logging"]["file_name"] = json!("node.log");
    })
    .await;
    let connections = nodes[0].connections().await;
    arms.arm("log::write", FOR_GOOD);
    // With the file that hangs: the level is no business of the disk's.
    let outcome = nodes[0].reload_with(|conf| conf["logging"]["level"] = json!("debug")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    assert!(arms.was_hit("log::write"));
    messages_go(&nodes, &connections).await;
    assert!(nodes[0].client().get("/readyz").await.unwrap().status.is_success());
    let mut size = 2000;
    eventually("it is told", async || {
        // Something to log.
        size += 1;
        reload(&mut nodes[0], size).await;
        nodes[0].stderr().contains("log lines wait").then_some(())
    })
    .await;

    // To a file that cannot be opened, either: back on what hangs, which the way back does not need.
    arms.arm("log::open", FOR_GOOD);
    let outcome = nodes[0].reload_with(|conf| conf["logging"]["file_name"] = json!("hangs.log")).await;
    assert_eq!(outcome["outcome"], "rolled_back", "{outcome:#}");
    assert!(outcome["error"].as_str().unwrap().contains("does not answer"), "{outcome:#}");
    messages_go(&nodes, &connections).await;

    // To one that is well, and to none.
    let outcome = nodes[0].reload_with(|conf| conf["logging"]["file_name"] = json!("well.log")).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    let generation = outcome["config_generation"].as_u64().unwrap();
    assert_eq!(told(&text(&nodes[0], "well.log"))[&generation], 1);
    let outcome = nodes[0].reload_with(|conf| conf["logging"]["file_output"] = json!(false)).await;
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
    messages_go(&nodes, &connections).await;

    // The end does not wait for it, either.
    nodes[0].signal(Signal::TERM);
    assert!(nodes[0].wait_for_end().await.success());
    let stderr = nodes[0].stderr();
    assert!(stderr.contains("the last lines of the log could not be written"), "{stderr}");
    assert!(!stderr.contains("did not stop within"), "{stderr}");
}

#[tokio::test]
async fn a_console_that_hangs_holds_nobody_up() {
    let (mut nodes, arms) = two(|_| {}).await;
    let connections = nodes[0].connections().await;
    arms.arm("log::print", FOR_GOOD);
    for console in [true, false] {
        let outcome = nodes[0]
            .reload_with(|conf| {
                conf["logging"]["level"] = json!("debug");
                conf["logging"]["console_output"] = json!(console);
                conf["logging"]["file_output"] = json!(true);
                conf["logging"]["file_name"] = json!("node.log");
            })
            .await;
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
        assert!(arms.was_hit("log::print"));
        messages_go(&nodes, &connections).await;
    }
    nodes[0].signal(Signal::TERM);
    assert!(nodes[0].wait_for_end().await.success());
    assert!(text(&nodes[0], "node.log").contains("Shutdown complete"));
}
