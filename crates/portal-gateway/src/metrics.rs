//! What the portal side counts (docs/metrics.md).

use common::{
    batch::{BatchMetricNames, BatchMetrics},
    metrics::{Counter, Label, Metrics},
    refusal::Reason,
};

/// Why a login failed: the reasons that CompleteLogin gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginFailure(Reason);

impl LoginFailure {
    /// A failure for this reason; `None` for one that has nothing to do with logins.
    pub fn of(reason: Reason) -> Option<Self> {
        Self::ALL.iter().copied().find(|failure| failure.0 == reason)
    }

    /// Whether the frontend is at fault: it brought something that does not verify.
    pub fn counts_against_frontend(self) -> bool {
        !matches!(self.0, Reason::Overloaded | Reason::Unavailable)
    }
}

impl Label for LoginFailure {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[
        Self(Reason::ChallengeInvalid),
        Self(Reason::CardNotAccepted),
        Self(Reason::CardExpired),
        Self(Reason::CardRevoked),
        Self(Reason::SignatureInvalid),
        Self(Reason::Overloaded),
        Self(Reason::Unavailable),
    ];

    fn value(self) -> &'static str {
        self.0.name()
    }
}

/// A table from which old rows are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldRows {
    /// Login challenges.
    Challenge,
    /// Sessions.
    Session,
    /// Consents.
    Consent,
    /// The index of own records.
    ProvisionRecord,
    /// Used request ids.
    UsedRequestId,
}

impl Label for OldRows {
    const NAME: &'static str = "table";
    const ALL: &'static [Self] = &[
        Self::Challenge,
        Self::Session,
        Self::Consent,
        Self::ProvisionRecord,
        Self::UsedRequestId,
    ];

    fn value(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Session => "session",
            Self::Consent => "consent",
            Self::ProvisionRecord => "provision_record",
            Self::UsedRequestId => "used_request_id",
        }
    }
}

/// A queue from which batches are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Requests for copy information, from admission to release.
    Requests,
    /// Login challenges.
    Challenges,
    /// Logins, and consents that are given.
    Openings,
    /// What requesters close.
    Closings,
}

impl Label for Queue {
    const NAME: &'static str = "queue";
    const ALL: &'static [Self] = &[Self::Requests, Self::Challenges, Self::Openings, Self::Closings];

    fn value(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Challenges => "challenges",
            Self::Openings => "openings",
            Self::Closings => "closings",
        }
    }
}

/// Batches, by queue.
pub fn batches(metrics: &Metrics) -> BatchMetrics<Queue> {
    let names = BatchMetricNames {
        items: "portal_batch_items",
        wait_us: "portal_batch_wait_us",
        service_us: "portal_batch_service_us",
    };
    BatchMetrics::new(metrics, &names)
}

/// The counters.
#[derive(Clone)]
pub struct GatewayMetrics {
    /// Logins that failed.
    pub login_failures: Counter<LoginFailure>,
    /// Rows that were removed because they were old.
    pub removed_rows: Counter<OldRows>,
}

impl GatewayMetrics {
    /// Adds them to the service's metrics.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            login_failures: metrics.counter("portal_login_failures_total", "Logins that failed, by reason."),
            removed_rows: metrics.counter(
                "portal_store_removed_rows_total",
                "Rows that were removed because they were old, by table.",
            ),
        }
    }
}
