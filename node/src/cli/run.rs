//! `fednode run`.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use reload::signal::{Holder, Signals};

use futures::FutureExt;
use reload::fault;

use super::{DEFAULT_CONFIG, INTERNAL, REFUSED};
use crate::config;
use crate::logging;
use crate::memory;
use crate::node::Node;
use crate::start_from::{From, StartFrom};

/// How long a stop waits for a start that has not read yet what `reload.budget` is: its default.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// How long the log's last lines may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs the node in the foreground.
pub(super) fn run(named: Option<PathBuf>, last_known_good: bool) -> ExitCode {
    // Reads FAILPOINTS; compiled to nothing unless a test build asks for fault points.
    #[cfg(feature = "failpoints")]
    let _faults = fail::FailScenario::setup();
    memory::bound();
    let running = AssertUnwindSafe(async {
        // First of all: a SIGHUP must not kill a node that is still reading its configuration.
        let signals = match reload::signal::listen() {
            Ok(signals) => signals,
            Err(error) => {
                eprintln!("Error: cannot take signals: {error}");
                return INTERNAL;
            }
        };
        outlive_file_limits();
        let (mut signals, holder) = Signals::new(signals, STOP_WITHIN);
        let started = tokio::select! {
            started = start(named, last_known_good, &holder) => started,
            // Only where the start takes longer than a stop may be kept, or the stop is repeated.
            _ = signals.stop() => return 0,
        };
        match started {
            Ok(node) => {
                node.run(signals).await;
                0
            }
            Err(code) => code,
        }
    });
    // A panic of this very thread is a bug, and has been printed; everything that it held is let go here.
    let code = reload::system().block_on(running.catch_unwind()).unwrap_or(INTERNAL);
    logging::farewell(FAREWELL);
    // Not a return: the system's drop waits for blocking work, and a stuck arbiter would hold it for good.
    std::process::exit(code.into());
}

/// A write beyond the limit of a file's size (`ulimit -f`, `LimitFSIZE`) fails as one on a full disk does, instead of ending the process:
/// whoever writes goes on without (setrlimit(2)).
fn outlive_file_limits() {
    // Heard by a flag that nobody looks at: what is handled does not kill.
    let heard = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    if let Err(error) = heard {
        eprintln!("Warning: a write beyond the limit of a file's size will end the node: {error}");
    }
}

/// From the file to a node that serves.
async fn start(named: Option<PathBuf>, last_known_good: bool, holder: &Holder) -> Result<Node, u8> {
    // A generated key is written and then used, a pid file taken and given back, a generation written and then told: a stop does
    // not cut these in two. Signals that come meanwhile are for the node, when it runs.
    let _hold = holder.hold();
    let chosen = tokio::task::spawn_blocking(move || choose(named, last_known_good)).await;
    let chosen = chosen.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    holder.set_limit(chosen.loaded.config.reload.budget);
    fault::pass("start::configured");
    stall().await;
    let handle = logging::init(&chosen.loaded.config.logging).map_err(|error| {
        eprintln!("Error: {error}");
        REFUSED
    })?;
    Node::start(chosen, handle).await.map_err(|error| {
        eprintln!("Error: {error}");
        REFUSED
    })
}

/// A fault point of its own kind: `return` makes this start one that never ends.
async fn stall() {
    let hang = || -> bool {
        fail::fail_point!("start::stall", |_| true);
        false
    };
    if hang() {
        std::future::pending::<()>().await;
    }
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
