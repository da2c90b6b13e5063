//! Figures that others can tell at any time: connections, members, services, what runs, and what the disk refuses.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use net::{Direction, MemberState, Services, View};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use reload::Board;
use reload::machine::State;

use crate::engine::Current;
use crate::history::History;
use crate::logging::LoggingHandle;

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
