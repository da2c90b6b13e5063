//! What the reload engine needs to know about this program: how its configuration is loaded and compared, and what it can
//! tell about connections.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use net::View;
use reload::events::{Event, Sink};
use reload::machine::State;
use reload::plan::{Change, Closing};
use reload::source::{Candidate, Configuration, Rejection, Site, Source, Which};

use crate::config::{Config, LoadOptions};
use crate::metrics::Metrics;
use crate::notify::{Notice, notify};

impl Configuration for Config {
    fn changes(&self, next: &Self) -> Vec<Change> {
        Self::changes(self, next)
    }

    fn budget(&self) -> Duration {
        self.reload.budget
    }

    fn health_gate(&self) -> bool {
        self.reload.health_gate
    }
}

/// Loads `conf.yaml` and what it names.
pub struct Files {
    /// Tells which ports are the node's own.
    pub view: Arc<View>,
}

impl Source<Config> for Files {
    fn load(&self, current: &Arc<Config>, which: &Which) -> Result<Candidate<Config>, Rejection> {
        let own = &current.source.path;
        let (path, options) = match which {
            Which::Own => (own, LoadOptions::reload(self.view.held())),
            Which::OwnToLook => (own, LoadOptions::dry_run(self.view.held())),
            Which::Other(path) => (path, LoadOptions::dry_run(self.view.held())),
        };
        match Config::load(path, Some(current), options) {
            Ok(loaded) => Ok(Candidate {
                config: loaded.config,
                warnings: loaded.warnings,
                read: loaded.read,
                validate: loaded.validate,
            }),
            Err(rejection) => Err(Rejection {
                problems: rejection.problems,
                read: rejection.read,
                validate: rejection.validate,
            }),
        }
    }
}

/// The node's connections.
pub struct Connections {
    /// Where they are seen.
    pub view: Arc<View>,
}

impl Site<Config> for Connections {
    fn connections(&self) -> usize {
        self.view.connections().len()
    }

    fn closed_by_reload(&self) -> u64 {
        self.view.closed_by_reload()
    }

    fn would_close(&self, current: &Config, next: &Config) -> Vec<Closing> {
        self.view.would_close(&current.network, &next.network)
    }
}

/// Where the engine's events go: figures, and the supervisor.
pub struct Listeners {
    /// The figures.
    pub metrics: Arc<Metrics>,
}

impl Sink for Listeners {
    fn emit(&self, event: &Event<'_>) {
        self.metrics.emit(event);
        match event {
            Event::Entered(State::Validating) => notify(&Notice::Reloading),
            Event::Finished(outcome) => {
                let status = match &outcome.error {
                    None => format!("generation {} ({})", outcome.config_generation, outcome.outcome.as_str()),
                    Some(error) => format!(
                        "generation {} runs on; reload {}: {error}",
                        outcome.config_generation,
                        outcome.outcome.as_str()
                    ),
                };
                notify(&Notice::Reloaded(&status));
            }
            Event::Entered(_) | Event::Stepped { .. } => {}
        }
    }
}

/// The configuration that runs, for everybody to read.
pub type Current = Arc<ArcSwap<Config>>;
