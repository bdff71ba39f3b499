//! Administration of the portal side (clause 4.4.3): linkages, blocks, suspension, approvals, and what operators look at.

use std::sync::Arc;

use common::{
    approval,
    authorisation::{Permit, permit},
    clock::Clock,
    lines::{self, Intake, LoadStart, Outcome, Results},
    log_closing,
    policy::Policies,
    refusal::{Reason, Refusal},
    status::StatusBoard,
    suspension,
    terms::{ActId, RuleBroken},
    witness::Witnessing,
};
use koseki_proto::{
    koseki::common::v1::{
        ApproveRequest, ApproveResponse, CloseLogRequest, CloseLogResponse, ClosePeerLogRequest,
        ClosePeerLogResponse, ConfirmRequest, ConfirmResponse, ListPendingRequest, ListPendingResponse,
        LoadMessage, ProposeRequest, ProposeResponse, SuspendProvisionRequest, SuspendProvisionResponse,
    },
    portal::admin::v1::{
        GetStatusRequest, GetStatusResponse, SetBlockRequest, SetBlockResponse, SuppressionFeedStatus,
        portal_admin_server::PortalAdmin,
    },
};
use tokio::sync::RwLock;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    linkage,
    providers::Providers,
    store::{Block, GatewayStore},
    suppression::Replica,
};

/// Serves `portal.admin.v1.PortalAdmin`.
#[derive(Clone)]
pub struct AdminService {
    /// The store.
    pub store: Arc<dyn GatewayStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Bounds the files that are loaded at the same time.
    pub intake: Intake,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// What both sides tell of themselves.
    pub board: Arc<StatusBoard>,
    /// The lines to the registry side.
    pub providers: Arc<Providers>,
    /// The suppression feed.
    pub suppressions: Arc<Replica>,
    /// Countersigns the providers' logs.
    pub witnessing: Arc<Witnessing>,
    /// The batches that are on their way: [`crate::provision::Provision::in_flight`].
    pub in_flight: Arc<RwLock<()>>,
}

impl AdminService {
    async fn load(&self, start: LoadStart, permit: &Permit, batch: Vec<Vec<u8>>) -> Vec<Outcome> {
        let parsed = batch.iter().map(|line| linkage::parse_line(line)).collect();
        lines::store_parsed(parsed, |lines| {
            self.store
                .store_linkages(start, lines, permit.peer(), self.clock.now())
        })
        .await
    }

    async fn status(&self) -> Result<GetStatusResponse, Refusal> {
        let board = self.board.status(self.store.side().database()).await;
        Ok(GetStatusResponse {
            side: Some(board.map_err(Reason::from)?),
            providers: self.providers.seen(),
            suppression_feed: self
                .suppressions
                .told()
                .map(|(sequence, age)| SuppressionFeedStatus {
                    sequence,
                    age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                }),
        })
    }

    async fn block(&self, permit: &Permit, request: SetBlockRequest) -> Result<SetBlockResponse, Refusal> {
        let block = Block {
            act_id: ActId::parse(&request.act_id).map_err(|rule| Refusal::malformed("act_id", rule))?,
            card_key_sha256: request
                .card_key_sha256
                .try_into()
                .map_err(|_| Refusal::malformed("card_key_sha256", RuleBroken("32 bytes")))?,
            reason: suspension::parse_reason(&request.reason)
                .map_err(|rule| Refusal::malformed("reason", rule))?,
        };
        let act_id = block.act_id;
        let epoch = self
            .store
            .set_block(block, permit.peer(), self.clock.now())
            .await?;
        tracing::info!(operator = %permit.peer(), %act_id, epoch = epoch.0, "a block is in force");
        Ok(SetBlockResponse { epoch: epoch.0 })
    }
}

#[tonic::async_trait]
impl PortalAdmin for AdminService {
    type LoadLinkagesStream = Results;

    async fn load_linkages(
        &self,
        request: Request<Streaming<LoadMessage>>,
    ) -> Result<Response<Results>, Status> {
        let permit = permit(&request)?;
        let this = self.clone();
        let (start, incoming) = lines::start_load(request.into_inner()).await?;
        let database = self.store.side().database();
        let free = database.check_load_id(start.load_id, permit.peer()).await;
        free.map_err(Refusal::from)?;
        let results = self.intake.take_in(incoming, move |batch| {
            let (this, permit) = (this.clone(), permit.clone());
            async move { this.load(start, &permit, batch).await }
        })?;
        Ok(Response::new(results))
    }

    async fn set_block(
        &self,
        request: Request<SetBlockRequest>,
    ) -> Result<Response<SetBlockResponse>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.block(&permit, request.into_inner()).await?))
    }

    async fn suspend_provision(
        &self,
        request: Request<SuspendProvisionRequest>,
    ) -> Result<Response<SuspendProvisionResponse>, Status> {
        let permit = permit(&request)?;
        let now = self.clock.now();
        Ok(Response::new(
            suspension::suspend(self.store.side(), &permit, request.into_inner(), now).await?,
        ))
    }

    async fn close_log(
        &self,
        request: Request<CloseLogRequest>,
    ) -> Result<Response<CloseLogResponse>, Status> {
        let permit = permit(&request)?;
        // What the registry side has answered is recorded first: afterwards it could not be any more.
        let _none = self.in_flight.write().await;
        let now = self.clock.now();
        let closed = log_closing::close_log(self.store.side(), &permit, request.into_inner(), now);
        Ok(Response::new(closed.await?))
    }

    async fn close_peer_log(
        &self,
        request: Request<ClosePeerLogRequest>,
    ) -> Result<Response<ClosePeerLogResponse>, Status> {
        let permit = permit(&request)?;
        let (now, witnessing) = (self.clock.now(), &self.witnessing);
        let closed =
            log_closing::close_peer_log(self.store.side(), witnessing, &permit, request.into_inner(), now);
        Ok(Response::new(closed.await?))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let permit = permit(&request)?;
        let (now, policy) = (self.clock.now(), self.policies.current());
        let proposed = approval::propose(self.store.side(), &permit, request.into_inner(), &policy, now);
        Ok(Response::new(proposed.await?))
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Result<Response<ApproveResponse>, Status> {
        let permit = permit(&request)?;
        let now = self.clock.now();
        let approved = approval::approve(self.store.side(), &permit, request.into_inner(), now);
        Ok(Response::new(approved.await?))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let permit = permit(&request)?;
        let now = self.clock.now();
        let confirmed = approval::confirm(self.store.side(), &permit, request.into_inner(), now);
        Ok(Response::new(confirmed.await?))
    }

    async fn list_pending(
        &self,
        request: Request<ListPendingRequest>,
    ) -> Result<Response<ListPendingResponse>, Status> {
        permit(&request)?;
        let bounds = self.policies.current().approvals;
        let pending = approval::list_pending(self.store.side(), bounds, self.clock.now());
        Ok(Response::new(pending.await?))
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        permit(&request)?;
        Ok(Response::new(self.status().await?))
    }
}
