//! The example service's demo, which asserts what the README promises, as the process that `cargo run --example` runs.

#![cfg(unix)]

use std::process::Command;

/// Beside this test's own binary. `cargo test` builds examples along with tests; with `--test example` alone it does not.
#[test]
fn the_example_service_keeps_what_the_readme_promises() {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let example = path.join("examples").join("service");
    let demo = Command::new(&example).output().unwrap_or_else(|error| {
        panic!("{}: {error} (build it: cargo build -p reload --examples)", example.display())
    });
    let (said, complained) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{}\n{said}\n{complained}", demo.status);
    assert!(complained.is_empty(), "{complained}");
    assert!(said.ends_with("stopped\n"), "{said}");
}
