//! Removing what was kept for its time: some rows at a time, beside everything else, until none is left.

use std::{sync::Arc, time::Duration};

use common::{
    clock::{Clock, Timestamp},
    metrics::Counter,
    policy::{Policies, Policy},
    store::worked,
};

use crate::{
    metrics::OldRows,
    store::{GatewayStore, OldData},
};

/// Between two rounds.
const ROUND_EVERY: Duration = Duration::from_secs(5);

/// What it works with.
pub(crate) struct OldDataRemoval {
    pub(crate) store: Arc<dyn GatewayStore>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) removed: Counter<OldRows>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl OldDataRemoval {
    /// Goes on for as long as the service runs.
    pub(crate) async fn keep_on(self) {
        loop {
            for (old, rows) in [
                (OldData::Sessions, OldRows::Session),
                (OldData::Consents, OldRows::Consent),
                (OldData::Records, OldRows::ProvisionRecord),
                (OldData::Challenges, OldRows::Challenge),
            ] {
                self.remove_all(old, rows).await;
            }
            tokio::time::sleep(ROUND_EVERY).await;
        }
    }

    async fn remove_all(&self, old: OldData, rows: OldRows) {
        let before = before(old, &self.policies.current(), self.clock.now());
        loop {
            let removed = self.store.remove(old, before).await;
            let removed = worked(removed, "old rows could not be removed").unwrap_or(0);
            if removed == 0 {
                return;
            }
            self.removed.add(rows, removed);
        }
    }
}

/// Rows of before this moment have been kept for their time.
fn before(old: OldData, policy: &Policy, now: Timestamp) -> Timestamp {
    match old {
        OldData::Challenges => now,
        // A session ends at the latest so long after its login.
        OldData::Sessions => now
            .before(policy.retention.sessions())
            .before(Duration::from_secs(policy.login.session_seconds)),
        OldData::Consents => now.before(policy.retention.consents()),
        OldData::Records => now.before(policy.retention.records()),
    }
}
