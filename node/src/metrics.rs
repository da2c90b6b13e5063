//! The node's figures in Prometheus' text (R21, O1). Reload figures follow from the engine's events; what others can tell at
//! any time (connections, peers) is read when it is asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use net::figures::UNRECORDED;
use net::{Direction, MemberState, Services, View};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reload::Board;

use reload::events::{Event, Sink};
use reload::machine::State;
use reload::outcome::Kind;

use crate::engine::Current;
use crate::history::History;
use crate::logging::LoggingHandle;

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
                        let class = worst.unwrap_or(reload::Class::System).as_str();
                        self.failures.get_or_create(&ClassLabel { class: Label(class) }).inc();
                    }
                    Kind::Unchanged | Kind::Planned => {}
                }
            }
        }
    }
}

/// What is read when it is asked for.
pub struct Now {
    /// The reload engine.
    pub board: Arc<Board>,
    /// The network.
    pub view: View,
    /// Figures of services.
    pub services: Services,
    /// The configuration that runs.
    pub current: Current,
    /// Generations and the audit log.
    pub history: Arc<History>,
    /// The log.
    pub logging: LoggingHandle,
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Now").finish_non_exhaustive()
    }
}

impl Now {
    fn gauge(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: f64,
    ) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(value);
        let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    fn gauges(
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, label): (&str, &str, &str),
        values: &[(&str, u64)],
    ) -> Result<(), std::fmt::Error> {
        let family: Family<Vec<(String, String)>, Gauge<f64, AtomicU64>> = Family::default();
        for (value, count) in values {
            let labels = vec![(label.to_owned(), (*value).to_owned())];
            #[expect(clippy::cast_precision_loss, reason = "no count of ours comes near 2^53")]
            family.get_or_create(&labels).set(*count as f64);
        }
        let encoder = encoder.encode_descriptor(name, help, None, family.metric_type())?;
        family.encode(encoder)
    }

    fn counters(
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        values: &[(&[(&str, &str)], u64)],
    ) -> Result<(), std::fmt::Error> {
        let mut encoder =
            encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Counter)?;
        for (labels, count) in values {
            if labels.is_empty() {
                // Alone: with braces around nothing, it would be read by few people's scripts.
                return ConstCounter::new(*count).encode(encoder);
            }
            ConstCounter::new(*count).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }
}

impl Now {
    /// What a disk without room costs.
    fn disk(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        Self::gauge(
            encoder,
            "fednode_record_durable",
            "Whether generations and the audit log are on disk; 0 while the disk refuses them",
            f64::from(u8::from(self.history.is_on_disk())),
        )?;
        Self::counters(
            encoder,
            ("fednode_log_lines_lost", "Log lines that no output took, a full disk or a reader that stopped"),
            &[(&[], self.logging.lost_lines())],
        )
    }

    /// What peer exchange is doing (N5).
    fn exchange(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), std::fmt::Error> {
        let (known, figures) = (view.known(), view.known().figures());
        #[expect(clippy::cast_precision_loss, reason = "no count of ours comes near 2^53")]
        Self::gauge(encoder, "fednode_known_peers", "Peers that are known", known.count() as f64)?;
        Self::counters(
            encoder,
            ("fednode_exchanges", "Peer exchanges that were answered to their end, by who asked"),
            &[(&[("role", "asked")], figures.asked()), (&[("role", "answered")], figures.answered())],
        )?;
        let traffic = figures.traffic();
        let labels = traffic.map(|kind| {
            [[("kind", kind.kind), ("direction", "sent")], [("kind", kind.kind), ("direction", "received")]]
        });
        let values: Vec<(&[(&str, &str)], u64)> = labels
            .iter()
            .zip(traffic)
            .flat_map(|([sent, received], kind)| [(&sent[..], kind.sent), (&received[..], kind.received)])
            .collect();
        Self::counters(encoder, ("fednode_exchange_bytes", "Bytes of peer exchange"), &values)
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let board = self.board.read();
        let encoder = &mut encoder;
        #[expect(clippy::cast_precision_loss, reason = "no generation and no second of ours comes near 2^53")]
        {
            let generation = board.generation.get() as f64;
            Self::gauge(encoder, "config_generation", "The generation that runs", generation)?;
            Self::gauge(
                encoder,
                "fednode_config_last_reload_success_timestamp_seconds",
                "When the file was last found to be what runs",
                board.last_success as f64,
            )?;
        }
        Self::gauge(
            encoder,
            "fednode_config_last_reload_successful",
            "Whether the file was what runs when it was last read",
            f64::from(u8::from(board.successful)),
        )?;
        Self::gauge(
            encoder,
            "fednode_config_file_differs",
            "Whether a file holds something else than what it was when it was read last",
            f64::from(u8::from(!self.current.load().files_are_unchanged())),
        )?;
        Self::gauge(
            encoder,
            "fednode_degraded",
            "Whether a person is needed",
            f64::from(u8::from(board.degraded.is_some())),
        )?;
        let states = State::ALL.map(|state| (state.as_str(), u64::from(state == board.state)));
        Self::gauges(
            encoder,
            ("fednode_reload_state", "The state of the reload's machine", "state"),
            &states,
        )?;
        let counts = self.view.counted();
        let connections = self.view.connections();
        let open = |direction| connections.iter().filter(|c| c.direction == direction).count() as u64;
        Self::gauges(
            encoder,
            ("fednode_connections", "Open connections", "direction"),
            &[("inbound", open(Direction::Inbound)), ("outbound", open(Direction::Outbound))],
        )?;
        let members = self.view.members_by_state();
        let states =
            MemberState::ALL.map(|state| (state.as_str(), members.get(&state).copied().unwrap_or(0) as u64));
        Self::gauges(encoder, ("fednode_peers", "Members by state", "state"), &states)?;
        Self::counters(
            encoder,
            ("fednode_messages", "Messages that were sent, and messages of others that were accepted"),
            &[
                (&[("kind", "direct"), ("direction", "sent")], counts.messages_sent),
                (&[("kind", "direct"), ("direction", "received")], counts.messages_received),
                (&[("kind", "topic"), ("direction", "sent")], counts.topics_sent),
                (&[("kind", "topic"), ("direction", "received")], counts.topics_received),
            ],
        )?;
        Self::counters(
            encoder,
            ("fednode_bytes", "Bytes of messages"),
            &[
                (&[("direction", "sent")], counts.bytes_sent),
                (&[("direction", "received")], counts.bytes_received),
            ],
        )?;
        // Labelled by names that the configuration has, or had while a stream of it is open.
        let services = self.services.by_name();
        let open: Vec<_> = services.iter().map(|(name, metered)| (name.as_str(), metered.open)).collect();
        Self::gauges(encoder, ("fednode_service_streams", "Open streams of services", "service"), &open)?;
        let labels: Vec<_> = services
            .iter()
            .flat_map(|(name, metered)| {
                let label = |direction| [("service", name.as_str()), ("direction", direction)];
                [(label("sent"), metered.sent), (label("received"), metered.received)]
            })
            .collect();
        let bytes: Vec<_> = labels.iter().map(|(labels, bytes)| (&labels[..], *bytes)).collect();
        Self::counters(encoder, ("fednode_service_bytes", "Bytes through streams of services"), &bytes)?;
        Self::counters(
            encoder,
            ("fednode_peers_denied", "Connections that were refused"),
            &[(&[], counts.denied)],
        )?;
        self.disk(encoder)?;
        Self::exchange(encoder, &self.view)
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
