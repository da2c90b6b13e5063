//! What the reload engine needs to know about this program: how its configuration is loaded and compared, and what it can
//! tell about connections.

mod foresight;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use net::{Endpoint, Held, Services, View};
use reload::events::{Event, Sink};
use reload::machine::State;
use reload::plan::{Change, Closing};
use reload::source::{Candidate, Configuration, Rejection, Site, Source, Which};
use reload::{Class, Problem};

use crate::admin::Servers;
use crate::config::{self, Config, LoadOptions, Loaded};
use crate::history::History;
use crate::memory::Tidy;
use crate::metrics::Metrics;
use crate::notify::{Notice, notify};
use crate::reloads::Reloads;
use crate::start_from::from_history;
use crate::{limits, lingering};

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
    pub view: View,
    /// Tells which streams are open.
    pub services: Services,
    /// What older generations said, and which files are held.
    pub history: Arc<History>,
    /// Tells where the API is served, also where a reload that could not be finished has left it open.
    pub servers: Servers,
}

impl Source<Config> for Files {
    fn load(&self, current: &Arc<Config>, which: &Which) -> Result<Candidate<Config>, Rejection> {
        let own = &current.source.path;
        let (held, options) = (self.history.held(), LoadOptions::default());
        let loaded = match which {
            Which::Own | Which::OwnToLook => Config::load_past(&held, own, Some(current), options),
            Which::Other(path) => Config::load(path, Some(current), options),
            Which::Generation(number) => from_history(&self.history, own, *number, Some(current)),
        };
        let loaded = loaded.map_err(|rejection| Rejection {
            problems: rejection.problems,
            read: rejection.read,
            validate: rejection.validate,
        })?;
        let began = Instant::now();
        let mut ports = self.view.held();
        ports.extend(
            self.servers.addresses().into_iter().map(|address| Held::listening(Endpoint::tcp(address))),
        );
        let mut problems = config::resources(&loaded.config, Some(current), &ports);
        if !problems.is_empty() {
            loaded.config.locate(&mut problems);
        }
        let validate = loaded.validate + began.elapsed();
        if problems.is_empty() {
            let Loaded { config, mut warnings, read, .. } = loaded;
            warnings.extend(limits::too_few_descriptors(config.network.limits.connections));
            warnings.extend(foresight::retiring(&self.view, &config));
            warnings.extend(foresight::crowded(&self.view, current, &config));
            let mut lingering = lingering::streams(&self.services, current, &config);
            config.locate(&mut lingering);
            warnings.extend(lingering);
            if *which == Which::Own || *which == Which::OwnToLook {
                warnings.extend(held.paths().iter().map(|path| passed_over(path)));
            }
            Ok(Candidate { config, warnings, read, validate })
        } else {
            Err(Rejection { problems, read: loaded.read, validate })
        }
    }
}

fn passed_over(path: &Path) -> Problem {
    let message = "is held: what it says is passed over until it changes, because a generation came back that it does not say";
    Problem::new(Class::System, message)
        .file(path.display().to_string())
        .hint("edit it, or let the node's user write it and roll back once more")
}

/// The node's connections.
pub struct Connections {
    /// Where they are seen.
    pub view: View,
}

impl Site<Config> for Connections {
    fn connections(&self) -> usize {
        self.view.connection_count()
    }

    fn closed_by_reload(&self) -> u64 {
        self.view.counted().closed_by_reload
    }

    fn would_close(&self, current: &Config, next: &Config) -> Vec<Closing> {
        // A section that did not change is shared by both: then hundreds of connections are not even listed.
        if Arc::ptr_eq(&current.network, &next.network) {
            return Vec::new();
        }
        let connections = self.view.connections();
        net::would_close(&current.network, &next.network, &connections)
            .into_iter()
            .map(|(connection, reason)| Closing {
                id: connection.id.clone(),
                public_key: connection.public_key.map(|key| key.to_string()),
                reason: reason.to_owned(),
            })
            .collect()
    }
}

/// Where the engine's events go: figures, listeners, and the supervisor.
pub struct Listeners {
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Whoever listens to `/v1/events`.
    pub reloads: Reloads,
    /// Who tidies up.
    pub(crate) tidy: Tidy,
}

impl Sink for Listeners {
    fn emit(&self, event: &Event<'_>) {
        self.metrics.emit(event);
        self.reloads.emit(event);
        match event {
            Event::Entered(State::Validating) => notify(&Notice::Reloading),
            Event::Finished(outcome) => {
                self.tidy.reload_is_over();
                let status = match &outcome.error {
                    None => {
                        format!("generation {} ({})", outcome.config_generation, outcome.outcome.as_str())
                    }
                    Some(error) => format!(
                        "generation {} runs on; reload {}: {error}",
                        outcome.config_generation,
                        outcome.outcome.as_str()
                    ),
                };
                notify(&Notice::Reloaded(&status));
            }
            Event::Withdrawn => notify(&Notice::Reloaded("nothing was reloaded")),
            Event::Entered(_)
            | Event::Stepped { .. }
            | Event::AwaitsConfirmation { .. }
            | Event::Confirmed { .. } => {}
        }
    }
}

/// The configuration that runs, for everybody to read.
pub type Current = Arc<ArcSwap<Config>>;
