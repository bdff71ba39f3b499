//! The wall clock and the stopwatch of a command: the services' clock (`common::clock`) is not linked in here.

use std::time::{Duration, Instant};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Measures how long something takes.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a command measures itself; nothing is decided by it"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The time now, for a report, as RFC 3339 in UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "a date on a report; nothing is decided by it"
)]
pub(crate) fn now_utc() -> anyhow::Result<String> {
    let seconds = OffsetDateTime::now_utc().replace_nanosecond(0)?;
    Ok(seconds.format(&Rfc3339)?)
}
