//! The two spellings of a moment in certificates and lists (RFC 5280 §4.1.2.5).

use ::time::{Date, Month, PrimitiveDateTime, Time};

use crate::{
    card::der::{Element, GENERALIZED_TIME, UTC_TIME},
    clock::Timestamp,
};

/// Reads `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
pub(super) fn read(element: Element<'_>) -> Option<Timestamp> {
    let digits = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let time = Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some(Timestamp::from_unix_ms(seconds.saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(tag: u8, text: &str) -> Option<String> {
        let content = text.as_bytes();
        let element = Element {
            tag,
            content,
            whole: content,
        };
        read(element).map(Timestamp::to_rfc3339)
    }

    #[test]
    fn both_spellings_are_read_and_no_other() {
        let expected = moment(UTC_TIME, "261125133000Z");
        assert!(
            expected
                .as_deref()
                .is_some_and(|text| text.starts_with("2026-11-25T13:30:00"))
        );
        assert_eq!(moment(GENERALIZED_TIME, "20261125133000Z"), expected);
        assert!(moment(UTC_TIME, "500101000000Z").is_some_and(|text| text.starts_with("1950")));
        for refused in [
            "2611251330Z",
            "261125133000",
            "261125133000+0900",
            "261325133000Z",
            "261125133060Z",
            "26112513300aZ",
            "20261125133000Z",
        ] {
            assert_eq!(moment(UTC_TIME, refused), None, "{refused}");
        }
        assert_eq!(moment(GENERALIZED_TIME, "20261125133000.5Z"), None);
    }
}
