//! Typed projection (I7): what the policy lists for a kind and procedure is the only thing that gets into an answer. An
//! answer is a [`Projected`], only a [`Mask`] makes one, and both sides encode nothing else: the registry side projects
//! what it has read, the portal side takes what came only when it is within the mask of its own policy.

use std::{fmt, sync::Arc};

use koseki_proto::koseki::common::v1::{
    NameKanaStatus, ProvidedRegister, RequesterCopyInfo, RequesterItems, WrittenDate,
};
use prost::Message as _;

use crate::{
    clock::Timestamp,
    evidence::{Salt, answer_sha256},
    keyring::RegisterHandle,
    policy::{Item, Provision},
    terms::RegisterKind,
};

/// What of one register could be provided.
pub struct RegisterSource {
    /// Kind.
    pub kind: RegisterKind,
    /// 本籍.
    pub registered_domicile: String,
    /// 筆頭に記載した者の氏名.
    pub first_entered_person: String,
    /// Code of the municipality that keeps the register.
    pub municipality_code: String,
    /// The opaque handle.
    pub handle: RegisterHandle,
    /// Revision of the copy.
    pub revision: u64,
    /// When the copy was received.
    pub received_at: Timestamp,
}

/// What of the requester's own entry could be provided.
pub struct RequesterSource {
    /// 氏名.
    pub name: String,
    /// 振り仮名, if there is one.
    pub name_kana: Option<String>,
    /// Where it comes from.
    pub name_kana_status: NameKanaStatus,
    /// 生年月日 as written.
    pub birth_date_written: String,
    /// The same day as `YYYY-MM-DD`, when it is whole.
    pub birth_date_iso: Option<String>,
}

/// An answer within a mask: only a [`Mask`] makes it, and nothing else is encoded.
/// Shared: a release that is done once more has it again.
#[derive(Clone)]
pub struct Projected(Arc<RequesterCopyInfo>);

impl fmt::Debug for Projected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projected(..)")
    }
}

impl Projected {
    /// Bytes that it takes.
    pub fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// What a receipt has of it.
    pub fn sha256(&self, salt: &Salt) -> [u8; 32] {
        answer_sha256(salt, &self.0)
    }

    /// The message, to be encoded.
    pub fn into_message(self) -> RequesterCopyInfo {
        Arc::unwrap_or_clone(self.0)
    }
}

/// An answer is more than the mask lets through. It names the field and says nothing of what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is outside the mask")]
pub struct OutsideMask(pub &'static str);

/// What the policy lets through for a kind and procedure.
#[derive(Clone, Copy)]
pub struct Mask<'p>(&'p Provision);

impl<'p> Mask<'p> {
    /// The mask of what the policy gives.
    pub fn of(provision: &'p Provision) -> Self {
        Self(provision)
    }

    /// Whether any item of the requester's own entry is listed: without one nobody's entry is even looked at.
    pub fn lists_requester(self) -> bool {
        self.0.items.iter().any(|item| item.is_of_requester())
    }

    /// Projects: what is not listed stays behind here.
    pub fn project(
        self,
        registers: Vec<RegisterSource>,
        requester: Option<RequesterSource>,
    ) -> Result<Projected, OutsideMask> {
        let registers = registers.into_iter().map(|register| ProvidedRegister {
            register_kind: register.kind.to_proto().into(),
            registered_domicile: self.listed(Item::RegisteredDomicile, register.registered_domicile),
            first_entered_person: self.listed(Item::FirstEnteredPerson, register.first_entered_person),
            municipality_code: self.listed(Item::MunicipalityCode, register.municipality_code),
            copy_revision: register.revision,
            copy_received_at: Some(register.received_at.to_proto()),
            register_handle: self.listed(Item::RegisterHandle, register.handle.to_vec()),
        });
        let requester = requester
            .filter(|_| self.lists_requester())
            .map(|requester| RequesterItems {
                name: self.listed(Item::RequesterName, requester.name),
                name_kana: self
                    .listed(Item::RequesterNameKana, requester.name_kana)
                    .unwrap_or_default(),
                name_kana_status: self
                    .listed(
                        Item::RequesterNameKanaStatus,
                        Some(requester.name_kana_status.into()),
                    )
                    .unwrap_or_default(),
                birth_date: self.listed(
                    Item::RequesterBirthDate,
                    Some(WrittenDate {
                        written: requester.birth_date_written,
                        iso: requester.birth_date_iso.unwrap_or_default(),
                    }),
                ),
            });
        // Which registers go in is decided before; here it is only made sure of.
        self.check(RequesterCopyInfo {
            registers: registers.collect(),
            requester,
        })
    }

    /// Takes an answer that somebody else made, when it is not more than the mask. It is not trimmed: a side that sends
    /// more is not to be trusted with the rest.
    pub fn check(self, info: RequesterCopyInfo) -> Result<Projected, OutsideMask> {
        let kind = |register: &ProvidedRegister| RegisterKind::from_proto(register.register_kind());
        let current = info
            .registers
            .iter()
            .filter(|register| kind(register) == Some(RegisterKind::Current));
        if current.count() != 1 {
            return Err(OutsideMask("another number of current registers than one"));
        }
        for register in &info.registers {
            if !kind(register).is_some_and(|kind| self.0.registers.contains(&kind)) {
                return Err(OutsideMask("registers.register_kind"));
            }
            self.outside(
                Item::RegisteredDomicile,
                !register.registered_domicile.is_empty(),
                "registers.registered_domicile",
            )?;
            self.outside(
                Item::FirstEnteredPerson,
                !register.first_entered_person.is_empty(),
                "registers.first_entered_person",
            )?;
            self.outside(
                Item::MunicipalityCode,
                !register.municipality_code.is_empty(),
                "registers.municipality_code",
            )?;
            let handle = &register.register_handle;
            self.outside(
                Item::RegisterHandle,
                !handle.is_empty(),
                "registers.register_handle",
            )?;
            if !handle.is_empty() && handle.len() != size_of::<RegisterHandle>() {
                return Err(OutsideMask("a register_handle of another length"));
            }
        }
        if let Some(requester) = &info.requester {
            if !self.lists_requester() {
                return Err(OutsideMask("requester"));
            }
            self.outside(Item::RequesterName, !requester.name.is_empty(), "requester.name")?;
            self.outside(
                Item::RequesterNameKana,
                !requester.name_kana.is_empty(),
                "requester.name_kana",
            )?;
            self.outside(
                Item::RequesterNameKanaStatus,
                requester.name_kana_status != 0,
                "requester.name_kana_status",
            )?;
            self.outside(
                Item::RequesterBirthDate,
                requester.birth_date.is_some(),
                "requester.birth_date",
            )?;
        }
        Ok(Projected(Arc::new(info)))
    }

    fn listed<T: Default>(self, item: Item, value: T) -> T {
        if self.0.items.contains(&item) {
            value
        } else {
            T::default()
        }
    }

    fn outside(self, item: Item, is_there: bool, field: &'static str) -> Result<(), OutsideMask> {
        if is_there && !self.0.items.contains(&item) {
            Err(OutsideMask(field))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn provision(items: impl IntoIterator<Item = Item>) -> Provision {
        Provision {
            registers: BTreeSet::from([RegisterKind::Current]),
            items: items.into_iter().collect(),
        }
    }

    fn whole() -> RequesterCopyInfo {
        let register = RegisterSource {
            kind: RegisterKind::Current,
            registered_domicile: "本籍".to_owned(),
            first_entered_person: "筆頭者".to_owned(),
            municipality_code: "131016".to_owned(),
            handle: [7; 32],
            revision: 3,
            received_at: Timestamp::from_unix_ms(1),
        };
        let requester = RequesterSource {
            name: "氏名".to_owned(),
            name_kana: Some("シメイ".to_owned()),
            name_kana_status: NameKanaStatus::Planned,
            birth_date_written: "平成元年".to_owned(),
            birth_date_iso: None,
        };
        Mask::of(&provision(Item::ALL))
            .project(vec![register], Some(requester))
            .unwrap()
            .into_message()
    }

    #[test]
    fn an_answer_with_any_item_outside_the_mask_is_not_taken() {
        assert!(Mask::of(&provision(Item::ALL)).check(whole()).is_ok());
        for missing in Item::ALL {
            let fewer = provision(Item::ALL.into_iter().filter(|item| *item != missing));
            let refused = Mask::of(&fewer).check(whole()).map(|_| ());
            assert!(refused.is_err(), "{missing:?}");
        }
        let registers_only = provision(Item::ALL.into_iter().filter(|item| !item.is_of_requester()));
        let mut info = whole();
        info.requester = Some(RequesterItems::default());
        let refused = Mask::of(&registers_only).check(info).map(|_| ());
        assert_eq!(refused, Err(OutsideMask("requester")));
    }

    #[test]
    fn a_register_too_many_is_outside_the_mask() {
        let all = provision(Item::ALL);
        for kind in [
            RegisterKind::Current,
            RegisterKind::Removed,
            RegisterKind::PreRevision,
        ] {
            let mut info = whole();
            let mut more = info.registers[0].clone();
            more.register_kind = kind.to_proto().into();
            info.registers.push(more);
            assert!(Mask::of(&all).check(info).is_err(), "{kind:?}");
        }
        let mut unknown = whole();
        unknown.registers[0].register_kind = 99;
        assert!(Mask::of(&all).check(unknown).is_err());
        assert!(Mask::of(&all).check(RequesterCopyInfo::default()).is_err());
        let mut long = whole();
        long.registers[0].register_handle.push(0);
        assert!(Mask::of(&all).check(long).is_err());
    }
}
