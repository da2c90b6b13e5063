//! The limit of open descriptors (contract: "Limits"): raised at the start, and a warning where connections do not fit under it.

use std::fs;

use fednode_tests::{Node, Spec};
use serde_json::{Value, json};

/// A node that is started under a shell's `ulimit`.
async fn under(ulimit: &str, connections: u32) -> Node {
    let script = format!("ulimit {ulimit} && exec \"$@\"");
    let mut spec = Spec::new();
    spec.conf["network"]["limits"] = json!({"connections": connections});
    spec.wrapped(&["sh", "-c", &script, "sh"]).start().await
}

/// The process's soft and hard limit, as the kernel tells them.
fn limits(node: &Node) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{}/limits", node.pid().as_raw_nonzero())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn warning(outcome: &Value) -> Option<String> {
    let warnings = outcome["warnings"].as_array()?;
    let warning = warnings.iter().find(|warning| warning["path"] == "network.limits.connections")?;
    Some(format!("{} ({})", warning["message"].as_str()?, warning["hint"].as_str()?))
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let node = under("-Sn 256 && ulimit -Hn 2048", 1024).await;
    assert_eq!(limits(&node), (2048, 2048));
    assert_eq!(warning(&node.audit()[0]), None, "they fit");
}

#[tokio::test]
async fn connections_that_do_not_fit_are_a_warning_at_the_start_and_at_a_reload() {
    let mut node = under("-n 512", 500).await;
    let expected = |connections: u32| {
        format!(
            "{connections} connections do not fit under the limit of 512 open descriptors \
             (raise it (ulimit -n, LimitNOFILE=), or lower the key)"
        )
    };
    assert_eq!(warning(&node.audit()[0]), Some(expected(500)));
    assert!(node.log().contains("do not fit under the limit of 512 open descriptors"));
    let outcome = node.reload_with(|conf| conf["network"]["limits"]["connections"] = json!(300)).await;
    assert_eq!((&outcome["outcome"], warning(&outcome)), (&json!("committed"), None));
    let outcome = node.reload_with(|conf| conf["network"]["limits"]["connections"] = json!(5000)).await;
    assert_eq!((&outcome["outcome"], warning(&outcome)), (&json!("committed"), Some(expected(5000))));
}
