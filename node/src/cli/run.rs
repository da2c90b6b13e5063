//! `fednode run`.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::FutureExt;
use reload::fault;

use super::{DEFAULT_CONFIG, INTERNAL, REFUSED};
use crate::config;
use crate::logging;
use crate::node::Node;
use crate::start_from::{From, StartFrom};

/// Runs the node in the foreground.
pub(super) fn run(named: Option<PathBuf>, last_known_good: bool) -> ExitCode {
    // Reads FAILPOINTS; compiled to nothing unless a test build asks for fault points.
    #[cfg(feature = "failpoints")]
    let _faults = fail::FailScenario::setup();
    let running = AssertUnwindSafe(async {
        // First of all: a SIGHUP must not kill a node that is still reading its configuration.
        let signals = match reload::signal::listen() {
            Ok(signals) => signals,
            Err(error) => {
                eprintln!("Error: cannot take signals: {error}");
                return INTERNAL;
            }
        };
        let chosen = match choose(named, last_known_good) {
            Ok(chosen) => chosen,
            Err(code) => return code,
        };
        fault::pass("start::configured");
        let handle = match logging::init(&chosen.loaded.config.logging) {
            Ok(handle) => handle,
            Err(error) => {
                eprintln!("Error: {error}");
                return REFUSED;
            }
        };
        match Node::start(chosen, handle).await {
            Ok(node) => {
                node.run(signals).await;
                0
            }
            Err(error) => {
                eprintln!("Error: {error}");
                REFUSED
            }
        }
    });
    // A panic of this very thread is a bug, and has been printed; everything that it held is let go here.
    let code = actix::System::new().block_on(running.catch_unwind()).unwrap_or(INTERNAL);
    // Not a return: the system's drop waits for blocking work, and a stuck arbiter would hold it for good.
    std::process::exit(code.into());
}

/// What the node is started from.
fn choose(named: Option<PathBuf>, last_known_good: bool) -> Result<StartFrom, u8> {
    let path = match named {
        Some(path) => path,
        None => {
            let path = PathBuf::from(DEFAULT_CONFIG);
            if !path.exists() {
                write_default(&path)?;
            }
            path
        }
    };
    let chosen = StartFrom::choose(&path, last_known_good).map_err(|refused| {
        eprintln!("Error: {refused}");
        REFUSED
    })?;
    if let From::LastKnownGood { generation, problems } = &chosen.from {
        // Besides the log, which may go into a file: whoever starts it by hand must see it.
        let text = config::problems_text(problems);
        eprintln!("Error: configuration validation failed: {text}");
        eprintln!("Warning: starting from the last known good generation {generation}, degraded");
    }
    Ok(chosen)
}

fn write_default(path: &Path) -> Result<(), u8> {
    let identity = net::Identity::generate();
    let text = config::default_config_text(&identity, config::host_has_ipv6());
    storage::atomic::create(path, text.as_bytes()).map_err(|error| {
        eprintln!("Error: there is no {DEFAULT_CONFIG} here, and a default one cannot be written: {error}");
        REFUSED
    })?;
    // The file that the default one names; where there is one, it is kept. Without it the node runs alone just as well.
    let _ = storage::atomic::create(&path.with_file_name("peers.yaml"), config::DEFAULT_PEERS.as_bytes());
    Ok(())
}
