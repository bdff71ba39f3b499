//! Linkages on the portal side: a code and the card that it is bound to (docs/linkage-file-format.md).

use common::{
    json::{self, Word},
    lines::LineFault,
    terms::{LinkageCode, LinkageState, parse_sha256_text},
};
use koseki_proto::koseki::common::v1::LineReason;
use serde::{Deserialize, de::IgnoredAny};

/// A checked line.
pub struct LinkageLine {
    /// The code.
    pub code: LinkageCode,
    /// SHA-256 of the card's public key.
    pub card_key_sha256: [u8; 32],
    /// Its state.
    pub state: LinkageState,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineType {
    Linkage,
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

/// Parses and checks one line.
pub fn parse_line(line: &[u8]) -> Result<LinkageLine, LineFault> {
    if line.len() > common::lines::MAX_LINE_BYTES {
        return Err(common::lines::too_long());
    }
    let LineType::Linkage = json::type_of(line)?;
    let record: LinkageRecord = json::parse(line)?;
    let invalid = |field: &'static str| {
        move |rule: common::terms::RuleBroken| LineFault::new(LineReason::InvalidField, field, rule.0)
    };
    Ok(LinkageLine {
        code: LinkageCode::parse_text(&record.linkage_code).map_err(invalid("linkage_code"))?,
        card_key_sha256: parse_sha256_text(&record.card_key_sha256).map_err(invalid("card_key_sha256"))?,
        state: record.state.0,
    })
}
