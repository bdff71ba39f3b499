//! Reading a line of docs/register-copy-format.md.

use std::collections::HashSet;

use common::{
    json::{self, Object, Word},
    lines::{LineFault, MAX_LINE_BYTES, too_long},
    terms::{MunicipalityCode, MunicipalityCodeError, RegisterKind},
};
use koseki_proto::koseki::common::v1::{LineReason, NameKanaStatus};
use serde::{Deserialize, Serialize};
use time::{Date, macros::format_description};

use super::copy::{Medium, Member, RegisterCopy, RegisterKey};

/// Largest integer that every JSON reader keeps (RFC 8785 §3.2.2.3).
const MAX_REVISION: u64 = 9_007_199_254_740_991;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    municipality_code: String,
    local_number: String,
    revision: u64,
    kind: Word<RegisterKind>,
    medium: Word<Medium>,
    state: Word<State>,
    registered_domicile: String,
    first_entered_person: String,
    made_on: Object<WrittenDate>,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    removed_on: Option<Object<WrittenDate>>,
    members: Vec<Object<MemberRecord>>,
    #[serde(skip_serializing)]
    digest: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Settled,
    InMotion,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDate {
    written: String,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    iso: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberRecord {
    reference: String,
    name: String,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    name_kana: Option<String>,
    name_kana_status: Word<KanaStatus>,
    birth_date: Object<WrittenDate>,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    father: Option<String>,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    mother: Option<String>,
    relationship: String,
    removed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KanaStatus {
    None,
    Planned,
    Reported,
    EnteredExOfficio,
}

impl KanaStatus {
    pub(super) fn to_proto(self) -> NameKanaStatus {
        match self {
            Self::None => NameKanaStatus::None,
            Self::Planned => NameKanaStatus::Planned,
            Self::Reported => NameKanaStatus::Reported,
            Self::EnteredExOfficio => NameKanaStatus::EnteredExOfficio,
        }
    }
}

/// Parses and checks one line.
pub fn parse_line(line: &[u8]) -> Result<RegisterCopy, LineFault> {
    if line.len() > MAX_LINE_BYTES {
        return Err(too_long());
    }
    let record: Record = json::parse(line)?;
    let municipality_code =
        MunicipalityCode::parse(&record.municipality_code).map_err(|error| match error {
            MunicipalityCodeError::NotSixDigits => invalid("municipality_code", "six digits"),
            MunicipalityCodeError::CheckDigit => LineFault::new(
                LineReason::CheckDigit,
                "municipality_code",
                "the sixth digit is the check digit (11 − (6a+5b+4c+3d+2e) mod 11) mod 10",
            ),
        })?;
    check(&record)?;
    let canonical = json::canonical_sha256(&record).map_err(|_| invalid("", "a canonical form"))?;
    let digest = data_encoding::HEXLOWER
        .decode(record.digest.as_bytes())
        .unwrap_or_default();
    if digest != canonical {
        return Err(LineFault::new(
            LineReason::Digest,
            "digest",
            "SHA-256 of the rest in canonical form",
        ));
    }
    Ok(RegisterCopy {
        key: RegisterKey {
            municipality_code,
            local_number: record.local_number,
        },
        revision: record.revision,
        kind: record.kind.0,
        medium: record.medium.0,
        in_motion: record.state.0 == State::InMotion,
        members: record
            .members
            .into_iter()
            .map(|Object(member)| Member {
                reference: member.reference,
                removed: member.removed,
            })
            .collect(),
        digest: canonical,
        body: line.to_vec(),
    })
}

fn check(record: &Record) -> Result<(), LineFault> {
    text("local_number", &record.local_number, 64)?;
    if !(1..=MAX_REVISION).contains(&record.revision) {
        return Err(invalid("revision", "1 to 9007199254740991"));
    }
    text("registered_domicile", &record.registered_domicile, 1_024)?;
    text("first_entered_person", &record.first_entered_person, 512)?;
    date("made_on", &record.made_on)?;
    match (record.kind.0, &record.removed_on) {
        (RegisterKind::Current, None) => {}
        (RegisterKind::Current, Some(_)) => {
            return Err(invalid("removed_on", "left out for a current register"));
        }
        (_, Some(removed_on)) => date("removed_on", removed_on)?,
        (_, None) => {
            return Err(invalid(
                "removed_on",
                "required for a removed or pre-revision register",
            ));
        }
    }
    if !(1..=128).contains(&record.members.len()) {
        return Err(invalid("members", "1 to 128 members"));
    }
    let mut references = HashSet::new();
    for (at, member) in record.members.iter().enumerate() {
        let field = |name: &str| format!("members[{at}].{name}");
        text(&field("reference"), &member.reference, 64)?;
        if !references.insert(member.reference.as_str()) {
            return Err(invalid(&field("reference"), "unique within the register"));
        }
        text(&field("name"), &member.name, 512)?;
        match (member.name_kana_status.0, &member.name_kana) {
            (KanaStatus::None, None) => {}
            (KanaStatus::None, Some(_)) => {
                return Err(invalid(&field("name_kana"), "left out when its status is none"));
            }
            (_, Some(kana)) => text(&field("name_kana"), kana, 512)?,
            (_, None) => return Err(invalid(&field("name_kana"), "required unless its status is none")),
        }
        date(&field("birth_date"), &member.birth_date)?;
        for (name, parent) in [("father", &member.father), ("mother", &member.mother)] {
            if let Some(parent) = parent {
                text(&field(name), parent, 512)?;
            }
        }
        text(&field("relationship"), &member.relationship, 64)?;
    }
    Ok(())
}

/// Text is kept as it is: only its length and control characters are looked at (I8).
fn text(field: &str, value: &str, most: usize) -> Result<(), LineFault> {
    if value.is_empty() || value.len() > most {
        let rule = match most {
            64 => "1 to 64 bytes",
            512 => "1 to 512 bytes",
            _ => "1 to 1,024 bytes",
        };
        return Err(invalid(field, rule));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "no control characters"));
    }
    Ok(())
}

fn date(field: &str, value: &WrittenDate) -> Result<(), LineFault> {
    text(&format!("{field}.written"), &value.written, 64)?;
    let whole = |iso: &String| Date::parse(iso, format_description!("[year]-[month]-[day]")).is_ok();
    match &value.iso {
        Some(iso) if !(iso.len() == 10 && whole(iso)) => {
            Err(invalid(&format!("{field}.iso"), "a day as YYYY-MM-DD"))
        }
        _ => Ok(()),
    }
}

fn invalid(field: &str, rule: &'static str) -> LineFault {
    LineFault::new(LineReason::InvalidField, field, rule)
}
