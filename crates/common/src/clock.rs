//! The clock. Everything that reads time goes through [`Clock`], so that tests can move it (clause 4.4.7).

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use time::{
    Date, OffsetDateTime,
    format_description::well_known::Rfc3339,
    macros::{format_description, offset},
};

use crate::terms::RuleBroken;

/// A moment of civil time, in milliseconds since 1970-01-01T00:00:00Z. The store and the messages use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// The moment `by` later.
    pub fn after(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long `self` is after `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment earlier by `by`.
    pub fn before(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// As a message carries it.
    pub fn to_proto(self) -> prost_types::Timestamp {
        prost_types::Timestamp {
            seconds: self.0.div_euclid(1_000),
            nanos: i32::try_from(self.0.rem_euclid(1_000)).unwrap_or(0) * 1_000_000,
        }
    }

    /// From a message; `None` when it is out of range.
    pub fn from_proto(value: &prost_types::Timestamp) -> Option<Self> {
        let seconds = value.seconds.checked_mul(1_000)?;
        (0..1_000_000_000).contains(&value.nanos).then_some(())?;
        seconds.checked_add(i64::from(value.nanos / 1_000_000)).map(Self)
    }

    /// The beginning in Japan of a day that is written as YYYY-MM-DD.
    pub fn parse_japanese_day(text: &str) -> Result<Self, RuleBroken> {
        let rule = RuleBroken("a day as YYYY-MM-DD");
        let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| rule)?;
        if text.len() != 10 {
            return Err(rule);
        }
        let midnight = day.midnight().assume_offset(offset!(+9));
        Ok(Self(midnight.unix_timestamp().saturating_mul(1_000)))
    }

    /// From RFC 3339 text; `None` when it is none.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000))
            .ok()
            .map(Self)
    }

    /// As RFC 3339 text in UTC, to the second.
    pub fn to_rfc3339(self) -> String {
        OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1_000))
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok())
            .unwrap_or_default()
    }
}

/// What tells the time. `sleep` stays with tokio: it measures nothing.
pub trait Clock: Send + Sync + 'static {
    /// Civil time.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start, that never goes back. Ages and deadlines within a process are measured with it.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The machine's clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's clock"
    )]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The machine's clock, moved by an offset: what tests inject to see sessions, consents and certificates expire.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    machine: SystemClock,
    offset_ms: AtomicI64,
}

impl ShiftedClock {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.offset_ms.fetch_add(
            i64::try_from(by.as_millis()).unwrap_or(i64::MAX),
            Ordering::SeqCst,
        );
    }

    fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.machine.now().0.saturating_add(self.offset_ms()))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + Duration::from_millis(u64::try_from(self.offset_ms()).unwrap_or(0))
    }
}
