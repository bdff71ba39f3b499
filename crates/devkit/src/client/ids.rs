//! Ids of calls and acts.

use std::sync::Arc;

use common::clock::Clock;
use uuid::{NoContext, Timestamp, Uuid};

/// Makes UUIDv7 ids by a clock: a request id's time must be near the server's.
#[derive(Clone)]
pub struct Ids(Arc<dyn Clock>);

impl Ids {
    /// By this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }

    /// A new id, as messages carry it.
    pub fn next(&self) -> String {
        let ms = u64::try_from(self.0.now().unix_ms()).unwrap_or_default();
        let nanos = u32::try_from(ms % 1_000).unwrap_or_default() * 1_000_000;
        Uuid::new_v7(Timestamp::from_unix(NoContext, ms / 1_000, nanos))
            .hyphenated()
            .to_string()
    }

    /// The clock.
    pub fn clock(&self) -> &dyn Clock {
        self.0.as_ref()
    }
}
