//! Administration of the registry side (clause 4.4.3): persons and linkages, non-provision records, suspension, approvals,
//! and what operators look at.

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
    terms::RuleBroken,
    witness::Witnessing,
};
use koseki_proto::koseki::{
    admin::v1::{
        GetStatusRequest, GetStatusResponse, ListMunicipalitiesRequest, ListMunicipalitiesResponse,
        ListNonProvisionRequest, ListNonProvisionResponse, RecordNonProvisionRequest,
        RecordNonProvisionResponse, koseki_admin_server::KosekiAdmin,
    },
    common::v1::{
        ApproveRequest, ApproveResponse, CloseLogRequest, CloseLogResponse, ClosePeerLogRequest,
        ClosePeerLogResponse, ConfirmRequest, ConfirmResponse, LineOutcome, ListPendingRequest,
        ListPendingResponse, LoadMessage, ProposeRequest, ProposeResponse, SuspendProvisionRequest,
        SuspendProvisionResponse,
    },
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    gateways::GatewaysSeen,
    guard_wait::GuardWait,
    non_provision::{Malformed, Named, NonProvisionRecord},
    persons,
    store::ProviderStore,
};

/// Serves `koseki.admin.v1.KosekiAdmin`.
#[derive(Clone)]
pub struct AdminService {
    /// The store.
    pub store: Arc<dyn ProviderStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Bounds the files that are loaded at the same time.
    pub intake: Intake,
    /// What a forbidding act waits for before it returns.
    pub guard_wait: GuardWait,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// What both sides tell of themselves.
    pub board: Arc<StatusBoard>,
    /// The gateways that were here.
    pub gateways: GatewaysSeen,
    /// Countersigns the gateways' logs.
    pub witnessing: Arc<Witnessing>,
}

fn malformed((field, rule): Malformed) -> Refusal {
    Refusal::malformed(field, rule)
}

impl AdminService {
    async fn load(&self, start: LoadStart, permit: &Permit, batch: Vec<Vec<u8>>) -> Vec<Outcome> {
        let parsed = batch.iter().map(|line| persons::parse_line(line)).collect();
        lines::store_parsed(parsed, |lines| async move {
            let loaded = self
                .store
                .store_persons(start, lines, permit.peer(), self.clock.now())
                .await?;
            if loaded.forbids {
                self.guard_wait.forbade().await;
            } else if loaded.outcomes.contains(&Ok(LineOutcome::Unchanged)) {
                // A line that changes nothing may repeat one whose result was lost: what that one forbade holds by now only
                // when its wait is over.
                self.guard_wait.settled(loaded.epoch).await;
            }
            Ok(loaded.outcomes)
        })
        .await
    }

    async fn record(
        &self,
        permit: &Permit,
        request: &RecordNonProvisionRequest,
    ) -> Result<RecordNonProvisionResponse, Refusal> {
        let now = self.clock.now();
        let record = NonProvisionRecord::parse(request, now).map_err(malformed)?;
        let act_id = record.act_id;
        let epoch = self
            .store
            .record_non_provision(record, permit.peer(), now)
            .await?;
        self.guard_wait.forbade().await;
        tracing::info!(operator = %permit.peer(), %act_id, epoch = epoch.0, "a non-provision record was made");
        Ok(RecordNonProvisionResponse { epoch: epoch.0 })
    }

    async fn list(
        &self,
        permit: &Permit,
        request: &ListNonProvisionRequest,
    ) -> Result<ListNonProvisionResponse, Refusal> {
        let named = Named::parse(&request.person_id, request.register.as_ref()).map_err(malformed)?;
        // Whoever asks says about whom: the list of all would tell who is protected, to no end.
        if named.person.is_none() && named.register.is_none() {
            return Err(Refusal::malformed(
                "person_id",
                RuleBroken("a person, a register, or both"),
            ));
        }
        let records = self
            .store
            .list_non_provision(named, permit.peer(), self.clock.now())
            .await;
        Ok(ListNonProvisionResponse {
            records: records.map_err(Reason::from)?,
        })
    }

    async fn status(&self) -> Result<GetStatusResponse, Refusal> {
        let database = self.store.side().database();
        let oldest = self.store.oldest_copy().await.map_err(Reason::from)?;
        Ok(GetStatusResponse {
            side: Some(self.board.status(database).await.map_err(Reason::from)?),
            oldest_copy_received_at: oldest.map(|at| at.to_proto()),
            gateways: self.gateways.list(),
        })
    }
}

#[tonic::async_trait]
impl KosekiAdmin for AdminService {
    type LoadPersonsStream = Results;

    async fn load_persons(
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

    async fn record_non_provision(
        &self,
        request: Request<RecordNonProvisionRequest>,
    ) -> Result<Response<RecordNonProvisionResponse>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.record(&permit, request.get_ref()).await?))
    }

    async fn suspend_provision(
        &self,
        request: Request<SuspendProvisionRequest>,
    ) -> Result<Response<SuspendProvisionResponse>, Status> {
        let permit = permit(&request)?;
        let now = self.clock.now();
        let response = suspension::suspend(self.store.side(), &permit, request.into_inner(), now).await?;
        self.guard_wait.forbade().await;
        Ok(Response::new(response))
    }

    async fn close_log(
        &self,
        request: Request<CloseLogRequest>,
    ) -> Result<Response<CloseLogResponse>, Status> {
        let permit = permit(&request)?;
        let now = self.clock.now();
        let closed = log_closing::close_log(self.store.side(), &permit, request.into_inner(), now).await?;
        self.guard_wait.forbade().await;
        Ok(Response::new(closed))
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

    async fn list_non_provision(
        &self,
        request: Request<ListNonProvisionRequest>,
    ) -> Result<Response<ListNonProvisionResponse>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.list(&permit, request.get_ref()).await?))
    }

    async fn list_municipalities(
        &self,
        request: Request<ListMunicipalitiesRequest>,
    ) -> Result<Response<ListMunicipalitiesResponse>, Status> {
        permit(&request)?;
        let municipalities = self
            .store
            .municipalities()
            .await
            .map_err(|error| Refusal::new(Reason::from(error)))?;
        Ok(Response::new(ListMunicipalitiesResponse { municipalities }))
    }

    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        permit(&request)?;
        Ok(Response::new(self.status().await?))
    }
}
