//! Times: UTC for programs, and Japan's beside it.

use prost_types::Timestamp;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::offset};

/// In milliseconds since 1970.
pub(crate) fn ms(at: &Timestamp) -> Option<i64> {
    let nanos = i64::from(at.nanos);
    let good = (0..1_000_000_000).contains(&nanos);
    let seconds = at.seconds.checked_mul(1_000)?;
    good.then(|| seconds.checked_add(nanos / 1_000_000))?
}

/// Reads a time as RFC 3339, in milliseconds since 1970.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

pub(crate) fn utc(unix_ms: i64) -> String {
    in_zone(unix_ms, UtcOffset::UTC)
}

pub(crate) fn jst(unix_ms: i64) -> String {
    in_zone(unix_ms, offset!(+9))
}

pub(crate) fn utc_s(unix_s: u64) -> String {
    let ms = i64::try_from(unix_s)
        .ok()
        .and_then(|unix_s| unix_s.checked_mul(1_000));
    ms.map_or_else(|| "out of range".to_owned(), utc)
}

fn in_zone(unix_ms: i64, zone: UtcOffset) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok();
    let at = at.and_then(|at| at.checked_to_offset(zone));
    let text = at.and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "out of range".to_owned())
}
