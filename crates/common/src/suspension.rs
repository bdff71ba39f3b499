//! Suspending provision (clause 3.3), the same on both sides: it takes one operator and acts at once. Resuming takes two:
//! [`crate::approval`].

use std::collections::BTreeSet;

use koseki_proto::koseki::common::v1::{SuspendProvisionRequest, SuspendProvisionResponse};

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
    let epoch = store.database().suspend(act, permit.peer(), now).await?;
    tracing::warn!(operator = %permit.peer(), epoch = epoch.0, "provision was suspended");
    Ok(SuspendProvisionResponse { epoch: epoch.0 })
}
