//! A small world, and what a feed of it has to say: computed from the beginning each time, from the rule alone.

use common::{
    clock::Timestamp,
    terms::{ActId, LinkageCode, MunicipalityCode, RegisterKind},
};
use koseki_provider::register::{Medium, Member, RegisterCopy, RegisterKey};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub(crate) const MUNICIPALITY: &str = "131016";

pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) references: Vec<String>,
}

pub(crate) struct Linkage {
    pub(crate) code: LinkageCode,
    pub(crate) person: usize,
    pub(crate) card: [u8; 32],
    pub(crate) revoked: bool,
}

pub(crate) struct Register {
    pub(crate) number: String,
    pub(crate) revision: u64,
    pub(crate) kind: RegisterKind,
    /// Reference, and whether they were removed.
    pub(crate) members: Vec<(String, bool)>,
}

pub(crate) struct Record {
    pub(crate) act: ActId,
    pub(crate) person: Option<usize>,
    pub(crate) register: Option<usize>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) released: bool,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) persons: Vec<Person>,
    pub(crate) linkages: Vec<Linkage>,
    pub(crate) registers: Vec<Register>,
    pub(crate) records: Vec<Record>,
}

impl Record {
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.released || self.until.is_some_and(|until| until <= now)
    }

    fn stands(&self, now: Timestamp) -> bool {
        !self.has_ended(now) && self.from.is_none_or(|from| from <= now)
    }
}

impl Register {
    pub(crate) fn key(&self) -> RegisterKey {
        RegisterKey {
            municipality_code: MunicipalityCode::parse(MUNICIPALITY).unwrap(),
            local_number: self.number.clone(),
        }
    }

    pub(crate) fn copy(&self, rng: &mut ChaCha8Rng) -> RegisterCopy {
        let member = |(reference, removed): &(String, bool)| Member {
            reference: reference.clone(),
            removed: *removed,
        };
        RegisterCopy {
            key: self.key(),
            revision: self.revision,
            kind: self.kind,
            medium: Medium::Text,
            in_motion: false,
            members: self.members.iter().map(member).collect(),
            digest: rng.random(),
            body: b"nothing that is ever provided".to_vec(),
        }
    }
}

impl World {
    /// Whether a linkage is stopped altogether at a moment.
    pub(crate) fn stops(&self, linkage: &Linkage, now: Timestamp) -> bool {
        let person = &self.persons[linkage.person];
        let is_in = |register: &Register| {
            register.kind == RegisterKind::Current
                && register
                    .members
                    .iter()
                    .any(|(reference, removed)| !removed && person.references.contains(reference))
        };
        !linkage.revoked
            && self
                .records
                .iter()
                .filter(|record| record.stands(now))
                .any(|record| {
                    let of_person = record.person == Some(linkage.person);
                    match record.register {
                        None => of_person,
                        Some(register) => {
                            (record.person.is_none() || of_person) && is_in(&self.registers[register])
                        }
                    }
                })
    }
}
