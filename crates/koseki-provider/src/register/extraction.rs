//! Extraction (項目の抽出; clause 4.2): of each specified register the items that the policy lists, and nothing else (I7).

use common::policy::{Item, Provision};
use koseki_proto::koseki::common::v1::{ProvidedRegister, RequesterCopyInfo};
use serde::Deserialize;

use super::specification::RegisterFacts;
use crate::non_provision::Providable;

/// The only part of a stored record that is read for an answer.
#[derive(Deserialize)]
struct Items {
    registered_domicile: String,
    first_entered_person: String,
}

/// Extracts the items; `None` when a stored copy cannot be read, and then nothing is provided.
pub fn extract(providable: &Providable<'_>, provision: &Provision) -> Option<RequesterCopyInfo> {
    let registers = providable
        .specified()
        .registers()
        .iter()
        .map(|register| one(register, provision));
    Some(RequesterCopyInfo {
        registers: registers.collect::<Option<_>>()?,
    })
}

fn one(register: &RegisterFacts, provision: &Provision) -> Option<ProvidedRegister> {
    let items: Items = serde_json::from_slice(register.body.as_deref()?).ok()?;
    let listed = |item: Item, value: String| {
        if provision.items.contains(&item) {
            value
        } else {
            String::new()
        }
    };
    Some(ProvidedRegister {
        register_kind: register.kind.to_proto().into(),
        registered_domicile: listed(Item::RegisteredDomicile, items.registered_domicile),
        first_entered_person: listed(Item::FirstEnteredPerson, items.first_entered_person),
        municipality_code: listed(Item::MunicipalityCode, register.municipality_code.clone()),
        copy_revision: register.revision,
        copy_received_at: Some(register.received_at.to_proto()),
    })
}
