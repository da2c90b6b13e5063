//! Ten hands in one file: the API, the command line with the node, the command line without it, and three editors that know of no lock.
//!
//! What is demanded: every text that a reader ever sees is whole, apart from the moments in which an editor itself tears its own
//! save; every save of an editor stands; every order that was acknowledged stands, unless an editor that had opened the file before
//! saved over it: that is the person's word, and whether it was is told exactly by what the editor had read. One person edits
//! at a time: what two editors do to each other is no node's business.
//!
//! It lasts ten seconds; `WRITERS_SECONDS=60 cargo test -p fednode-tests --test store ten_writers` is the full minute.

mod editor;
mod ledger;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fednode::client::Client;
use fednode_tests::{Keys, Spec, eventually};
use serde_json::json;

use crate::{ADDRESS, code, keys, leftovers, node, sleeper};
use editor::{Editor, Style};
use ledger::{Ledger, Wish};

/// Members that one writer has in the file at once.
const HELD: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_writers_and_nothing_acknowledged_is_lost() {
    let seconds = std::env::var("WRITERS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let node = node(Spec::new()).await;
    let path = node.spec().peers_path();
    let sleepers = [sleeper(node.spec()), sleeper(node.spec())];
    let ledger = Ledger::new(path.clone());
    let until = Instant::now() + Duration::from_secs(seconds);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for _ in 0..3 {
            let (client, ledger) = (node.client(), &ledger);
            writers.push(scope.spawn(move || by_api(&client, ledger, until)));
        }
        for spec in [node.spec(), node.spec(), &sleepers[0], &sleepers[1]] {
            let ledger = &ledger;
            writers.push(scope.spawn(move || by_command_line(spec, ledger, until)));
        }
        for style in [Style::InPlace, Style::Vim, Style::Sed] {
            let ledger = &ledger;
            writers.push(scope.spawn(move || Editor::new(style, ledger).edit_until(until)));
        }
        let reader = scope.spawn(|| ledger.read_until(&is_over));
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        reader.join().expect("the reader has nothing to fail at");
        for (number, end) in ends.into_iter().enumerate() {
            let acknowledged = end.unwrap_or_else(|_| panic!("writer {number} failed; see above"));
            assert!(acknowledged > 0, "writer {number} never came through");
        }
    });
    println!("{}", ledger.judge());
    // What stands in the file is what runs, once the node is told.
    let outcome = node.hangup().await;
    assert!(["committed", "unchanged"].contains(&outcome["outcome"].as_str().expect("one")), "{outcome:#}");
    let mut written = keys(&fs::read(&path).expect("it is there")).expect("it is whole");
    written.sort();
    eventually("the file runs", async || {
        let status = node.status().await;
        let members = status["members"].as_array()?;
        let mut runs: Vec<_> = members.iter().filter_map(|member| member["public_key"].as_str()).collect();
        runs.sort_unstable();
        (runs == written).then_some(())
    })
    .await;
    assert_eq!(leftovers(node.spec().folder()), Vec::<std::path::PathBuf>::new());
}

/// Adds and removes members, one at a time; returns how often that was acknowledged.
fn orders(ledger: &Ledger, until: Instant, mut order: impl FnMut(&str, Wish) -> bool) -> usize {
    let (mut held, mut acknowledged) = (Vec::new(), 0);
    while Instant::now() < until {
        let (key, wish) = if held.len() < HELD {
            (Keys::generate().public_key, Wish::There)
        } else {
            (held.remove(0), Wish::Gone)
        };
        let started = Instant::now();
        let is_told = order(&key, wish);
        ledger.ordered(&key, wish, started, is_told);
        acknowledged += usize::from(is_told);
        if is_told && wish == Wish::There {
            held.push(key);
        }
    }
    acknowledged
}

fn by_api(client: &Client, ledger: &Ledger, until: Instant) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    orders(ledger, until, |key, wish| {
        runtime.block_on(async {
            let answer = match wish {
                Wish::There => {
                    let body = json!({"public_key": key, "addresses": [ADDRESS]}).to_string();
                    client.post("/admin/peers", &[], body.into_bytes()).await
                }
                Wish::Gone => client.delete(&format!("/admin/peers/{key}"), &[]).await,
            };
            let answer = answer.expect("the node answers");
            // One that an editor's save has removed is gone.
            answer.status.is_success() || wish == Wish::Gone && answer.status.as_u16() == 404
        })
    })
}

fn by_command_line(spec: &Spec, ledger: &Ledger, until: Instant) -> usize {
    orders(ledger, until, |key, wish| {
        let done = match wish {
            Wish::There => spec.cli(&["peers", "add", key, ADDRESS]),
            Wish::Gone => spec.cli(&["peers", "remove", key]),
        };
        let is_gone = || String::from_utf8_lossy(&done.stderr).contains("is not in the file");
        code(&done) == Some(0) || wish == Wish::Gone && is_gone()
    })
}
