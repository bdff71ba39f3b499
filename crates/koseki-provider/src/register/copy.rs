use std::fmt;

use common::terms::{MunicipalityCode, RegisterKind};
use serde::{Deserialize, Serialize};

/// On what a register is kept. Only text is ever provided (clause 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// Text data.
    Text,
    /// A scanned image.
    Image,
    /// Paper.
    Paper,
}

/// What names a register: its municipality and the municipality's own number.
#[derive(Clone, PartialEq, Eq)]
pub struct RegisterKey {
    /// The municipality that keeps it.
    pub municipality_code: MunicipalityCode,
    /// The municipality's number.
    pub local_number: String,
}

impl fmt::Debug for RegisterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegisterKey(..)")
    }
}

/// A person entered in a register, as the store has to know them.
#[derive(Clone, PartialEq, Eq)]
pub struct Member {
    /// The municipality's reference.
    pub reference: String,
    /// Whether the person has been removed from this register.
    pub removed: bool,
}

/// A checked copy of one register at one revision.
#[derive(Clone, PartialEq, Eq)]
pub struct RegisterCopy {
    /// What names the register.
    pub key: RegisterKey,
    /// Counted by the municipality.
    pub revision: u64,
    /// Kind.
    pub kind: RegisterKind,
    /// On what it is kept.
    pub medium: Medium,
    /// Whether a notification is being processed.
    pub in_motion: bool,
    /// Who is entered.
    pub members: Vec<Member>,
    /// SHA-256 of the canonical record.
    pub digest: [u8; 32],
    /// The line as it came, byte for byte (I8).
    pub body: Vec<u8>,
}

impl fmt::Debug for RegisterCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegisterCopy(..)")
    }
}
