//! Non-provision records (提供すべきでない旨の記録; clauses 4.2, 4.3.4). The provider is the authority: they are read in the
//! transaction that releases.

use common::{
    clock::Timestamp,
    digest,
    keyring::Lookup,
    terms::{ActId, MunicipalityCode, RuleBroken},
};
use koseki_proto::koseki::{
    admin::v1::{RecordNonProvisionRequest, RegisterRef},
    ingest::v1::RecordOwnNonProvisionRequest,
};
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
    /// A register, towards one requester whom its municipality names by its own reference.
    MemberAgainstRegister(String, RegisterKey),
}

/// Whom or what records are asked about.
pub struct Named {
    /// Records that name this person; `None` for any.
    pub person: Option<String>,
    /// Records that name this register; `None` for any.
    pub register: Option<RegisterKey>,
}

impl Scope {
    /// The register, when it names one.
    pub fn register(&self) -> Option<&RegisterKey> {
        match self {
            Self::Register(register)
            | Self::RequesterAgainstRegister(_, register)
            | Self::MemberAgainstRegister(_, register) => Some(register),
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
    /// Takes an operator's request.
    pub fn parse(request: &RecordNonProvisionRequest, now: Timestamp) -> Result<Self, Malformed> {
        let Named { person, register } = Named::parse(&request.person_id, request.register.as_ref())?;
        let scope = match (person, register) {
            (Some(person), None) => Scope::Person(person),
            (None, Some(register)) => Scope::Register(register),
            (Some(person), Some(register)) => Scope::RequesterAgainstRegister(person, register),
            (None, None) => return Err(("person_id", RuleBroken("a person, a register, or both"))),
        };
        Self {
            act_id: ActId::parse(&request.act_id).map_err(|rule| ("act_id", rule))?,
            scope,
            valid_from: moment("valid_from", request.valid_from.as_ref())?,
            valid_until: moment("valid_until", request.valid_until.as_ref())?,
            authority: request.authority.clone(),
            document_number: request.document_number.clone(),
            content: digest::sha256(&[&request.encode_to_vec()]),
        }
        .check(now)
    }

    /// Takes a municipality's request about a register of its own.
    pub fn parse_own(request: &RecordOwnNonProvisionRequest, now: Timestamp) -> Result<Self, Malformed> {
        let register = RegisterKey {
            municipality_code: code("municipality_code", &request.municipality_code)?,
            local_number: request.local_number.clone(),
        };
        text("local_number", &request.local_number, 64)?;
        let reference = &request.requester_reference;
        let scope = if reference.is_empty() {
            Scope::Register(register)
        } else {
            text("requester_reference", reference, 64)?;
            Scope::MemberAgainstRegister(reference.clone(), register)
        };
        Self {
            act_id: ActId::parse(&request.act_id).map_err(|rule| ("act_id", rule))?,
            scope,
            valid_from: moment("valid_from", request.valid_from.as_ref())?,
            valid_until: moment("valid_until", request.valid_until.as_ref())?,
            authority: request.authority.clone(),
            document_number: request.document_number.clone(),
            content: digest::sha256(&[&request.encode_to_vec()]),
        }
        .check(now)
    }

    fn check(self, now: Timestamp) -> Result<Self, Malformed> {
        // One that is over before it begins would forbid nothing and look as if it did.
        let begins = self.valid_from.map_or(now, |from| from.max(now));
        if self.valid_until.is_some_and(|until| until <= begins) {
            return Err(("valid_until", RuleBroken("later than now and than valid_from")));
        }
        text("authority", &self.authority, 256)?;
        text("document_number", &self.document_number, 128)?;
        Ok(self)
    }
}

impl Named {
    /// Takes a person's id, empty for none, and a register.
    pub fn parse(person_id: &str, register: Option<&RegisterRef>) -> Result<Self, Malformed> {
        if !person_id.is_empty() {
            crate::persons::check_person_id(person_id).map_err(|rule| ("person_id", rule))?;
        }
        let register = register.map(|register| {
            text("register.local_number", &register.local_number, 64)?;
            Ok(RegisterKey {
                municipality_code: code("register.municipality_code", &register.municipality_code)?,
                local_number: register.local_number.clone(),
            })
        });
        Ok(Self {
            person: (!person_id.is_empty()).then(|| person_id.to_owned()),
            register: register.transpose()?,
        })
    }
}

fn code(field: &'static str, value: &str) -> Result<MunicipalityCode, Malformed> {
    let rule = RuleBroken("six digits, the sixth the check digit");
    MunicipalityCode::parse(value).map_err(|_| (field, rule))
}

fn moment(
    field: &'static str,
    value: Option<&prost_types::Timestamp>,
) -> Result<Option<Timestamp>, Malformed> {
    value
        .map(|value| Timestamp::from_proto(value).ok_or((field, RuleBroken("a valid timestamp"))))
        .transpose()
}

fn text(field: &'static str, value: &str, most: usize) -> Result<(), Malformed> {
    if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
        let rule = match most {
            64 => "1 to 64 bytes without control characters",
            128 => "1 to 128 bytes without control characters",
            _ => "1 to 256 bytes without control characters",
        };
        Err((field, RuleBroken(rule)))
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
