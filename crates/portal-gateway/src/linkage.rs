//! Linkages on the portal side: a code and the card that it is bound to (docs/linkage-file-format.md).

use common::{
    clock::Timestamp,
    json::{self, Word},
    lines::LineFault,
    terms::{LinkageCode, LinkageState, RuleBroken, parse_sha256_text},
};
use koseki_proto::koseki::common::v1::LineReason;
use serde::{Deserialize, de::IgnoredAny};

/// A checked line.
pub enum LinkageLine {
    /// A linkage.
    Linkage {
        /// The code.
        code: LinkageCode,
        /// SHA-256 of the card's public key.
        card_key_sha256: [u8; 32],
        /// Its state.
        state: LinkageState,
    },
    /// That a linkage still holds.
    Confirm {
        /// The code.
        code: LinkageCode,
        /// The day on which it was confirmed: its beginning in Japan.
        confirmed_at: Timestamp,
    },
    /// A new code in place of another.
    Rotate {
        /// The code that is revoked.
        code: LinkageCode,
        /// The code that is active from now on.
        new_code: LinkageCode,
        /// SHA-256 of the card's public key.
        card_key_sha256: [u8; 32],
    },
    /// Another card in the place of the one that a linkage is bound to.
    ReplaceCard {
        /// The code, which stays.
        code: LinkageCode,
        /// SHA-256 of the public key of the card that ends.
        card_key_sha256: [u8; 32],
        /// SHA-256 of the public key of the card that is bound from now on.
        new_card_key_sha256: [u8; 32],
    },
}

impl LinkageLine {
    /// The codes that it names.
    pub fn codes(&self) -> impl Iterator<Item = &LinkageCode> {
        let (one, other) = match self {
            Self::Linkage { code, .. } | Self::Confirm { code, .. } | Self::ReplaceCard { code, .. } => {
                (code, None)
            }
            Self::Rotate { code, new_code, .. } => (code, Some(new_code)),
        };
        std::iter::once(one).chain(other)
    }

    /// The cards that it names.
    pub fn cards(&self) -> impl Iterator<Item = &[u8; 32]> {
        let (one, other) = match self {
            Self::Linkage { card_key_sha256, .. } | Self::Rotate { card_key_sha256, .. } => {
                (Some(card_key_sha256), None)
            }
            Self::Confirm { .. } => (None, None),
            Self::ReplaceCard {
                card_key_sha256,
                new_card_key_sha256,
                ..
            } => (Some(card_key_sha256), Some(new_card_key_sha256)),
        };
        one.into_iter().chain(other)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineType {
    Linkage,
    Confirm,
    Rotate,
    ReplaceCard,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkageRecord {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    linkage_code: String,
    card_key_sha256: String,
    state: Word<LinkageState>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmRecord {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    linkage_code: String,
    confirmed_on: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateRecord {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    linkage_code: String,
    new_linkage_code: String,
    card_key_sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceCardRecord {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    linkage_code: String,
    card_key_sha256: String,
    new_card_key_sha256: String,
}

/// Parses and checks one line.
pub fn parse_line(line: &[u8]) -> Result<LinkageLine, LineFault> {
    if line.len() > common::lines::MAX_LINE_BYTES {
        return Err(common::lines::too_long());
    }
    let invalid =
        |field: &'static str| move |rule: RuleBroken| LineFault::new(LineReason::InvalidField, field, rule.0);
    Ok(match json::type_of(line)? {
        LineType::Linkage => {
            let record: LinkageRecord = json::parse(line)?;
            LinkageLine::Linkage {
                code: LinkageCode::parse_text(&record.linkage_code).map_err(invalid("linkage_code"))?,
                card_key_sha256: parse_sha256_text(&record.card_key_sha256)
                    .map_err(invalid("card_key_sha256"))?,
                state: record.state.0,
            }
        }
        LineType::Confirm => {
            let record: ConfirmRecord = json::parse(line)?;
            LinkageLine::Confirm {
                code: LinkageCode::parse_text(&record.linkage_code).map_err(invalid("linkage_code"))?,
                confirmed_at: Timestamp::parse_japanese_day(&record.confirmed_on)
                    .map_err(invalid("confirmed_on"))?,
            }
        }
        LineType::Rotate => {
            let record: RotateRecord = json::parse(line)?;
            LinkageLine::Rotate {
                code: LinkageCode::parse_text(&record.linkage_code).map_err(invalid("linkage_code"))?,
                new_code: LinkageCode::parse_text(&record.new_linkage_code)
                    .map_err(invalid("new_linkage_code"))?,
                card_key_sha256: parse_sha256_text(&record.card_key_sha256)
                    .map_err(invalid("card_key_sha256"))?,
            }
        }
        LineType::ReplaceCard => {
            let record: ReplaceCardRecord = json::parse(line)?;
            let code = LinkageCode::parse_text(&record.linkage_code).map_err(invalid("linkage_code"))?;
            let card_key_sha256 =
                parse_sha256_text(&record.card_key_sha256).map_err(invalid("card_key_sha256"))?;
            let new_card_key_sha256 =
                parse_sha256_text(&record.new_card_key_sha256).map_err(invalid("new_card_key_sha256"))?;
            if new_card_key_sha256 == card_key_sha256 {
                return Err(invalid("new_card_key_sha256")(RuleBroken(
                    "another card than the old one",
                )));
            }
            LinkageLine::ReplaceCard {
                code,
                card_key_sha256,
                new_card_key_sha256,
            }
        }
    })
}
