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

/// Members of this and of what is in it stand in the order of their names, in which the digest wants them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(skip_serializing)]
    digest: String,
    first_entered_person: String,
    kind: Word<RegisterKind>,
    local_number: String,
    made_on: Object<WrittenDate>,
    medium: Word<Medium>,
    members: Vec<Object<MemberRecord>>,
    municipality_code: String,
    registered_domicile: String,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    removed_on: Option<Object<WrittenDate>>,
    revision: u64,
    state: Word<State>,
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
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    iso: Option<String>,
    written: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberRecord {
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
    name: String,
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    name_kana: Option<String>,
    name_kana_status: Word<KanaStatus>,
    reference: String,
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
    text(|| "local_number".to_owned(), &record.local_number, 64)?;
    if !(1..=MAX_REVISION).contains(&record.revision) {
        return Err(invalid("revision", "1 to 9007199254740991"));
    }
    text(
        || "registered_domicile".to_owned(),
        &record.registered_domicile,
        1_024,
    )?;
    text(
        || "first_entered_person".to_owned(),
        &record.first_entered_person,
        512,
    )?;
    date(|| "made_on".to_owned(), &record.made_on)?;
    match (record.kind.0, &record.removed_on) {
        (RegisterKind::Current, None) => {}
        (RegisterKind::Current, Some(_)) => {
            return Err(invalid("removed_on", "left out for a current register"));
        }
        (_, Some(removed_on)) => date(|| "removed_on".to_owned(), removed_on)?,
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
        let field = |name: &'static str| move || format!("members[{at}].{name}");
        text(field("reference"), &member.reference, 64)?;
        if !references.insert(member.reference.as_str()) {
            return Err(invalid(&field("reference")(), "unique within the register"));
        }
        text(field("name"), &member.name, 512)?;
        match (member.name_kana_status.0, &member.name_kana) {
            (KanaStatus::None, None) => {}
            (KanaStatus::None, Some(_)) => {
                return Err(invalid(&field("name_kana")(), "left out when its status is none"));
            }
            (_, Some(kana)) => text(field("name_kana"), kana, 512)?,
            (_, None) => {
                return Err(invalid(
                    &field("name_kana")(),
                    "required unless its status is none",
                ));
            }
        }
        date(field("birth_date"), &member.birth_date)?;
        for (name, parent) in [("father", &member.father), ("mother", &member.mother)] {
            if let Some(parent) = parent {
                text(field(name), parent, 512)?;
            }
        }
        text(field("relationship"), &member.relationship, 64)?;
    }
    Ok(())
}

/// Text is kept as it is: only its length and control characters are looked at (I8).
fn text(field: impl FnOnce() -> String, value: &str, most: usize) -> Result<(), LineFault> {
    if value.is_empty() || value.len() > most {
        let rule = match most {
            64 => "1 to 64 bytes",
            512 => "1 to 512 bytes",
            _ => "1 to 1,024 bytes",
        };
        return Err(invalid(&field(), rule));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(&field(), "no control characters"));
    }
    Ok(())
}

fn date(field: impl Fn() -> String, value: &WrittenDate) -> Result<(), LineFault> {
    text(|| format!("{}.written", field()), &value.written, 64)?;
    let whole = |iso: &String| Date::parse(iso, format_description!("[year]-[month]-[day]")).is_ok();
    match &value.iso {
        Some(iso) if !(iso.len() == 10 && whole(iso)) => {
            Err(invalid(&format!("{}.iso", field()), "a day as YYYY-MM-DD"))
        }
        _ => Ok(()),
    }
}

fn invalid(field: &str, rule: &'static str) -> LineFault {
    LineFault::new(LineReason::InvalidField, field, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_the_order_that_the_digest_wants() {
        let date = r#"{"written":"令和六年三月一日","iso":"2024-03-01"}"#;
        let line = format!(
            r#"{{"municipality_code":"131016","local_number":"1","revision":1,"kind":"removed","medium":"text",
            "state":"settled","registered_domicile":"a","first_entered_person":"b","made_on":{date},
            "removed_on":{date},"digest":"","members":[{{"reference":"r","name":"n","name_kana":"k",
            "name_kana_status":"reported","birth_date":{date},"father":"f","mother":"m","relationship":"s",
            "removed":false}}]}}"#
        );
        let record: Record = json::parse(line.as_bytes()).unwrap();
        // `Value` keeps members sorted by their bytes.
        let sorted = serde_json::to_value(&record).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), sorted.to_string());
    }
}
