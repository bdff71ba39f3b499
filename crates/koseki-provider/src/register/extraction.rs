//! Extraction (項目の抽出; clause 4.2): of each specified register, and of the requester's own entry, the items that the
//! policy lists, and nothing else (I7).

use common::{
    keyring::HandleKey,
    policy::Provision,
    projection::{Mask, Projected, RegisterSource, RequesterSource},
    terms::RegisterKind,
};
use serde::Deserialize;

use super::{record::KanaStatus, specification::RegisterFacts};
use crate::non_provision::Providable;

/// The part of a stored record that is read for an answer.
#[derive(Deserialize)]
struct Items {
    local_number: String,
    registered_domicile: String,
    first_entered_person: String,
}

/// The members of a stored record; read only when an item of the requester's own entry is listed.
#[derive(Deserialize)]
struct Members {
    members: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    name_kana: Option<String>,
    name_kana_status: KanaStatus,
    birth_date: BirthDate,
    removed: bool,
}

#[derive(Deserialize)]
struct BirthDate {
    written: String,
    iso: Option<String>,
}

/// Extracts the items; `None` when a stored copy cannot be read, and then nothing is provided.
pub fn extract(providable: &Providable<'_>, provision: &Provision, handles: &HandleKey) -> Option<Projected> {
    let mask = Mask::of(provision);
    let specified = providable.specified().registers();
    let registers = specified.iter().map(|register| source(register, handles));
    let requester = if mask.lists_requester() {
        let current = specified
            .iter()
            .find(|register| register.kind == RegisterKind::Current)?;
        Some(own_entry(current)?)
    } else {
        None
    };
    mask.project(registers.collect::<Option<_>>()?, requester).ok()
}

fn source(register: &RegisterFacts, handles: &HandleKey) -> Option<RegisterSource> {
    let items: Items = serde_json::from_slice(register.body.as_deref()?).ok()?;
    Some(RegisterSource {
        kind: register.kind,
        registered_domicile: items.registered_domicile,
        first_entered_person: items.first_entered_person,
        municipality_code: register.municipality_code.clone(),
        handle: handles.register(&register.municipality_code, &items.local_number),
        revision: register.revision,
        received_at: register.received_at,
    })
}

/// The requester's own entry: the member at the place that the store knows of the person, and no other.
fn own_entry(register: &RegisterFacts) -> Option<RequesterSource> {
    let Members { members } = serde_json::from_slice(register.body.as_deref()?).ok()?;
    let own = members.into_iter().nth(register.position)?;
    // Whoever has been removed is not the one for whom this register was specified.
    if own.removed {
        return None;
    }
    Some(RequesterSource {
        name: own.name,
        name_kana: own.name_kana,
        name_kana_status: own.name_kana_status.to_proto(),
        birth_date_written: own.birth_date.written,
        birth_date_iso: own.birth_date.iso,
    })
}

#[cfg(test)]
mod tests;
