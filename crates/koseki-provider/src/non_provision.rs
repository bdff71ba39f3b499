//! Non-provision records (提供すべきでない旨の記録; clauses 4.2, 4.3.4). The provider is the authority: they are read in the
//! transaction that releases.

use common::{
    clock::Timestamp,
    digest,
    keyring::Lookup,
    terms::{ActId, MunicipalityCode, RuleBroken},
};
use koseki_proto::koseki::admin::v1::RecordNonProvisionRequest;
use prost::Message as _;

use crate::register::{RegisterKey, Specified};

/// What a record covers.
#[derive(Debug, Clone)]
pub enum Scope {
    /// Everything about a person.
    Person(String),
    /// A register, towards everybody.
    Register(RegisterKey),
    /// A register, towards one requester.
    RequesterAgainstRegister(String, RegisterKey),
}

impl Scope {
    /// The person, when it names one.
    pub fn person(&self) -> Option<&str> {
        match self {
            Self::Person(person) | Self::RequesterAgainstRegister(person, _) => Some(person),
            Self::Register(_) => None,
        }
    }

    /// The register, when it names one.
    pub fn register(&self) -> Option<&RegisterKey> {
        match self {
            Self::Register(register) | Self::RequesterAgainstRegister(_, register) => Some(register),
            Self::Person(_) => None,
        }
    }
}

/// A record to be made.
pub struct NonProvisionRecord {
    /// The act that makes it.
    pub act_id: ActId,
    /// What it covers.
    pub scope: Scope,
    /// From when it holds.
    pub valid_from: Option<Timestamp>,
    /// Until when it holds; `None` until it is released.
    pub valid_until: Option<Timestamp>,
    /// The authority that decided.
    pub authority: String,
    /// Number of its document.
    pub document_number: String,
    /// Digest of the request: the same act again changes nothing.
    pub content: [u8; 32],
}

/// A field of the request breaks its rule.
pub type Malformed = (&'static str, RuleBroken);

impl NonProvisionRecord {
    /// Takes a request.
    pub fn parse(request: &RecordNonProvisionRequest, now: Timestamp) -> Result<Self, Malformed> {
        let at = |field: &'static str| move |rule| (field, rule);
        let act_id = ActId::parse(&request.act_id).map_err(at("act_id"))?;
        let person = (!request.person_id.is_empty()).then(|| request.person_id.clone());
        if let Some(person) = &person {
            crate::persons::check_person_id(person).map_err(at("person_id"))?;
        }
        let register = request
            .register
            .as_ref()
            .map(|register| {
                let municipality_code =
                    MunicipalityCode::parse(&register.municipality_code).map_err(|_| {
                        (
                            "register.municipality_code",
                            RuleBroken("six digits, the sixth the check digit"),
                        )
                    })?;
                text(&register.local_number, 64).map_err(at("register.local_number"))?;
                Ok(RegisterKey {
                    municipality_code,
                    local_number: register.local_number.clone(),
                })
            })
            .transpose()?;
        let scope = match (person, register) {
            (Some(person), None) => Scope::Person(person),
            (None, Some(register)) => Scope::Register(register),
            (Some(person), Some(register)) => Scope::RequesterAgainstRegister(person, register),
            (None, None) => return Err(("person_id", RuleBroken("a person, a register, or both"))),
        };
        let moment = |value: &Option<_>, field: &'static str| {
            value
                .as_ref()
                .map(|value| Timestamp::from_proto(value).ok_or((field, RuleBroken("a valid timestamp"))))
                .transpose()
        };
        let valid_from = moment(&request.valid_from, "valid_from")?;
        let valid_until = moment(&request.valid_until, "valid_until")?;
        // One that is over before it begins would forbid nothing and look as if it did.
        let begins = valid_from.map_or(now, |from| from.max(now));
        if valid_until.is_some_and(|until| until <= begins) {
            return Err(("valid_until", RuleBroken("later than now and than valid_from")));
        }
        text(&request.authority, 256).map_err(at("authority"))?;
        text(&request.document_number, 128).map_err(at("document_number"))?;
        let content = digest::sha256(&[&request.encode_to_vec()]);
        Ok(Self {
            act_id,
            scope,
            valid_from,
            valid_until,
            authority: request.authority.clone(),
            document_number: request.document_number.clone(),
            content,
        })
    }
}

fn text(value: &str, most: usize) -> Result<(), RuleBroken> {
    if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
        Err(RuleBroken(
            "not empty, within its length, without control characters",
        ))
    } else {
        Ok(())
    }
}

/// A record in force, as the release transaction read it.
pub struct RecordFacts {
    /// The person that it names.
    pub person: Option<Lookup>,
    /// The register that it names.
    pub register: Option<Lookup>,
}

/// Which kind of record stands against a request. For the provider's restricted audit only (I6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppressed {
    /// One that covers the person.
    Person,
    /// One that covers a register.
    Register,
    /// One that covers a register towards this requester.
    RequesterAgainstRegister,
}

/// Registers that no record stands against: only [`check`] makes it, and extraction takes it.
pub struct Providable<'a>(Specified<'a>);

impl<'a> Providable<'a> {
    /// The registers.
    pub fn specified(&self) -> &Specified<'a> {
        &self.0
    }
}

/// Checks that no record in force stands against the person or any of the registers.
pub fn check<'a>(
    specified: Specified<'a>,
    person: &Lookup,
    records: &[RecordFacts],
) -> Result<Providable<'a>, Suppressed> {
    for record in records {
        let of_person = record.person.as_ref().is_some_and(|named| named == person);
        let of_register = |named: &Lookup| {
            specified
                .registers()
                .iter()
                .any(|register| register.key == *named)
        };
        match (&record.person, &record.register) {
            (Some(_), None) if of_person => return Err(Suppressed::Person),
            (None, Some(register)) if of_register(register) => return Err(Suppressed::Register),
            (Some(_), Some(register)) if of_person && of_register(register) => {
                return Err(Suppressed::RequesterAgainstRegister);
            }
            _ => {}
        }
    }
    Ok(Providable(specified))
}
