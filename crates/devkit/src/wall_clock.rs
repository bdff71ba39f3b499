//! The one place where this crate reads the machine's clock.

use time::OffsetDateTime;

/// Now, to the second: certificates know no smaller unit (RFC 5280, 4.1.2.5).
#[allow(
    clippy::disallowed_methods,
    reason = "the validity of development certificates counts from when they are made"
)]
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}
