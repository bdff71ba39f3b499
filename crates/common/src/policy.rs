//! The provision policy: the one file that both sides load and compare by its hash (clause 5). It says which items a
//! kind and procedure give, and the bounds that both sides must agree on.

mod file;
mod policies;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use koseki_proto::koseki::common::v1::CopyInfoItem;
pub use policies::{Policies, Suits, Told};
use serde::Deserialize;

use crate::{
    clock::Timestamp,
    files::FileError,
    terms::{MunicipalityCode, Procedure, RegisterKind, RequestKind},
};

/// An item that can be provided: of each register, or of the requester's own entry in the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// 本籍.
    RegisteredDomicile,
    /// 筆頭に記載した者の氏名.
    FirstEnteredPerson,
    /// Code of the municipality that keeps the register.
    MunicipalityCode,
    /// The opaque handle of the register.
    RegisterHandle,
    /// The requester's own 氏名.
    RequesterName,
    /// The requester's own 振り仮名.
    RequesterNameKana,
    /// Where the requester's 振り仮名 comes from.
    RequesterNameKanaStatus,
    /// The requester's own 生年月日.
    RequesterBirthDate,
}

impl Item {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RegisteredDomicile,
        Self::FirstEnteredPerson,
        Self::MunicipalityCode,
        Self::RegisterHandle,
        Self::RequesterName,
        Self::RequesterNameKana,
        Self::RequesterNameKanaStatus,
        Self::RequesterBirthDate,
    ];

    /// Whether it is of the requester's own entry.
    pub fn is_of_requester(self) -> bool {
        match self {
            Self::RegisteredDomicile
            | Self::FirstEnteredPerson
            | Self::MunicipalityCode
            | Self::RegisterHandle => false,
            Self::RequesterName
            | Self::RequesterNameKana
            | Self::RequesterNameKanaStatus
            | Self::RequesterBirthDate => true,
        }
    }
}

impl From<Item> for CopyInfoItem {
    fn from(item: Item) -> Self {
        match item {
            Item::RegisteredDomicile => Self::RegisteredDomicile,
            Item::FirstEnteredPerson => Self::FirstEnteredPerson,
            Item::MunicipalityCode => Self::MunicipalityCode,
            Item::RegisterHandle => Self::RegisterHandle,
            Item::RequesterName => Self::RequesterName,
            Item::RequesterNameKana => Self::RequesterNameKana,
            Item::RequesterNameKanaStatus => Self::RequesterNameKanaStatus,
            Item::RequesterBirthDate => Self::RequesterBirthDate,
        }
    }
}

/// What a kind and procedure give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// Kinds of register besides the current one, which is always asked for.
    pub registers: BTreeSet<RegisterKind>,
    /// Items of each.
    pub items: BTreeSet<Item>,
}

/// A consent text in force.
#[derive(Debug, Clone)]
pub struct ConsentText {
    /// The kind that it is for.
    pub kind: RequestKind,
    /// `ja` or `en`.
    pub language: String,
    /// The text.
    pub text: String,
    /// SHA-256 of the text: what a consent keeps.
    pub sha256: [u8; 32],
}

/// Bounds of logins and sessions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginPolicy {
    /// Accepted certificate policies of cards (OIDs).
    pub certificate_policies: BTreeSet<String>,
    /// Seconds in which a login text can be used; at most 120.
    pub challenge_seconds: u64,
    /// Seconds after which a session ends.
    pub session_seconds: u64,
    /// Seconds without a call after which it ends.
    pub session_idle_seconds: u64,
    /// Hours after which a revocation list is too old to be believed.
    pub crl_max_age_hours: u64,
}

impl LoginPolicy {
    /// See [`Self::crl_max_age_hours`].
    pub fn crl_max_age(&self) -> Duration {
        Duration::from_secs(self.crl_max_age_hours.saturating_mul(3_600))
    }
}

/// Bounds of the exchange between the two sides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangePolicy {
    /// An answer older than this, from the sending of its batch, is withheld by the gateway; milliseconds.
    pub max_answer_age_ms: u64,
    /// A committed answer that is not handed to the transport within this is withheld; milliseconds.
    pub max_hand_off_ms: u64,
    /// A register refusal is sent this long after the request came in; milliseconds; at least `forward_deadline_ms`.
    pub refusal_after_ms: u64,
    /// Deadline of a forwarded call; milliseconds.
    pub forward_deadline_ms: u64,
    /// Difference of the two sides' clocks at most; milliseconds.
    pub max_clock_skew_ms: u64,
    /// How long an eligibility is fresh, beyond the skew; milliseconds.
    pub eligibility_fresh_ms: u64,
    /// A suppression feed that is older than this is not believed, and nothing is provided; milliseconds; at least 2,000.
    pub suppression_max_age_ms: u64,
    /// A side whose audit log the other side has not countersigned for longer than this provides nothing; milliseconds; at least
    /// 2,000.
    pub max_unwitnessed_age_ms: u64,
}

impl ExchangePolicy {
    /// How long a forbidding act at the provider waits after its commit, so that no conforming gateway releases an
    /// earlier answer after it has returned (DESIGN §4).
    pub fn guard_wait(&self) -> Duration {
        Duration::from_millis(self.max_answer_age_ms + self.max_hand_off_ms)
    }

    /// See [`Self::max_answer_age_ms`].
    pub fn max_answer_age(&self) -> Duration {
        Duration::from_millis(self.max_answer_age_ms)
    }

    /// See [`Self::max_hand_off_ms`].
    pub fn max_hand_off(&self) -> Duration {
        Duration::from_millis(self.max_hand_off_ms)
    }

    /// See [`Self::refusal_after_ms`].
    pub fn refusal_after(&self) -> Duration {
        Duration::from_millis(self.refusal_after_ms)
    }

    /// See [`Self::forward_deadline_ms`].
    pub fn forward_deadline(&self) -> Duration {
        Duration::from_millis(self.forward_deadline_ms)
    }

    /// See [`Self::max_clock_skew_ms`].
    pub fn max_clock_skew(&self) -> Duration {
        Duration::from_millis(self.max_clock_skew_ms)
    }

    /// See [`Self::suppression_max_age_ms`].
    pub fn suppression_max_age(&self) -> Duration {
        Duration::from_millis(self.suppression_max_age_ms)
    }

    /// See [`Self::max_unwitnessed_age_ms`].
    pub fn max_unwitnessed_age(&self) -> Duration {
        Duration::from_millis(self.max_unwitnessed_age_ms)
    }

    /// How often the registry side says that nothing has changed: several may be lost before the feed is too old.
    pub fn suppression_heartbeat(&self) -> Duration {
        self.suppression_max_age() / 10
    }

    /// How old an eligibility may be.
    pub fn eligibility_age(&self) -> Duration {
        Duration::from_millis(self.eligibility_fresh_ms + self.max_clock_skew_ms)
    }
}

/// How long records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Years for which audit records are kept; 1 to 50.
    pub audit_years: u32,
    /// Days for which a session is kept after its end; 1 to 400.
    pub session_days: u32,
    /// Years for which a consent is kept after the moment until which it was given; 1 to 50.
    pub consent_years: u32,
}

impl RetentionPolicy {
    /// See [`Self::audit_years`]: each year with its leap day, so that nothing goes early.
    pub fn records(self) -> Duration {
        Duration::from_secs(u64::from(self.audit_years) * 366 * 24 * 3_600)
    }

    /// See [`Self::session_days`].
    pub fn sessions(self) -> Duration {
        Duration::from_secs(u64::from(self.session_days) * 24 * 3_600)
    }

    /// See [`Self::consent_years`], counted as [`Self::records`].
    pub fn consents(self) -> Duration {
        Duration::from_secs(u64::from(self.consent_years) * 366 * 24 * 3_600)
    }
}

/// How long what was once confirmed counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshnessPolicy {
    /// Days for which an ACTIVE linkage counts without having been confirmed; 1 to 400.
    pub linkage_confirmed_days: u32,
}

impl FreshnessPolicy {
    /// See [`Self::linkage_confirmed_days`].
    pub fn linkage_confirmed(self) -> Duration {
        Duration::from_secs(u64::from(self.linkage_confirmed_days) * 24 * 3_600)
    }
}

/// Bounds of what takes two persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalPolicy {
    /// Hours in which a second person can confirm what a first one proposes; 1 to 168.
    pub proposal_hours: u32,
    /// Hours in which a second person has to confirm an act that was in force at once; 1 to 168.
    pub confirmation_hours: u32,
}

impl ApprovalPolicy {
    /// See [`Self::proposal_hours`].
    pub fn proposal(self) -> Duration {
        Duration::from_secs(u64::from(self.proposal_hours) * 3_600)
    }

    /// See [`Self::confirmation_hours`].
    pub fn confirmation(self) -> Duration {
        Duration::from_secs(u64::from(self.confirmation_hours) * 3_600)
    }
}

/// A provision policy.
#[derive(Debug)]
pub struct Policy {
    /// SHA-256 of the file: what the two sides compare. Texts are in it by their hash.
    pub sha256: [u8; 32],
    /// From when on it is in force.
    pub effective_at: Timestamp,
    /// Consent texts in force.
    pub consent_texts: Vec<ConsentText>,
    /// Days until which a consent may hold at most.
    pub consent_max_days: u64,
    /// Bounds of logins and sessions.
    pub login: LoginPolicy,
    /// Bounds of the exchange.
    pub exchange: ExchangePolicy,
    /// How long records are kept.
    pub retention: RetentionPolicy,
    /// How long what was once confirmed counts.
    pub freshness: FreshnessPolicy,
    /// Bounds of what takes two persons.
    pub approvals: ApprovalPolicy,
    provisions: BTreeMap<(RequestKind, Procedure), Provision>,
    municipalities: BTreeMap<MunicipalityCode, BTreeSet<MunicipalityCode>>,
}

impl Policy {
    /// Reads and checks the policy and the consent texts that it names, beside it.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        file::load(path)
    }

    /// What a kind and procedure give; `None` when the policy does not have them.
    pub fn provision(&self, kind: RequestKind, procedure: &Procedure) -> Option<&Provision> {
        self.provisions.get(&(kind, procedure.clone()))
    }

    /// Hashes of the consent texts in force for a kind.
    pub fn text_hashes(&self, kind: RequestKind) -> impl Iterator<Item = &[u8; 32]> {
        self.consent_texts
            .iter()
            .filter(move |text| text.kind == kind)
            .map(|text| &text.sha256)
    }

    /// Whether a municipality may write copies for `code`. One that is not listed writes nothing, not even its own.
    pub fn may_write(&self, municipality: MunicipalityCode, code: MunicipalityCode) -> bool {
        self.municipalities
            .get(&municipality)
            .is_some_and(|codes| codes.contains(&code))
    }
}
