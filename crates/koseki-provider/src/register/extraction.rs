//! Extraction (項目の抽出; clause 4.2): of each specified register the items that the policy lists, and nothing else (I7).

use common::policy::{Item, Provision};
use koseki_proto::koseki::common::v1::{ProvidedRegister, RegisterKind, RequesterCopyInfo};
use serde::Deserialize;

use super::specification::RegisterFacts;
use crate::non_provision::Providable;

/// The only part of a stored record that is read for an answer.
#[derive(Deserialize)]
struct Items {
    registered_domicile: String,
    first_entered_person: String,
    made_on: MadeOn,
}

/// Orders an answer; it is not part of it.
#[derive(Deserialize)]
struct MadeOn {
    iso: Option<String>,
}

/// Extracts the items; `None` when a stored copy cannot be read, and then nothing is provided.
///
/// The current register comes first, then the others by the day on which they were made; those of which only a part of
/// the date is known come last.
pub fn extract(providable: &Providable<'_>, provision: &Provision) -> Option<RequesterCopyInfo> {
    let registers = providable.specified().registers().iter();
    let mut extracted = registers
        .map(|register| one(register, provision))
        .collect::<Option<Vec<_>>>()?;
    extracted.sort_by_cached_key(|(made_on, register)| {
        let is_current = register.register_kind() == RegisterKind::Current;
        (!is_current, made_on.iso.is_none(), made_on.iso.clone())
    });
    Some(RequesterCopyInfo {
        registers: extracted.into_iter().map(|(_, register)| register).collect(),
    })
}

fn one(register: &RegisterFacts, provision: &Provision) -> Option<(MadeOn, ProvidedRegister)> {
    let items: Items = serde_json::from_slice(register.body.as_deref()?).ok()?;
    let listed = |item: Item, value: String| {
        if provision.items.contains(&item) {
            value
        } else {
            String::new()
        }
    };
    let provided = ProvidedRegister {
        register_kind: register.kind.to_proto().into(),
        registered_domicile: listed(Item::RegisteredDomicile, items.registered_domicile),
        first_entered_person: listed(Item::FirstEnteredPerson, items.first_entered_person),
        municipality_code: listed(Item::MunicipalityCode, register.municipality_code.clone()),
        copy_revision: register.revision,
        copy_received_at: Some(register.received_at.to_proto()),
    };
    Some((items.made_on, provided))
}
