//! Samples, in whatever unit, and what is said of them.

use std::time::Duration;

use serde_json::{Value, json};

#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

// === impl Samples ===

impl Samples {
    pub(crate) fn add_ms(&mut self, sample: Duration) {
        self.add_value(sample.as_secs_f64() * 1e3);
    }

    pub(crate) fn add_us(&mut self, sample: Duration) {
        self.add_value(sample.as_secs_f64() * 1e6);
    }

    pub(crate) fn add_value(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn over(&self, limit: f64) -> usize {
        self.0.iter().filter(|sample| **sample > limit).count()
    }

    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within the samples"
        )]
        let index = ((sorted.len().saturating_sub(1)) as f64 * q).round() as usize;
        round(sorted.get(index).copied().unwrap_or_default())
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn summary(&self) -> Value {
        json!({
            "p50": self.median(), "p90": self.quantile(0.9), "p99": self.quantile(0.99),
            "max": self.quantile(1.0),
        })
    }
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
