//! Municipalities with their real codes (全国地方公共団体コード).

use super::choice::Choice;

/// A municipality that keeps registers.
#[derive(Debug, PartialEq, Eq)]
pub struct Municipality {
    /// Six digits, the sixth the check digit `(11 − (6a+5b+4c+3d+2e) mod 11) mod 10`.
    pub code: &'static str,
    /// Prefecture and name, as a domicile begins.
    pub name: &'static str,
    /// Municipalities that have become part of it and no longer exist, written the same way; old registers still name
    /// them.
    pub former: &'static [&'static str],
}

const fn municipality(
    code: &'static str,
    name: &'static str,
    former: &'static [&'static str],
) -> Municipality {
    Municipality { code, name, former }
}

pub(super) static SAPPORO: Municipality = municipality("011002", "北海道札幌市", &["北海道札幌郡豊平町"]);
pub(super) static MORIOKA: Municipality = municipality("032018", "岩手県盛岡市", &["岩手県岩手郡玉山村"]);
pub(super) static SENDAI: Municipality = municipality("041009", "宮城県仙台市", &["宮城県宮城郡宮城町"]);
pub(super) static SAITAMA: Municipality =
    municipality("111007", "埼玉県さいたま市", &["埼玉県浦和市", "埼玉県大宮市"]);
pub(super) static CHIYODA: Municipality =
    municipality("131016", "東京都千代田区", &["東京都神田区", "東京都麹町区"]);
pub(super) static YOKOHAMA: Municipality = municipality("141003", "神奈川県横浜市", &[]);
pub(super) static NIIGATA: Municipality = municipality("151009", "新潟県新潟市", &["新潟県新津市"]);
pub(super) static NAGANO: Municipality = municipality("202011", "長野県長野市", &["長野県上水内郡戸隠村"]);
pub(super) static HAMAMATSU: Municipality = municipality("221309", "静岡県浜松市", &["静岡県天竜市"]);
pub(super) static NAGOYA: Municipality = municipality("231002", "愛知県名古屋市", &[]);
pub(super) static KYOTO: Municipality = municipality("261009", "京都府京都市", &["京都府北桑田郡京北町"]);
pub(super) static OSAKA: Municipality = municipality("271004", "大阪府大阪市", &[]);
pub(super) static KOBE: Municipality = municipality("281000", "兵庫県神戸市", &[]);
pub(super) static HIROSHIMA: Municipality = municipality("341002", "広島県広島市", &["広島県佐伯郡湯来町"]);
pub(super) static FUKUOKA: Municipality = municipality("401307", "福岡県福岡市", &[]);
pub(super) static NAHA: Municipality = municipality("472018", "沖縄県那覇市", &["沖縄県首里市"]);

/// Every municipality of the data set, by code.
pub static MUNICIPALITIES: [&Municipality; 16] = [
    &SAPPORO, &MORIOKA, &SENDAI, &SAITAMA, &CHIYODA, &YOKOHAMA, &NIIGATA, &NAGANO, &HAMAMATSU, &NAGOYA,
    &KYOTO, &OSAKA, &KOBE, &HIROSHIMA, &FUKUOKA, &NAHA,
];

/// The same, to choose from.
pub(super) static ANY: Choice<&Municipality> = Choice::of(
    &SAPPORO,
    &[
        &MORIOKA, &SENDAI, &SAITAMA, &CHIYODA, &YOKOHAMA, &NIIGATA, &NAGANO, &HAMAMATSU, &NAGOYA, &KYOTO,
        &OSAKA, &KOBE, &HIROSHIMA, &FUKUOKA, &NAHA,
    ],
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_check_digit() {
        for municipality in MUNICIPALITIES {
            let digits: Vec<u32> = municipality
                .code
                .chars()
                .map(|digit| digit.to_digit(10).unwrap())
                .collect();
            assert_eq!(digits.len(), 6, "{}", municipality.code);
            let sum: u32 = digits
                .iter()
                .zip([6, 5, 4, 3, 2])
                .map(|(digit, weight)| digit * weight)
                .sum();
            assert_eq!(digits[5], (11 - sum % 11) % 10, "{}", municipality.code);
        }
    }

    #[test]
    fn codes_are_unique() {
        let codes: BTreeSet<_> = MUNICIPALITIES
            .iter()
            .map(|municipality| municipality.code)
            .collect();
        assert_eq!(codes.len(), MUNICIPALITIES.len());
    }
}
