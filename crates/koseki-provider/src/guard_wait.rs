//! A forbidding act returns only when no conforming gateway can release an earlier answer any more (I3; DESIGN §4).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{clock::Clock, evidence::Epoch, policy::Policies};

/// What forbidding acts wait for: `max_answer_age` and `max_hand_off` after the last one, whichever listener it came in on.
#[derive(Clone)]
pub struct GuardWait {
    clock: Arc<dyn Clock>,
    policies: Arc<Policies>,
    last: Arc<Mutex<Last>>,
}

/// The last act that this instance knows of.
#[derive(Clone, Copy)]
struct Last {
    at: Duration,
    epoch: Epoch,
}

impl GuardWait {
    /// The start of the process counts as an act: one that was committed just before it may not have been waited for.
    pub fn new(clock: Arc<dyn Clock>, policies: Arc<Policies>) -> Self {
        let last = Arc::new(Mutex::new(Last {
            at: clock.monotonic(),
            epoch: Epoch(0),
        }));
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
            last.at = now;
        }
        tokio::time::sleep(self.policies.guard_wait()).await;
    }

    /// Waits until earlier acts, whose results may have been lost, are waited for. `epoch` is the side's, as the caller has read
    /// it: one that this instance has not seen yet was made by another instance, no one here knows when.
    pub async fn settled(&self, epoch: Epoch) {
        let now = self.clock.monotonic();
        let last = self.last.lock().map_or(now, |mut last| {
            if epoch > last.epoch {
                *last = Last { at: now, epoch };
            }
            last.at
        });
        tokio::time::sleep(
            self.policies
                .guard_wait()
                .saturating_sub(now.saturating_sub(last)),
        )
        .await;
    }
}
