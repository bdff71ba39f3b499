//! A register copy and its line (`docs/register-copy-format.md`).
//!
//! Fields stand in the order of their names, in which the digest wants them (RFC 8785, 3.2.3): what serde writes is the
//! canonical form as it is. serde_json escapes exactly what the scheme escapes.

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::DataError;

/// What kind of register it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterKind {
    /// 現在戸籍.
    Current,
    /// 除籍.
    Removed,
    /// 改製原戸籍.
    PreRevision,
}

/// What the register is kept on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// Text on magnetic disk, the only kind that is provided.
    Text,
    /// An image.
    Image,
    /// Paper.
    Paper,
}

/// Whether a notification is being processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MotionState {
    /// Nothing is.
    Settled,
    /// One is.
    InMotion,
}

/// Where a reading comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KanaStatus {
    /// There is none.
    None,
    /// 記載予定.
    Planned,
    /// 届出.
    Reported,
    /// 職権記載.
    EnteredExOfficio,
}

/// A date as written, and as ISO date when it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterDate {
    /// `YYYY-MM-DD`; none for a partial date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iso: Option<String>,
    /// As written in the register.
    pub written: String,
}

/// A person entered in a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// 生年月日.
    pub birth_date: RegisterDate,
    /// 父.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub father: Option<String>,
    /// 母.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mother: Option<String>,
    /// 氏名.
    pub name: String,
    /// 振り仮名; there exactly when its status is not `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_kana: Option<String>,
    /// Where the reading comes from.
    pub name_kana_status: KanaStatus,
    /// The municipality's own reference of the person.
    pub reference: String,
    /// 続柄.
    pub relationship: String,
    /// Whether the person has been removed from this register.
    pub removed: bool,
}

/// A register at one revision. Nothing is checked: tests need copies that must be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// 筆頭に記載した者の氏名.
    pub first_entered_person: String,
    /// Kind of register.
    pub kind: RegisterKind,
    /// The municipality's own number of the register.
    pub local_number: String,
    /// When it was made.
    pub made_on: RegisterDate,
    /// What it is kept on.
    pub medium: Medium,
    /// The persons entered, in order.
    pub members: Vec<Member>,
    /// Code of the municipality that keeps it.
    pub municipality_code: String,
    /// 本籍.
    pub registered_domicile: String,
    /// When it was removed or closed; only for kinds other than `Current`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_on: Option<RegisterDate>,
    /// Counted by the municipality from 1.
    pub revision: u64,
    /// Whether a notification is being processed.
    pub state: MotionState,
}

impl Register {
    /// The line that a municipality sends, digest included, without the line's end.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_line(&self) -> Result<String, DataError> {
        let canonical = serde_json::to_string(self)?;
        let digest = canonical_digest(&canonical);
        let rest = canonical.strip_prefix('{').unwrap_or(&canonical);
        Ok(format!("{{\"digest\":\"{digest}\",{rest}"))
    }
}

/// The digest of a copy: SHA-256 of its canonical form without `digest`, in lower-case hexadecimal digits.
pub fn canonical_digest(canonical: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
}
