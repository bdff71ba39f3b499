//! The scenario persons: who they are, what must come back for them, and what operators record first.

use serde::{Deserialize, Serialize};

use super::register::{KanaStatus, Member, Register, RegisterDate, RegisterKind};

/// A person made to show one case. `docs/sandbox.md` tells their stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scenario {
    /// One current register in text, nothing in the way.
    Ordinary,
    /// A non-provision record covers the person.
    Suppressed,
    /// A non-provision record covers the person's register.
    RegisterSuppressed,
    /// A non-provision record covers this requester against the register.
    RequesterAgainstRegister,
    /// The card is linked to nobody.
    NoLinkage,
    /// The linkage is suspended on the registry side only.
    SuspendedLinkage,
    /// Entered in two current registers.
    TwoCurrentRegisters,
    /// The only register is an image.
    ImageOnly,
    /// A notification on the register is being processed.
    InMotion,
    /// Removed from the only current register.
    RemovedPerson,
    /// The card is blocked at the portal.
    Blocked,
    /// U+8FBB U+E0100 in the text.
    VariationSequence,
    /// U+FA19, U+FA11 and U+F9DC in the text.
    CompatibilityIdeograph,
    /// U+20BB7 in the text.
    Plane2,
    /// U+10DE92 in the text.
    PrivateUse,
    /// U+3000 inside the text.
    IdeographicSpace,
    /// The card's certificate is on the revocation list.
    RevokedCard,
    /// The card's certificate has expired.
    ExpiredCard,
    /// A removed and a pre-revision register in text besides the current one.
    Lineage,
}

impl Scenario {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::Ordinary,
        Self::Suppressed,
        Self::RegisterSuppressed,
        Self::RequesterAgainstRegister,
        Self::NoLinkage,
        Self::SuspendedLinkage,
        Self::TwoCurrentRegisters,
        Self::ImageOnly,
        Self::InMotion,
        Self::RemovedPerson,
        Self::Blocked,
        Self::VariationSequence,
        Self::CompatibilityIdeograph,
        Self::Plane2,
        Self::PrivateUse,
        Self::IdeographicSpace,
        Self::RevokedCard,
        Self::ExpiredCard,
        Self::Lineage,
    ];

    /// The stable name, in files and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Suppressed => "suppressed",
            Self::RegisterSuppressed => "register-suppressed",
            Self::RequesterAgainstRegister => "requester-against-register",
            Self::NoLinkage => "no-linkage",
            Self::SuspendedLinkage => "suspended-linkage",
            Self::TwoCurrentRegisters => "two-current-registers",
            Self::ImageOnly => "image-only",
            Self::InMotion => "in-motion",
            Self::RemovedPerson => "removed-person",
            Self::Blocked => "blocked",
            Self::VariationSequence => "variation-sequence",
            Self::CompatibilityIdeograph => "compatibility-ideograph",
            Self::Plane2 => "plane-2",
            Self::PrivateUse => "private-use",
            Self::IdeographicSpace => "ideographic-space",
            Self::RevokedCard => "revoked-card",
            Self::ExpiredCard => "expired-card",
            Self::Lineage => "lineage",
        }
    }
}

/// What must come back when the person logs in, consents and asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// These registers, those besides the current one only for a procedure that asks for them.
    Provided {
        /// Current first, then by the date on which they were made.
        registers: Vec<ProvidedRegister>,
        /// The requester's own entry, for a procedure that asks for it.
        requester: RequesterItems,
    },
    /// The one register refusal.
    NotProvided,
    /// No login: the card's certificate has been revoked.
    CardRevoked,
    /// No login: the card's certificate has expired.
    CardExpired,
}

/// One register of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedRegister {
    /// Kind of register.
    pub register_kind: RegisterKind,
    /// 本籍.
    pub registered_domicile: String,
    /// 筆頭に記載した者の氏名.
    pub first_entered_person: String,
    /// Code of the municipality that keeps it.
    pub municipality_code: String,
    /// Revision of the copy.
    pub copy_revision: u64,
}

impl From<&Register> for ProvidedRegister {
    fn from(register: &Register) -> Self {
        Self {
            register_kind: register.kind,
            registered_domicile: register.registered_domicile.clone(),
            first_entered_person: register.first_entered_person.clone(),
            municipality_code: register.municipality_code.clone(),
            copy_revision: register.revision,
        }
    }
}

/// The requester's own entry in the current register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequesterItems {
    /// 氏名.
    pub name: String,
    /// 振り仮名, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_kana: Option<String>,
    /// Where it comes from.
    pub name_kana_status: KanaStatus,
    /// 生年月日.
    pub birth_date: RegisterDate,
}

impl From<&Member> for RequesterItems {
    fn from(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            name_kana: member.name_kana.clone(),
            name_kana_status: member.name_kana_status,
            birth_date: member.birth_date.clone(),
        }
    }
}

/// A register, named as its municipality names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRef {
    /// Code of the municipality.
    pub municipality_code: String,
    /// Its number of the register.
    pub local_number: String,
}

/// What operators record before the outcome holds: neither is part of the files that are loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum OperatorRecord {
    /// A non-provision record on the registry side: a person, a register, or with both one requester against a register.
    NonProvision {
        /// The person, if the record names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        person_id: Option<String>,
        /// The register, if the record names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        register: Option<RegisterRef>,
    },
    /// A block of the card on the portal side.
    Block {
        /// SHA-256 of the card's public key, 64 lower-case hexadecimal digits.
        card_key_sha256: String,
    },
}

/// One scenario person, as `scenarios.json` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioPerson {
    /// Stable name.
    pub name: String,
    /// What must come back, after [`ScenarioPerson::record`] where there is one.
    pub expected: Outcome,
    /// The person on the registry side; known there also when no linkage leads to it.
    pub person_id: String,
    /// What operators record first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<OperatorRecord>,
    /// What is provided as long as they have not; empty where they need not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub until_recorded: Vec<ProvidedRegister>,
    /// File of the card's certificate, from the data set's directory.
    pub card_certificate_file: String,
    /// File of the card's private key, from the data set's directory.
    pub card_key_file: String,
    /// SHA-256 of the card's public key, 64 lower-case hexadecimal digits.
    pub card_key_sha256: String,
}
