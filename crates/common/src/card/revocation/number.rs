//! A revocation list's number (RFC 5280 §5.2.3), which never goes back.

use std::fmt;

use crate::card::der;

/// Bytes of a number at most (RFC 5280 §5.2.3).
const NUMBER_BYTES: usize = 20;

/// The number of a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListNumber([u8; NUMBER_BYTES]);

impl ListNumber {
    /// Reads the content of a DER INTEGER: not negative, and of at most 20 bytes.
    pub(super) fn from_integer(integer: &[u8]) -> Option<Self> {
        if integer.len() > NUMBER_BYTES {
            return None;
        }
        der::padded(der::unsigned(integer)?).map(Self)
    }

    /// The number in its bytes, big-endian: as it is stored, so that the database compares as numbers compare.
    pub fn as_bytes(&self) -> &[u8; NUMBER_BYTES] {
        &self.0
    }
}

/// As OpenSSL prints it.
impl fmt::Display for ListNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = data_encoding::HEXUPPER.encode(&self.0);
        let digits = digits.trim_start_matches("00");
        write!(f, "0x{}", if digits.is_empty() { "00" } else { digits })
    }
}

/// The number of the newest list of each root that a side has taken, as its database has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListNumbers(Vec<([u8; 32], ListNumber)>);

impl FromIterator<([u8; 32], ListNumber)> for ListNumbers {
    fn from_iter<T: IntoIterator<Item = ([u8; 32], ListNumber)>>(numbers: T) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl ListNumbers {
    /// Reads what the gate's statement gathers: for each root the SHA-256 of its key and the number, in hexadecimal digits,
    /// with commas between.
    pub(crate) fn gathered(text: &str) -> Option<Self> {
        let one = |digits: &str| {
            let bytes = data_encoding::HEXLOWER_PERMISSIVE
                .decode(digits.as_bytes())
                .ok()?;
            let (issuer, number) = bytes.split_first_chunk::<32>()?;
            Some((*issuer, ListNumber(number.try_into().ok()?)))
        };
        let numbers = text.split(',').filter(|one| !one.is_empty()).map(one);
        numbers.collect::<Option<_>>().map(Self)
    }

    /// The number of a root's newest list.
    pub fn of(&self, issuer: &[u8; 32]) -> Option<ListNumber> {
        self.0
            .iter()
            .find(|(known, _)| known == issuer)
            .map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers_and_have_at_most_20_bytes() {
        let number = |integer: &[u8]| ListNumber::from_integer(integer);
        assert!(number(&[0x7f]) < number(&[0, 0x80]) && number(&[0, 0xff]) < number(&[1, 0]));
        assert!(number(&[1; 20]).is_some());
        for refused in [[1; 21].as_slice(), &[0x80], &[0, 1], &[]] {
            assert_eq!(number(refused), None, "{refused:?}");
        }
        let shown = |integer: &[u8]| number(integer).unwrap().to_string();
        assert_eq!(
            [shown(&[0]), shown(&[0x2a]), shown(&[1, 0])],
            ["0x00", "0x2A", "0x0100"]
        );
    }

    #[test]
    fn what_the_database_gathers_is_read_again() {
        let number = ListNumber::from_integer(&[7]).unwrap();
        let digits = |byte: u8| data_encoding::HEXUPPER.encode(&[[byte; 32].as_slice(), &number.0].concat());
        let numbers = ListNumbers::gathered(&format!("{},{}", digits(1), digits(2))).unwrap();
        assert_eq!(numbers.of(&[2; 32]), Some(number));
        assert_eq!(numbers.of(&[3; 32]), None);
        assert_eq!(ListNumbers::gathered(""), Some(ListNumbers::default()));
        assert_eq!(ListNumbers::gathered("00"), None);
    }
}
