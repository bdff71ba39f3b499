//! What the registry side counts (docs/metrics.md).

use common::{
    batch::{BatchMetricNames, BatchMetrics},
    metrics::{Counter, Label, Metrics},
};

/// A table from which old rows are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldRows {
    /// Used request ids.
    UsedRequestId,
}

impl Label for OldRows {
    const NAME: &'static str = "table";
    const ALL: &'static [Self] = &[Self::UsedRequestId];

    fn value(self) -> &'static str {
        match self {
            Self::UsedRequestId => "used_request_id",
        }
    }
}

/// Rows that were removed because they were old.
pub fn removed_rows(metrics: &Metrics) -> Counter<OldRows> {
    metrics.counter(
        "koseki_store_removed_rows_total",
        "Rows that were removed because they were old, by table.",
    )
}

/// A queue from which batches are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Batches of gateways, to be released.
    Releases,
}

impl Label for Queue {
    const NAME: &'static str = "queue";
    const ALL: &'static [Self] = &[Self::Releases];

    fn value(self) -> &'static str {
        match self {
            Self::Releases => "releases",
        }
    }
}

/// Batches, by queue.
pub fn batches(metrics: &Metrics) -> BatchMetrics<Queue> {
    let names = BatchMetricNames {
        items: "koseki_batch_items",
        wait_us: "koseki_batch_wait_us",
        service_us: "koseki_batch_service_us",
    };
    BatchMetrics::new(metrics, &names)
}
