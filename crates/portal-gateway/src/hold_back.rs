//! When the register refusal leaves: at a fixed time after its request came in, whatever it took to find out (I6).

use std::time::Duration;

use common::clock::Clock;

/// Whether the register refusal is held back. A service always does; a test that measures what that hides does without it
/// once, to see that it would find the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldBack {
    /// Until its time.
    UntilDue,
    /// Not at all.
    Never,
}

impl HoldBack {
    /// Waits until a refusal may leave whose request came in at `arrived`, by the monotonic clock.
    pub(crate) async fn wait(self, clock: &dyn Clock, arrived: Duration, refusal_after: Duration) {
        if self == Self::UntilDue {
            let elapsed = clock.monotonic().saturating_sub(arrived);
            tokio::time::sleep(refusal_after.saturating_sub(elapsed)).await;
        }
    }
}
