//! Times: people see UTC and Japan's, programs RFC 3339 in UTC.

use std::time::Duration;

use common::clock::Timestamp;
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, macros::format_description, macros::offset};

/// Reads a message's time; `None` when it has none.
pub(crate) fn read(moment: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    moment.and_then(Timestamp::from_proto)
}

/// For programs.
pub(crate) fn json(moment: Option<&prost_types::Timestamp>) -> Value {
    read(moment).map_or(Value::Null, |moment| moment.to_rfc3339().into())
}

/// For people; `-` when there is none.
pub(crate) fn text(moment: Option<&prost_types::Timestamp>) -> String {
    read(moment).map_or_else(|| "-".to_owned(), both)
}

/// For people.
pub(crate) fn both(moment: Timestamp) -> String {
    let at = |zone| in_zone(moment, zone).unwrap_or_else(|| "out of range".to_owned());
    format!("{} UTC ({} JST)", at(UtcOffset::UTC), at(offset!(+9)))
}

fn in_zone(moment: Timestamp, zone: UtcOffset) -> Option<String> {
    let moment = OffsetDateTime::from_unix_timestamp(moment.unix_ms().div_euclid(1_000)).ok()?;
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    moment.checked_to_offset(zone)?.format(format).ok()
}

/// Whole days from one moment to a later one; negative when it is earlier.
pub(crate) fn days(from: Timestamp, to: Timestamp) -> i64 {
    to.unix_ms()
        .saturating_sub(from.unix_ms())
        .div_euclid(24 * 3_600_000)
}

/// An age in the largest unit that tells enough.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_both_zones() {
        let moment = Timestamp::from_rfc3339("2026-12-31T18:30:05Z").unwrap();
        assert_eq!(both(moment), "2026-12-31 18:30:05 UTC (2027-01-01 03:30:05 JST)");
        assert_eq!(json(Some(&moment.to_proto())), "2026-12-31T18:30:05Z");
        assert_eq!(text(None), "-");
    }

    #[test]
    fn days_count_down_to_zero_and_below() {
        let now = Timestamp::from_unix_ms(0);
        assert_eq!(days(now, Timestamp::from_unix_ms(86_400_000 * 3 - 1)), 2);
        assert_eq!(days(now, Timestamp::from_unix_ms(-1)), -1);
    }
}
