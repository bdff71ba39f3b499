//! A forbidding act returns only when no conforming gateway can release an earlier answer any more (I3; DESIGN §4).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{clock::Clock, policy::Policies};

/// What forbidding acts wait for: `max_answer_age` and `max_hand_off` after the last one, whichever listener it came in on.
#[derive(Clone)]
pub struct GuardWait {
    clock: Arc<dyn Clock>,
    policies: Arc<Policies>,
    last: Arc<Mutex<Duration>>,
}

impl GuardWait {
    /// The start of the process counts as an act: one that was committed just before it may not have been waited for.
    pub fn new(clock: Arc<dyn Clock>, policies: Arc<Policies>) -> Self {
        let last = Arc::new(Mutex::new(clock.monotonic()));
        Self {
            clock,
            policies,
            last,
        }
    }

    /// Waits after an act that was just committed.
    pub async fn forbade(&self) {
        let now = self.clock.monotonic();
        if let Ok(mut last) = self.last.lock() {
            *last = now;
        }
        tokio::time::sleep(self.policies.guard_wait()).await;
    }

    /// Waits until an earlier act, whose result may have been lost, is waited for.
    pub async fn settled(&self) {
        let now = self.clock.monotonic();
        let last = self.last.lock().map_or(now, |last| *last);
        tokio::time::sleep(
            self.policies
                .guard_wait()
                .saturating_sub(now.saturating_sub(last)),
        )
        .await;
    }
}
