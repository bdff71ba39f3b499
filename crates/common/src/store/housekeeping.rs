//! What a side does by itself for as long as it runs: looks whether its log can be written, tells every instance which
//! policy is in force, looks whether closings wait too long for their second person, and forgets request ids that no fresh request can carry.

use std::{sync::Arc, time::Duration};

use super::{Database, StoreError};
use crate::{
    alarm::{Alarm, Alarms},
    clock::Clock,
    identity::PeerIdentity,
    policy::Policies,
    telemetry,
    terms::RequestId,
};

/// How often the policy in force is compared with the one that was told last.
const POLICY_INTERVAL: Duration = Duration::from_secs(1);
/// How often closings are counted.
const CLOSINGS_INTERVAL: Duration = Duration::from_secs(5);

/// What it works with.
#[derive(Clone)]
pub struct Housekeeping {
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// What an operator has to look at.
    pub alarms: Alarms,
    /// This instance, as the actor of what it does by itself.
    pub own: PeerIdentity,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Counts request ids that were forgotten.
    pub forgot: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Housekeeping {
    /// What is to be done before the first release.
    pub async fn begin(&self, database: &Database) -> Result<(), StoreError> {
        database.open_log(&self.own, self.clock.now()).await?;
        let policy = self.policies.current();
        database.take_policy(&policy, &self.own, self.clock.now()).await
    }

    /// Goes on for as long as the service runs.
    pub async fn keep(&self, database: &Database) {
        tokio::join!(
            database.watch_log(&self.own, &self.alarms, &*self.clock),
            self.tell_policies(database),
            self.count_closings(database),
            self.forget_request_ids(database),
        );
    }

    async fn tell_policies(&self, database: &Database) {
        let mut told = self.policies.current().sha256;
        loop {
            let policy = self.policies.current();
            if policy.sha256 != told {
                let taken = database.take_policy(&policy, &self.own, self.clock.now()).await;
                if worked(taken, "the policy in force could not be recorded").is_some() {
                    told = policy.sha256;
                }
            }
            tokio::time::sleep(POLICY_INTERVAL).await;
        }
    }

    async fn count_closings(&self, database: &Database) {
        loop {
            let within = self.policies.current().approvals.confirmation();
            let overdue = database.overdue_closings(self.clock.now(), within).await;
            if let Some(overdue) = worked(overdue, "closings could not be counted") {
                self.alarms
                    .set(Alarm::ClosingUnconfirmed, "closings", overdue > 0);
            }
            tokio::time::sleep(CLOSINGS_INTERVAL).await;
        }
    }

    async fn forget_request_ids(&self, database: &Database) {
        loop {
            let forgotten = database.forget_request_ids(self.clock.now()).await;
            let forgotten = worked(forgotten, "used request ids could not be forgotten").unwrap_or(0);
            (self.forgot)(forgotten);
            // There may be more: go on at once.
            if forgotten == 0 {
                tokio::time::sleep(RequestId::WINDOW / 10).await;
            }
        }
    }
}

/// What came of work that is done again and again; a failure is told to operators, and the next time may work.
pub fn worked<T>(outcome: Result<T, StoreError>, failed: &'static str) -> Option<T> {
    outcome
        .inspect_err(|error| tracing::warn!(error = telemetry::chain(error), "{failed}"))
        .ok()
}
