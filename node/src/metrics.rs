//! The node's figures in Prometheus' text (R21, O1). Reload figures follow from the engine's events; what others can tell at
//! any time (connections, peers) is read when it is asked for.

use net::View;
use net::figures::UNRECORDED;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reload::Class;
use reload::events::{Event, Sink};
use reload::outcome::Kind;

mod now;

pub use now::Now;

/// From a tenth of a millisecond to the longest budget.
const RELOAD_BUCKETS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 30.0];

/// What is counted as it happens.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    view: View,
    success: Counter,
    failure: Counter,
    failures: Family<ClassLabel, Counter>,
    duration: Family<OutcomeLabel, Histogram>,
    step: Family<StepLabel, Histogram>,
    closed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    component: Label,
    phase: Label,
}

/// A label from a fixed set: nothing that a peer or a file says becomes a time series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Label(&'static str);

impl EncodeLabelValue for Label {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

// === impl Metrics ===

impl Metrics {
    /// The registry with everything in it.
    #[must_use]
    pub fn new(now: Now) -> Self {
        let histogram = || Histogram::new(RELOAD_BUCKETS);
        let mut metrics = Self {
            registry: Registry::default(),
            view: now.view.clone(),
            success: Counter::default(),
            failure: Counter::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(histogram),
            step: Family::new_with_constructor(histogram),
            closed: Counter::default(),
        };
        // A series that begins with its first failure is no increase to whoever is to be alarmed by one.
        for class in Class::ALL {
            drop(metrics.failures.get_or_create(&ClassLabel::of(class)));
        }
        let registry = &mut metrics.registry;
        registry.register("config_reload_success", "Reloads that were committed", metrics.success.clone());
        registry.register(
            "config_reload_failure",
            "Reloads that were rejected, rolled back or failed",
            metrics.failure.clone(),
        );
        registry.register(
            "fednode_reload_failures",
            "Reloads that did not commit, by class",
            metrics.failures.clone(),
        );
        registry.register(
            "fednode_reload_duration_seconds",
            "Time from the start of a reload to its end",
            metrics.duration.clone(),
        );
        registry.register(
            "fednode_component_reload_seconds",
            "Time from a step to its answer",
            metrics.step.clone(),
        );
        registry.register(
            "fednode_reload_connections_closed",
            "Connections that a new configuration forbade",
            metrics.closed.clone(),
        );
        registry.register_collector(Box::new(now));
        metrics
    }

    /// The text of `/metrics`, after a look at the files (which blocks): OpenMetrics, or the older text format for whoever does not ask for that.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self, open_metrics: bool) -> Result<String, std::fmt::Error> {
        let (mut text, mut libp2p) = (String::new(), String::new());
        encode_registry(&mut text, &self.registry)?;
        self.view.figures(|registry| encode_registry(&mut libp2p, registry))?;
        text.extend(libp2p.split_inclusive('\n').filter(|line| is_recorded(line)));
        encode_eof(&mut text)?;
        Ok(if open_metrics { text } else { plain(&text) })
    }
}

// === impl ClassLabel ===

impl ClassLabel {
    const fn of(class: Class) -> Self {
        Self { class: Label(class.as_str()) }
    }
}

/// What libp2p declares and this node never fills would read as "none" where it means "not counted".
fn is_recorded(line: &str) -> bool {
    let declared = ["# HELP ", "# TYPE ", "# UNIT "].iter().find_map(|word| line.strip_prefix(word));
    !declared.unwrap_or(line).starts_with(UNRECORDED)
}

/// OpenMetrics as Prometheus' text format 0.0.4: there a counter is declared by the name that its samples have, and the text
/// has no end mark.
fn plain(text: &str) -> String {
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let declared = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match declared.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if counters.contains(&name) => {
                plain.extend([&line[..7], name, "_total ", rest, "\n"]);
            }
            _ => plain.extend([line, "\n"]),
        }
    }
    plain
}

impl Sink for Metrics {
    fn emit(&self, event: &Event<'_>) {
        match event {
            Event::Entered(_)
            | Event::Withdrawn
            | Event::AwaitsConfirmation { .. }
            | Event::Confirmed { .. } => {}
            Event::Stepped { component, step, elapsed, .. } => {
                let label = StepLabel { component: Label(component), phase: Label(step.as_str()) };
                self.step.get_or_create(&label).observe(elapsed.as_secs_f64());
            }
            Event::Finished(outcome) => {
                let kind = outcome.outcome;
                let label = OutcomeLabel { outcome: Label(kind.as_str()) };
                self.duration.get_or_create(&label).observe(outcome.duration_ms / 1e3);
                self.closed.inc_by(outcome.connections.closed_by_reload);
                match kind {
                    Kind::Committed => {
                        self.success.inc();
                    }
                    Kind::Rejected | Kind::RolledBack | Kind::Failed => {
                        self.failure.inc();
                        let worst = outcome.errors.iter().map(|e| e.class).max();
                        let class = worst.unwrap_or(Class::System);
                        self.failures.get_or_create(&ClassLabel::of(class)).inc();
                    }
                    Kind::Unchanged | Kind::Planned => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_declares_counters_by_the_names_of_their_samples() {
        let open =
            "# HELP a_b Some.\n# TYPE a_b counter\na_b_total 1\n# HELP g G.\n# TYPE g gauge\ng 2\n# EOF\n";
        let text = "# HELP a_b_total Some.\n# TYPE a_b_total counter\na_b_total 1\n# HELP g G.\n# TYPE g gauge\ng 2\n";
        assert_eq!(plain(open), text);
    }
}
