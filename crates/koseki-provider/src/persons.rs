//! Persons and linkages, loaded on the registry side (docs/linkage-file-format.md): a municipality never says who a
//! person is, and a code is derived from nothing.

use std::{collections::HashSet, time::Duration};

use common::{
    alarm::{Alarm, Alarms},
    clock::Timestamp,
    json::{self, Object, Word},
    lines::LineFault,
    store::worked,
    terms::{LinkageCode, LinkageState, MunicipalityCode, RuleBroken},
};
use koseki_proto::koseki::common::v1::LineReason;
use serde::{Deserialize, de::IgnoredAny};

use crate::store::ProviderStore;

/// A checked line.
pub enum PersonLine {
    /// A person and where they are entered.
    Person {
        /// The person.
        person_id: String,
        /// Municipality and reference.
        members: Vec<(MunicipalityCode, String)>,
    },
    /// A linkage.
    Linkage {
        /// The code.
        code: LinkageCode,
        /// The person.
        person_id: String,
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

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineType {
    Person,
    Linkage,
    Confirm,
    Rotate,
    ReplaceCard,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonRecord {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    person_id: String,
    members: Vec<Object<MemberRef>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkageRecord {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    linkage_code: String,
    person_id: String,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberRef {
    municipality_code: String,
    reference: String,
}

/// Parses and checks one line.
pub fn parse_line(line: &[u8]) -> Result<PersonLine, LineFault> {
    if line.len() > common::lines::MAX_LINE_BYTES {
        return Err(common::lines::too_long());
    }
    match json::type_of(line)? {
        LineType::Person => person(json::parse(line)?),
        LineType::Linkage => linkage(json::parse(line)?),
        LineType::Confirm => {
            let record: ConfirmRecord = json::parse(line)?;
            Ok(PersonLine::Confirm {
                code: code("linkage_code", &record.linkage_code)?,
                confirmed_at: Timestamp::parse_japanese_day(&record.confirmed_on)
                    .map_err(|rule| invalid("confirmed_on", rule.0))?,
            })
        }
        LineType::Rotate => {
            let record: RotateRecord = json::parse(line)?;
            Ok(PersonLine::Rotate {
                code: code("linkage_code", &record.linkage_code)?,
                new_code: code("new_linkage_code", &record.new_linkage_code)?,
                card_key_sha256: common::terms::parse_sha256_text(&record.card_key_sha256)
                    .map_err(|rule| invalid("card_key_sha256", rule.0))?,
            })
        }
        LineType::ReplaceCard => replace_card(&json::parse(line)?),
    }
}

fn replace_card(record: &ReplaceCardRecord) -> Result<PersonLine, LineFault> {
    let card =
        |field, text: &str| common::terms::parse_sha256_text(text).map_err(|rule| invalid(field, rule.0));
    let code = code("linkage_code", &record.linkage_code)?;
    let card_key_sha256 = card("card_key_sha256", &record.card_key_sha256)?;
    let new_card_key_sha256 = card("new_card_key_sha256", &record.new_card_key_sha256)?;
    if new_card_key_sha256 == card_key_sha256 {
        return Err(invalid("new_card_key_sha256", "another card than the old one"));
    }
    Ok(PersonLine::ReplaceCard {
        code,
        card_key_sha256,
        new_card_key_sha256,
    })
}

fn person(record: PersonRecord) -> Result<PersonLine, LineFault> {
    let PersonRecord {
        person_id, members, ..
    } = record;
    check_person_id(&person_id).map_err(|rule| invalid("person_id", rule.0))?;
    if members.len() > 64 {
        return Err(invalid("members", "at most 64"));
    }
    let mut seen = HashSet::new();
    let mut checked = Vec::with_capacity(members.len());
    for (at, Object(member)) in members.into_iter().enumerate() {
        let code = MunicipalityCode::parse(&member.municipality_code).map_err(|_| {
            invalid(
                &format!("members[{at}].municipality_code"),
                "six digits, the sixth the check digit",
            )
        })?;
        let reference = member.reference;
        if reference.is_empty() || reference.len() > 64 || !seen.insert((code, reference.clone())) {
            return Err(invalid(
                &format!("members[{at}].reference"),
                "1 to 64 bytes, each once",
            ));
        }
        checked.push((code, reference));
    }
    Ok(PersonLine::Person {
        person_id,
        members: checked,
    })
}

fn linkage(record: LinkageRecord) -> Result<PersonLine, LineFault> {
    let person_id = record.person_id;
    check_person_id(&person_id).map_err(|rule| invalid("person_id", rule.0))?;
    Ok(PersonLine::Linkage {
        code: code("linkage_code", &record.linkage_code)?,
        person_id,
        card_key_sha256: common::terms::parse_sha256_text(&record.card_key_sha256)
            .map_err(|rule| invalid("card_key_sha256", rule.0))?,
        state: record.state.0,
    })
}

fn code(field: &str, text: &str) -> Result<LinkageCode, LineFault> {
    LinkageCode::parse_text(text).map_err(|rule| invalid(field, rule.0))
}

/// How often it is looked whether persons are entered in more than one current register.
const CURRENT_REGISTERS_INTERVAL: Duration = Duration::from_secs(2);

/// Keeps the alarm about persons in more than one current register, for as long as the service runs.
pub async fn watch_current_registers(store: &dyn ProviderStore, alarms: &Alarms) {
    loop {
        let several = store.several_current_registers().await;
        let failed = "persons in more than one current register could not be counted";
        if let Some(several) = worked(several, failed) {
            alarms.set(Alarm::SecondCurrentRegister, "persons", several > 0);
        }
        tokio::time::sleep(CURRENT_REGISTERS_INTERVAL).await;
    }
}

/// The rule of a person's id.
pub fn check_person_id(text: &str) -> Result<(), RuleBroken> {
    if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(RuleBroken("1 to 64 printable ASCII characters without space"))
    }
}

fn invalid(field: &str, rule: &'static str) -> LineFault {
    LineFault::new(LineReason::InvalidField, field, rule)
}
