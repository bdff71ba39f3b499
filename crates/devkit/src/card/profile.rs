//! What may differ from card to card.

use rcgen::{
    CustomExtension, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize,
};
use time::macros::time;
use time::{Duration, Month, OffsetDateTime};

use crate::wall_clock;

/// Policy of the user-authentication certificate (利用者証明用電子証明書).
pub const USER_AUTHENTICATION_POLICY_OID: [u64; 9] = [1, 2, 392, 200_149, 8, 5, 1, 3, 30];
/// Policy of the signing certificate (署名用電子証明書), which is refused at a login.
pub const SIGNING_POLICY_OID: [u64; 9] = [1, 2, 392, 200_149, 8, 5, 1, 1, 20];

/// Years from issue to expiry; a card's certificate lasts to a birthday at most so far away.
const VALIDITY_YEARS: i32 = 5;

/// The key of a card or a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardKeyType {
    /// RSA 2048, signing with SHA-256: the cards of today.
    Rsa2048,
    /// ECDSA P-256, signing with SHA-256.
    EcdsaP256,
    /// ECDSA P-384, signing with SHA-384: the next generation.
    EcdsaP384,
}

impl CardKeyType {
    pub(super) fn of(key: &KeyPair) -> Self {
        if key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            Self::EcdsaP256
        } else if key.is_compatible(&PKCS_ECDSA_P384_SHA384) {
            Self::EcdsaP384
        } else {
            Self::Rsa2048
        }
    }

    pub(crate) fn new_key(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        }
    }
}

/// What a card's certificate says. Nothing is checked: tests need certificates that must be refused.
#[derive(Clone, Debug)]
pub struct CardProfile {
    /// Common name of the subject: a number, never the holder's name.
    pub subject_number: String,
    /// Kind of key.
    pub key_type: CardKeyType,
    /// The one certificate policy; none leaves the extension out.
    pub policy_oid: Option<Vec<u64>>,
    /// Key usage, always critical; empty leaves the extension out.
    pub key_usages: Vec<KeyUsagePurpose>,
    /// Whether the certificate claims to be an authority's.
    pub is_ca: bool,
    /// Further extensions, whatever they are.
    pub more: Vec<CustomExtension>,
    /// Start of the validity.
    pub not_before: OffsetDateTime,
    /// End of the validity, itself included.
    pub not_after: OffsetDateTime,
}

impl CardProfile {
    /// The user-authentication certificate as a card has it: valid since yesterday, until 14:59:59 UTC (the last second
    /// of the day in Japan) of this day in five years.
    pub fn user_authentication(subject_number: &str) -> Self {
        let now = wall_clock::now();
        Self {
            subject_number: subject_number.to_owned(),
            key_type: CardKeyType::Rsa2048,
            policy_oid: Some(USER_AUTHENTICATION_POLICY_OID.to_vec()),
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            is_ca: false,
            more: Vec::new(),
            not_before: now.saturating_sub(Duration::DAY),
            not_after: end_of_day_in_japan(years_later(now, VALIDITY_YEARS)),
        }
    }

    /// With a validity that ended yesterday at 14:59:59 UTC.
    #[must_use]
    pub fn expired(mut self) -> Self {
        let yesterday = wall_clock::now().saturating_sub(Duration::DAY);
        self.not_before = years_later(yesterday, -VALIDITY_YEARS);
        self.not_after = end_of_day_in_japan(yesterday);
        self
    }
}

/// 23:59:59 in Japan of the day that it is in UTC.
fn end_of_day_in_japan(moment: OffsetDateTime) -> OffsetDateTime {
    moment.replace_time(time!(14:59:59))
}

fn years_later(moment: OffsetDateTime, years: i32) -> OffsetDateTime {
    // A 29 February has no counterpart in most years: the day before has one in all.
    let moment = match (moment.month(), moment.day()) {
        (Month::February, 29) => moment.saturating_sub(Duration::DAY),
        _ => moment,
    };
    moment.replace_year(moment.year() + years).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_leap_day_is_not_lost() {
        assert_eq!(
            years_later(datetime!(2024-02-29 01:00 UTC), 5),
            datetime!(2029-02-28 01:00 UTC)
        );
    }

    #[test]
    fn an_expired_card_has_expired() {
        let profile = CardProfile::user_authentication("1").expired();
        assert!(profile.not_before < profile.not_after && profile.not_after < wall_clock::now());
    }
}
