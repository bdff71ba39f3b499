//! What the gateway holds of the feed, and how old it is.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use common::{
    clock::Clock,
    feed::{Entries, SeriesKey},
    policy::Policies,
    terms::LinkageHandle,
};

/// When a state was the registry side's: a moment of this process's monotonic clock, and how long before it. The clock begins
/// with the process, and a state may be older.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) at: Duration,
    pub(super) late: Duration,
}

/// A whole state of the feed. Clones share it.
#[derive(Clone)]
pub struct Suppressions {
    pub(super) key: SeriesKey,
    pub(super) entries: Arc<Entries>,
    /// Number of the state.
    pub(super) sequence: u64,
    /// When it was the registry side's.
    pub(super) seen_at: Seen,
}

impl Suppressions {
    /// Whether the linkage of this handle is stopped altogether.
    pub fn hold(&self, handle: &LinkageHandle) -> bool {
        self.entries.contains(&self.key.entry(handle))
    }
}

/// The newest state, shared by the requests and by what keeps it up to date.
///
/// There is no number of it in the gate's row, as there is of the policy: the registry side reads its records again in the
/// transaction that releases, so an instance that is behind narrows less and releases nothing more.
pub struct Replica {
    policies: Arc<Policies>,
    clock: Arc<dyn Clock>,
    started_at: Seen,
    newest: RwLock<Option<Suppressions>>,
}

impl Replica {
    /// With nothing in it: nothing is provided before the first snapshot.
    pub fn new(policies: Arc<Policies>, clock: Arc<dyn Clock>) -> Self {
        Self {
            policies,
            started_at: Seen {
                at: clock.monotonic(),
                late: Duration::ZERO,
            },
            clock,
            newest: RwLock::default(),
        }
    }

    /// The state, when it is not older than the policy's bound (I4).
    pub fn current(&self) -> Option<Suppressions> {
        let newest = self.newest()?;
        (self.age(newest.seen_at) <= self.policies.current().exchange.suppression_max_age()).then_some(newest)
    }

    /// Number and age of the state; for operators.
    pub fn told(&self) -> Option<(u64, Duration)> {
        let newest = self.newest()?;
        Some((newest.sequence, self.age(newest.seen_at)))
    }

    /// Whether an operator has to look: a start is given as long as the bound.
    pub fn is_overdue(&self) -> bool {
        let seen_at = self.newest().map_or(self.started_at, |newest| newest.seen_at);
        self.age(seen_at) > self.policies.current().exchange.suppression_max_age()
    }

    pub(super) fn newest(&self) -> Option<Suppressions> {
        self.newest.read().ok()?.clone()
    }

    pub(super) fn put(&self, suppressions: Suppressions) {
        if let Ok(mut newest) = self.newest.write() {
            *newest = Some(suppressions);
        }
    }

    fn age(&self, since: Seen) -> Duration {
        let since_then = self.clock.monotonic().saturating_sub(since.at);
        since_then.saturating_add(since.late)
    }
}
