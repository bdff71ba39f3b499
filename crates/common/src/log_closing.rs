//! Closing a log, the same on both sides: it takes one operator, acts at once, and is never undone. An instance whose log is
//! closed is followed by one with a new name.

use koseki_proto::koseki::common::v1::{
    CloseLogRequest, CloseLogResponse, ClosePeerLogRequest, ClosePeerLogResponse,
};

use crate::{
    authorisation::Permit,
    clock::Timestamp,
    digest,
    identity::is_segment,
    refusal::Refusal,
    store::SideStore,
    suspension::parse_reason,
    terms::{ActId, RuleBroken},
    witness::Witnessing,
};

/// An act that closes the log of the instance that it is done at.
#[derive(Debug)]
pub struct CloseLog {
    /// Its id.
    pub act_id: ActId,
    /// Why, for the audit log.
    pub reason: String,
}

impl CloseLog {
    /// Digest of what the act says: the same id with another digest is another act.
    pub(crate) fn content(&self, log: &str) -> [u8; 32] {
        digest::sha256(&[b"close log", log.as_bytes(), b"\0", self.reason.as_bytes()])
    }
}

/// An act that closes a log of the other side here.
#[derive(Debug)]
pub struct ClosePeerLog {
    /// Its id.
    pub act_id: ActId,
    /// The log's origin.
    pub origin: String,
    /// Why, for the audit log.
    pub reason: String,
}

impl ClosePeerLog {
    /// Digest of what the act says: the same id with another digest is another act.
    pub(crate) fn content(&self) -> [u8; 32] {
        let origin = self.origin.as_bytes();
        digest::sha256(&[b"close peer log", origin, b"\0", self.reason.as_bytes()])
    }
}

/// Serves `CloseLog`.
pub async fn close_log(
    store: &dyn SideStore,
    permit: &Permit,
    request: CloseLogRequest,
    now: Timestamp,
) -> Result<CloseLogResponse, Refusal> {
    let act = CloseLog {
        act_id: ActId::parse(&request.act_id).map_err(|rule| Refusal::malformed("act_id", rule))?,
        reason: parse_reason(&request.reason).map_err(|rule| Refusal::malformed("reason", rule))?,
    };
    let epoch = store.database().close_log(act, permit.peer(), now).await?;
    tracing::warn!(operator = %permit.peer(), epoch = epoch.0, "this instance's audit log was closed");
    Ok(CloseLogResponse { epoch: epoch.0 })
}

/// Serves `ClosePeerLog`.
pub async fn close_peer_log(
    store: &dyn SideStore,
    witnessing: &Witnessing,
    permit: &Permit,
    request: ClosePeerLogRequest,
    now: Timestamp,
) -> Result<ClosePeerLogResponse, Refusal> {
    if !is_segment(&request.instance) || request.instance.len() > 128 {
        let rule = RuleBroken("1 to 128 letters, digits, '.', '-' and '_', as an instance is named");
        return Err(Refusal::malformed("instance", rule));
    }
    let act = ClosePeerLog {
        act_id: ActId::parse(&request.act_id).map_err(|rule| Refusal::malformed("act_id", rule))?,
        origin: witnessing.peer_origin(&request.instance),
        reason: parse_reason(&request.reason).map_err(|rule| Refusal::malformed("reason", rule))?,
    };
    let origin = act.origin.clone();
    let epoch = store.database().close_peer_log(act, permit.peer(), now).await?;
    witnessing.peer_was_closed(&origin);
    tracing::warn!(operator = %permit.peer(), log = origin, "a log of the other side was closed");
    Ok(ClosePeerLogResponse { epoch: epoch.0 })
}
