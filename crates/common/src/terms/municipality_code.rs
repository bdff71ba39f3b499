use std::fmt;

/// Code of a municipality (全国地方公共団体コード): six digits, the sixth a check digit. A string, never a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MunicipalityCode([u8; 6]);

/// Why something is not a municipality code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MunicipalityCodeError {
    /// Not six ASCII digits.
    #[error("six digits")]
    NotSixDigits,
    /// The sixth digit does not fit the first five.
    #[error("the sixth digit is the check digit (11 − (6a+5b+4c+3d+2e) mod 11) mod 10")]
    CheckDigit,
}

impl MunicipalityCode {
    /// Takes a code as it is written.
    pub fn parse(text: &str) -> Result<Self, MunicipalityCodeError> {
        let digits: [u8; 6] = text
            .as_bytes()
            .try_into()
            .map_err(|_| MunicipalityCodeError::NotSixDigits)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(MunicipalityCodeError::NotSixDigits);
        }
        let [a, b, c, d, e, check] = digits.map(|digit| u32::from(digit - b'0'));
        let sum = 6 * a + 5 * b + 4 * c + 3 * d + 2 * e;
        if (11 - sum % 11) % 10 == check {
            Ok(Self(digits))
        } else {
            Err(MunicipalityCodeError::CheckDigit)
        }
    }

    /// The six digits.
    pub fn as_str(&self) -> &str {
        // Only ASCII digits get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for MunicipalityCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_codes_pass_and_every_other_check_digit_fails() {
        for code in [
            "131016", "011002", "231002", "271004", "472018", "131130", "401307", "141003",
        ] {
            assert_eq!(
                MunicipalityCode::parse(code).map(|c| c.to_string()),
                Ok(code.to_owned())
            );
            for digit in '0'..='9' {
                let other = format!("{}{digit}", &code[..5]);
                if other != code {
                    assert_eq!(
                        MunicipalityCode::parse(&other),
                        Err(MunicipalityCodeError::CheckDigit)
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_six_ascii_digits_fails() {
        for text in [
            "",
            "13101",
            "1310166",
            "13101a",
            "１３１０１６",
            " 31016",
            "-31016",
        ] {
            assert_eq!(
                MunicipalityCode::parse(text),
                Err(MunicipalityCodeError::NotSixDigits)
            );
        }
    }
}
