//! Administration of the portal side (clause 4.4.3): linkages, blocks, suspension.

use std::sync::Arc;

use common::{
    authorisation::{Permit, permit},
    clock::Clock,
    lines::{self, Intake, Outcome, Results},
    refusal::Refusal,
    suspension,
    terms::{ActId, RuleBroken},
};
use koseki_proto::{
    koseki::common::v1::{
        FileLine, ResumeProvisionRequest, ResumeProvisionResponse, SuspendProvisionRequest,
        SuspendProvisionResponse,
    },
    portal::admin::v1::{SetBlockRequest, SetBlockResponse, portal_admin_server::PortalAdmin},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    linkage,
    store::{Block, GatewayStore},
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
}

impl AdminService {
    async fn load(&self, permit: &Permit, batch: Vec<Vec<u8>>) -> Vec<Outcome> {
        let parsed = batch.iter().map(|line| linkage::parse_line(line)).collect();
        lines::store_parsed(parsed, |lines| {
            self.store.store_linkages(lines, permit.peer(), self.clock.now())
        })
        .await
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
        request: Request<Streaming<FileLine>>,
    ) -> Result<Response<Results>, Status> {
        let permit = permit(&request)?;
        let this = self.clone();
        let results = self.intake.take_in(request.into_inner(), move |batch| {
            let (this, permit) = (this.clone(), permit.clone());
            async move { this.load(&permit, batch).await }
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

    async fn resume_provision(
        &self,
        request: Request<ResumeProvisionRequest>,
    ) -> Result<Response<ResumeProvisionResponse>, Status> {
        let permit = permit(&request)?;
        let now = self.clock.now();
        Ok(Response::new(
            suspension::resume(self.store.side(), &permit, request.into_inner(), now).await?,
        ))
    }
}
