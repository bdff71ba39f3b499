//! What the registry side counts (docs/metrics.md).

use common::metrics::{Counter, Label, Metrics};

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
