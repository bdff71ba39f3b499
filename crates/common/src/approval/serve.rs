//! What both admin listeners serve of approvals.

use koseki_proto::koseki::common::v1::{
    ApproveRequest, ApproveResponse, ConfirmRequest, ConfirmResponse, ListPendingResponse, ProposeRequest,
    ProposeResponse,
};

use super::{Opening, pending};
use crate::{
    authorisation::Permit,
    clock::Timestamp,
    policy::{ApprovalPolicy, Policy},
    refusal::{Reason, Refusal},
    store::SideStore,
    suspension::parse_reason,
    terms::{ActId, RuleBroken},
};

fn parse_id(field: &'static str, text: &str) -> Result<ActId, Refusal> {
    ActId::parse(text).map_err(|rule| Refusal::malformed(field, rule))
}

/// Serves `Propose`.
pub async fn propose(
    store: &dyn SideStore,
    permit: &Permit,
    request: ProposeRequest,
    policy: &Policy,
    now: Timestamp,
) -> Result<ProposeResponse, Refusal> {
    let act = request.act.unwrap_or_default();
    let proposal = pending::Proposal {
        id: parse_id("proposal_id", &request.proposal_id)?,
        opening: Opening::parse(&act).map_err(|(field, rule)| Refusal::malformed(field, rule))?,
        reason: parse_reason(&request.reason).map_err(|rule| Refusal::malformed("reason", rule))?,
    };
    let (id, name, act_sha256) = (proposal.id, proposal.opening.name(), proposal.opening.sha256());
    if let Opening::ArchiveLog(log, before) = &proposal.opening {
        let kept = policy.retention.records();
        store.database().check_archivable(log, *before, kept, now).await?;
    }
    let expires_at = pending::propose(store, proposal, permit.peer(), policy.approvals, now).await?;
    tracing::warn!(operator = %permit.peer(), proposal = %id, act = name, "an opening was proposed");
    Ok(ProposeResponse {
        act_sha256: act_sha256.to_vec(),
        expires_at: Some(expires_at.to_proto()),
    })
}

/// Serves `Approve`.
pub async fn approve(
    store: &dyn SideStore,
    permit: &Permit,
    request: ApproveRequest,
    now: Timestamp,
) -> Result<ApproveResponse, Refusal> {
    let id = parse_id("proposal_id", &request.proposal_id)?;
    let act_sha256 = request
        .act_sha256
        .try_into()
        .map_err(|_| Refusal::malformed("act_sha256", RuleBroken("32 bytes")))?;
    let epoch = pending::approve(store, id, act_sha256, permit.peer(), now).await?;
    tracing::warn!(operator = %permit.peer(), proposal = %id, epoch = epoch.0, "an opening was approved and done");
    Ok(ApproveResponse { epoch: epoch.0 })
}

/// Serves `Confirm`.
pub async fn confirm(
    store: &dyn SideStore,
    permit: &Permit,
    request: ConfirmRequest,
    now: Timestamp,
) -> Result<ConfirmResponse, Refusal> {
    let id = parse_id("act_id", &request.act_id)?;
    pending::confirm(store.database(), id, permit.peer(), now).await?;
    tracing::info!(operator = %permit.peer(), act = %id, "a closing was confirmed");
    Ok(ConfirmResponse {})
}

/// Serves `ListPending`.
pub async fn list_pending(
    store: &dyn SideStore,
    bounds: ApprovalPolicy,
    now: Timestamp,
) -> Result<ListPendingResponse, Refusal> {
    let pending = pending::pending(store.database(), bounds, now).await;
    Ok(pending.map_err(Reason::from)?)
}
