//! What batches are measured with.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    metrics::{Histogram, Label, Metrics, Observed},
};

/// The queues of a service, as their metrics tell them apart.
pub struct BatchMetrics<L> {
    items: Histogram<L>,
    wait: Histogram<L>,
    service: Histogram<L>,
}

/// Names of the three metrics.
pub struct BatchMetricNames {
    /// Items of a batch.
    pub items: &'static str,
    /// How long the oldest item of a batch has waited.
    pub wait_us: &'static str,
    /// How long a batch took.
    pub service_us: &'static str,
}

const ITEMS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];
const MICROSECONDS: &[u64] = &[
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, 2_048_000,
];

impl<L: Label> BatchMetrics<L> {
    /// Adds them to the service's metrics.
    pub fn new(metrics: &Metrics, names: &BatchMetricNames) -> Self {
        Self {
            items: metrics.histogram(names.items, "Items of a batch, by queue.", ITEMS),
            wait: metrics.histogram(
                names.wait_us,
                "Microseconds that the oldest item of a batch has waited, by queue.",
                MICROSECONDS,
            ),
            service: metrics.histogram(
                names.service_us,
                "Microseconds that a batch took, by queue.",
                MICROSECONDS,
            ),
        }
    }

    /// What one queue is measured with.
    pub fn of(&self, queue: L, clock: Arc<dyn Clock>) -> BatchMeter {
        BatchMeter {
            items: self.items.of(queue),
            wait: self.wait.of(queue),
            service: self.service.of(queue),
            clock,
        }
    }
}

/// What a queue is measured with.
#[derive(Clone)]
pub struct BatchMeter {
    pub(super) items: Observed,
    pub(super) wait: Observed,
    pub(super) service: Observed,
    pub(super) clock: Arc<dyn Clock>,
}

impl BatchMeter {
    pub(super) fn since(&self, earlier: Duration) -> u64 {
        let passed = self.clock.monotonic().saturating_sub(earlier);
        u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
    }
}
