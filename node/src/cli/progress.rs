//! A sign of life on stderr where something takes longer than a second.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;

/// What ends sooner needs no sign.
const AFTER: Duration = Duration::from_secs(1);

/// Between two signs.
const EVERY: Duration = Duration::from_millis(250);

/// Waits; from the second second on with a line that tells what the node is at, if somebody sees it.
pub(super) async fn shown<T>(client: &Client, what: impl Future<Output = T>) -> T {
    let mut what = std::pin::pin!(what);
    if !std::io::stderr().is_terminal() {
        return what.await;
    }
    let began = Instant::now();
    let mut next = AFTER;
    let mut turn = 0_usize;
    let mut doing = String::new();
    loop {
        tokio::select! {
            done = &mut what => {
                if turn > 0 {
                    show("");
                }
                return done;
            }
            () = tokio::time::sleep(next) => {
                // Not the answer's business: whatever holds this up must not hold that up.
                if turn.is_multiple_of(4) {
                    tokio::select! {
                        done = &mut what => {
                            show("");
                            return done;
                        }
                        status = client.get("/admin/status") => {
                            if let Some(status) = status.ok().and_then(|answer| answer.json().ok()) {
                                doing = phase(&status);
                            }
                        }
                    }
                }
                let spinner = ["|", "/", "-", "\\"].get(turn % 4).copied().unwrap_or_default();
                show(&format!("{spinner} {} s{doing}", began.elapsed().as_secs()));
                turn += 1;
                next = EVERY;
            }
        }
    }
}

/// In place of what stood there.
fn show(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody is told worse than by silence if this fails.
    let _ = write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush());
}

fn phase(status: &Value) -> String {
    let running = &status["running_reload"];
    let Some(phase) = running["phase"].as_str() else { return ", waiting for the node".to_owned() };
    let waiting: Vec<_> =
        running["waiting_for"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let whom =
        if waiting.is_empty() { String::new() } else { format!(", waiting for {}", waiting.join(", ")) };
    format!(", {phase}{whom}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_phase_is_named_with_whom_it_waits_for() {
        assert_eq!(phase(&json!({"running_reload": null})), ", waiting for the node");
        let running = json!({"running_reload": {"phase": "preparing", "waiting_for": ["network", "admin"]}});
        assert_eq!(phase(&running), ", preparing, waiting for network, admin");
    }
}
