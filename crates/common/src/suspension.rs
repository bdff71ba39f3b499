//! Suspending and resuming provision (clause 3.3): closing takes one operator and acts at once, opening takes two. The
//! same on both sides.

use std::{collections::BTreeSet, time::Duration};

use koseki_proto::koseki::common::v1::{
    ResumeProvisionRequest, ResumeProvisionResponse, SuspendProvisionRequest, SuspendProvisionResponse,
};

pub use koseki_proto::koseki::common::v1::ResumeState;

use crate::{
    authorisation::Permit,
    clock::Timestamp,
    digest,
    refusal::Refusal,
    store::SideStore,
    terms::{ActId, RequestKind, RuleBroken},
};

/// The kinds whose provision is suspended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspensions {
    all: bool,
    kinds: BTreeSet<RequestKind>,
}

impl Suspensions {
    /// Adds a kind, or all of them.
    pub fn add(&mut self, kind: Option<RequestKind>) {
        match kind {
            Some(kind) => {
                self.kinds.insert(kind);
            }
            None => self.all = true,
        }
    }

    /// Whether a kind is suspended.
    pub fn covers(&self, kind: RequestKind) -> bool {
        self.all || self.kinds.contains(&kind)
    }
}

/// An act that suspends a kind, or all kinds.
#[derive(Debug)]
pub struct Suspend {
    /// Its id.
    pub act_id: ActId,
    /// The kind; `None` for all.
    pub kind: Option<RequestKind>,
    /// Why, for the audit log.
    pub reason: String,
}

impl Suspend {
    /// Digest of what the act says: the same id with another digest is another act.
    pub(crate) fn content(&self) -> [u8; 32] {
        digest::sha256(&[b"suspend", &kind_bytes(self.kind), self.reason.as_bytes()])
    }
}

fn kind_bytes(kind: Option<RequestKind>) -> [u8; 4] {
    kind.map_or(0, |kind| i32::from(kind.to_proto())).to_be_bytes()
}

/// An operator's wish to lift a suspension.
#[derive(Debug)]
pub struct Resume {
    /// Its id.
    pub act_id: ActId,
    /// Which suspension; `None` for the one of all kinds.
    pub kind: Option<RequestKind>,
}

impl Resume {
    /// How long the first operator's wish waits for the second's.
    pub const PROPOSAL_HOLDS: Duration = Duration::from_secs(600);

    /// Digest of what the act says about the suspension of this epoch.
    pub(crate) fn content(&self, suspended: i64) -> [u8; 32] {
        digest::sha256(&[b"resume", &kind_bytes(self.kind), &suspended.to_be_bytes()])
    }
}

/// Takes an operator's words for the audit log.
pub fn parse_reason(text: &str) -> Result<String, RuleBroken> {
    if (1..=256).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(RuleBroken("1 to 256 bytes without control characters"))
    }
}

/// Serves `SuspendProvision`.
pub async fn suspend(
    store: &dyn SideStore,
    permit: &Permit,
    request: SuspendProvisionRequest,
    now: Timestamp,
) -> Result<SuspendProvisionResponse, Refusal> {
    let act = Suspend {
        act_id: ActId::parse(&request.act_id).map_err(|rule| Refusal::malformed("act_id", rule))?,
        kind: RequestKind::parse_or_all(request.kind).map_err(|rule| Refusal::malformed("kind", rule))?,
        reason: parse_reason(&request.reason).map_err(|rule| Refusal::malformed("reason", rule))?,
    };
    let epoch = store.suspend(act, permit.peer(), now).await?;
    tracing::warn!(operator = %permit.peer(), epoch = epoch.0, "provision was suspended");
    Ok(SuspendProvisionResponse { epoch: epoch.0 })
}

/// Serves `ResumeProvision`.
pub async fn resume(
    store: &dyn SideStore,
    permit: &Permit,
    request: ResumeProvisionRequest,
    now: Timestamp,
) -> Result<ResumeProvisionResponse, Refusal> {
    let act = Resume {
        act_id: ActId::parse(&request.act_id).map_err(|rule| Refusal::malformed("act_id", rule))?,
        kind: RequestKind::parse_or_all(request.kind).map_err(|rule| Refusal::malformed("kind", rule))?,
    };
    let state = store.resume(act, permit.peer(), now).await?;
    tracing::warn!(operator = %permit.peer(), state = state.as_str_name(), "resumption of provision was asked for");
    Ok(ResumeProvisionResponse { state: state.into() })
}
