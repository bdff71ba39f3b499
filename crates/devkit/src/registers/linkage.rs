//! The lines of the linkage files (`docs/linkage-file-format.md`).

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rand::Rng;
use serde::Serialize;

use super::DataError;

/// State of a linkage at one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum LinkageState {
    Pending,
    Active,
    Suspended,
    Revoked,
}

/// Where a person is entered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Entry {
    pub(super) municipality_code: String,
    pub(super) reference: String,
}

#[derive(Serialize)]
struct PersonLine<'a> {
    r#type: &'static str,
    person_id: &'a str,
    members: &'a [Entry],
}

#[derive(Serialize)]
struct LinkageLine<'a> {
    r#type: &'static str,
    linkage_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    person_id: Option<&'a str>,
    card_key_sha256: &'a str,
    state: LinkageState,
}

/// A `person` line.
pub(super) fn person_line(person_id: &str, members: &[Entry]) -> Result<String, DataError> {
    Ok(serde_json::to_string(&PersonLine {
        r#type: "person",
        person_id,
        members,
    })?)
}

/// The two `linkage` lines of one linkage.
pub(super) struct LinkagePair {
    /// For the registry side.
    pub(super) provider: String,
    /// For the portal side.
    pub(super) portal: String,
}

/// One linkage with a new code, in its states at the registry and at the portal side.
pub(super) fn linkage_lines(
    rng: &mut impl Rng,
    person_id: &str,
    card_key_sha256: &[u8; 32],
    at_provider: LinkageState,
    at_portal: LinkageState,
) -> Result<LinkagePair, DataError> {
    let linkage_code = BASE64URL_NOPAD.encode(&rng.random::<[u8; 32]>());
    let card_key_sha256 = HEXLOWER.encode(card_key_sha256);
    let mut line = LinkageLine {
        r#type: "linkage",
        linkage_code: &linkage_code,
        person_id: Some(person_id),
        card_key_sha256: &card_key_sha256,
        state: at_provider,
    };
    let provider = serde_json::to_string(&line)?;
    line.person_id = None;
    line.state = at_portal;
    let portal = serde_json::to_string(&line)?;
    Ok(LinkagePair { provider, portal })
}
