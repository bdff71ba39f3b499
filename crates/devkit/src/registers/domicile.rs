//! Registered domiciles (本籍): a place name and a number, where nobody needs to live.

use rand::Rng;

use super::choice::Choice;
use super::municipality::Municipality;

static TOWNS: Choice<&str> = Choice::of(
    "本町",
    &[
        "栄町",
        "緑町",
        "中央",
        "旭町",
        "幸町",
        "東町",
        "西町",
        "南町",
        "北町",
        "新町",
        "元町",
        "泉町",
        "桜町",
        "若葉町",
        "大字上ノ原",
        "大字下ヶ沢",
    ],
);

/// Share of domiciles in an old register that name a municipality that no longer exists.
const FORMER_SHARE: f64 = 0.5;

/// A domicile of today.
pub(super) fn current(municipality: &Municipality, rng: &mut impl Rng) -> String {
    format!("{}{}", municipality.name, within(rng))
}

/// A domicile as an old register has it.
pub(super) fn old(municipality: &Municipality, rng: &mut impl Rng) -> String {
    let begin = match municipality
        .former
        .get(rng.random_range(0..municipality.former.len().max(1)))
    {
        Some(former) if rng.random_bool(FORMER_SHARE) => former,
        _ => municipality.name,
    };
    format!("{begin}{}", within(rng))
}

fn within(rng: &mut impl Rng) -> String {
    let town = TOWNS.pick(rng);
    let number = rng.random_range(1..400);
    match rng.random_range(0..3) {
        0 => format!(
            "{town}{}丁目{}番",
            kanji(rng.random_range(1..10)),
            full_width(number)
        ),
        1 => format!("{town}{}番地", full_width(number)),
        _ => format!("{town}{number}番地{}", rng.random_range(1..30)),
    }
}

/// One digit in kanji, as the names of blocks are written.
fn kanji(digit: u32) -> char {
    match digit {
        1 => '一',
        2 => '二',
        3 => '三',
        4 => '四',
        5 => '五',
        6 => '六',
        7 => '七',
        8 => '八',
        _ => '九',
    }
}

/// Full-width digits: text that folding the width would change.
fn full_width(number: u32) -> String {
    let widen = |digit: char| {
        digit
            .to_digit(10)
            .and_then(|value| char::from_u32(0xff10 + value))
    };
    number.to_string().chars().filter_map(widen).collect()
}
