//! Dates as registers write them: by era, sometimes not whole.

use rand::Rng;
use time::macros::date;
use time::{Date, Duration};

use super::register::RegisterDate;

/// The day on which the synthetic registers stand: nothing in them is later.
pub(super) const AS_OF: Date = date!(2026 - 10 - 01);

/// First day of each era, the latest first.
const ERAS: [(Date, &str); 5] = [
    (date!(2019 - 05 - 01), "令和"),
    (date!(1989 - 01 - 08), "平成"),
    (date!(1926 - 12 - 25), "昭和"),
    (date!(1912 - 07 - 30), "大正"),
    (date!(1868 - 10 - 23), "明治"),
];

/// A whole date: written by era, with the same day as `YYYY-MM-DD`.
pub(super) fn whole(day: Date) -> RegisterDate {
    let iso = format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day());
    let written = format!("{}{}月{}日", era_year(day), u8::from(day.month()), day.day());
    RegisterDate {
        iso: Some(iso),
        written,
    }
}

/// A date of which only the year, or the year and the month, are known. It has no ISO form.
pub(super) fn partial(day: Date, rng: &mut impl Rng) -> RegisterDate {
    let year = era_year(day);
    let written = match rng.random_range(0..3) {
        0 => format!("{year}月日不詳"),
        1 => format!("{year}{}月日不詳", u8::from(day.month())),
        _ => format!("推定{year}"),
    };
    RegisterDate { iso: None, written }
}

/// A day in the year that begins so many years after `day`.
pub(super) fn years_after(day: Date, years: i64, rng: &mut impl Rng) -> Date {
    let days = years * 365 + years / 4 + rng.random_range(0..365);
    day.saturating_add(Duration::days(days))
}

/// Era and year, such as 平成12年; the first year of an era is 元年.
fn era_year(day: Date) -> String {
    let era = ERAS.iter().find(|(first_day, _)| *first_day <= day);
    match era {
        Some((first_day, name)) if first_day.year() == day.year() => format!("{name}元年"),
        Some((first_day, name)) => format!("{name}{}年", day.year() - first_day.year() + 1),
        None => format!("西暦{}年", day.year()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_in_the_era_that_they_belong_to() {
        for (day, written) in [
            (date!(2019 - 04 - 30), "平成31年4月30日"),
            (date!(2019 - 05 - 01), "令和元年5月1日"),
            (date!(1989 - 01 - 07), "昭和64年1月7日"),
            (date!(1926 - 12 - 24), "大正15年12月24日"),
            (date!(1912 - 07 - 29), "明治45年7月29日"),
        ] {
            assert_eq!(whole(day).written, written);
        }
        assert_eq!(whole(date!(2000 - 02 - 03)).iso.as_deref(), Some("2000-02-03"));
    }
}
