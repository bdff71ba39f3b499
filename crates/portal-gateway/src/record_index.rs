//! Keeps the index of own records up with the audit log: every instance does, for all logs of the database, and knows up to
//! which moment the index is whole.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    clock::{Clock, Timestamp},
    store::worked,
};

use crate::store::GatewayStore;

/// Between two looks at the log: an entry is in the index well within a second.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// How long it waits when it did not work.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// An index that was not whole for longer than this is not shown: what is missing in it would look as if it had not been.
const MAX_BEHIND: Duration = Duration::from_secs(10);

/// The index of own records.
pub struct RecordIndex {
    store: Arc<dyn GatewayStore>,
    clock: Arc<dyn Clock>,
    whole: Mutex<Option<Whole>>,
}

/// That the index had everything that was in the log then.
#[derive(Clone, Copy)]
struct Whole {
    until: Timestamp,
    seen_at: Duration,
}

impl RecordIndex {
    /// An index that nobody has looked at yet.
    pub fn new(store: Arc<dyn GatewayStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            whole: Mutex::new(None),
        }
    }

    /// Up to when the index is whole; `None` when it is too far behind to be shown.
    pub fn whole_until(&self) -> Option<Timestamp> {
        let whole = (*self.whole.lock().unwrap_or_else(PoisonError::into_inner))?;
        let behind = self.clock.monotonic().saturating_sub(whole.seen_at);
        (behind <= MAX_BEHIND).then_some(whole.until)
    }

    /// Follows the log for as long as the service runs.
    pub async fn follow(self: Arc<Self>) {
        loop {
            let began = Whole {
                until: self.clock.now(),
                seen_at: self.clock.monotonic(),
            };
            let indexed = self.store.index_records().await;
            match worked(indexed, "own records could not be indexed") {
                Some(true) => {
                    *self.whole.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
                    tokio::time::sleep(FOLLOW_EVERY).await;
                }
                // There is more: go on at once.
                Some(false) => {}
                None => tokio::time::sleep(AFTER_FAILURE).await,
            }
        }
    }
}
