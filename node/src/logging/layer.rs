//! The one layer: installed at the start, never replaced.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::line::Line;
use super::output::Outputs;
use super::repeats::Repeats;

/// The largest buffer that a thread keeps between events, in bytes.
const MAX_KEPT: usize = 4 << 10;

thread_local! {
    /// Taken while an event is rendered: one inside another (a `Debug` that logs) finds none and makes its own.
    static LINE: Cell<Option<Box<Line>>> = const { Cell::new(None) };
}

/// Renders events and hands them to the outputs.
pub(super) struct LogLayer {
    outputs: Arc<Outputs>,
    repeats: Repeats,
}

// === impl LogLayer ===

impl LogLayer {
    pub(super) fn new(outputs: Arc<Outputs>) -> Self {
        Self { outputs, repeats: Repeats::default() }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.outputs.installed_in(dispatch);
    }

    /// Spans: never. Events: asked for each time, so that no callsite remembers the filter of yesterday.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && self.outputs.live.load().filter.enabled(metadata)
    }

    /// What is more verbose costs one comparison. Asked for again after each swap.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.outputs.live.load().filter.most())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Once: format and outputs belong together.
        let settings = self.outputs.live.load();
        // A thread that is ending has lost its buffer.
        let mut line = LINE.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let format = settings.section.format;
        line.render(format, SystemTime::now(), event);
        let (admitted, left_out) = self.repeats.admit(&line, event.metadata(), Instant::now());
        for left_out in left_out {
            self.outputs.write(&settings, &left_out.line(format));
        }
        if admitted {
            self.outputs.write(&settings, &line);
        }
        if line.as_bytes().len() <= MAX_KEPT {
            let _ = LINE.try_with(|kept| kept.set(Some(line)));
        }
    }
}
