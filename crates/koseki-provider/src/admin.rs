//! Administration of the registry side (clause 4.4.3): persons and linkages, non-provision records, suspension.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{
    authorisation::{Permit, permit},
    clock::Clock,
    lines::{self, Intake, Outcome, Results},
    policy::Policies,
    refusal::Refusal,
    suspension,
};
use koseki_proto::koseki::{
    admin::v1::{RecordNonProvisionRequest, RecordNonProvisionResponse, koseki_admin_server::KosekiAdmin},
    common::v1::{
        FileLine, LineOutcome, ResumeProvisionRequest, ResumeProvisionResponse, SuspendProvisionRequest,
        SuspendProvisionResponse,
    },
};
use tonic::{Request, Response, Status, Streaming};

use crate::{non_provision::NonProvisionRecord, persons, store::ProviderStore};

/// Serves `koseki.admin.v1.KosekiAdmin`.
#[derive(Clone)]
pub struct AdminService {
    /// The store.
    pub store: Arc<dyn ProviderStore>,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Bounds the files that are loaded at the same time.
    pub intake: Intake,
    last_forbidding: Arc<Mutex<Duration>>,
}

impl AdminService {
    /// The service on this store.
    pub fn new(store: Arc<dyn ProviderStore>, policies: Arc<Policies>, clock: Arc<dyn Clock>) -> Self {
        let last_forbidding = Arc::new(Mutex::new(clock.monotonic()));
        Self {
            store,
            policies,
            clock,
            intake: Intake::default(),
            last_forbidding,
        }
    }

    async fn load(&self, permit: &Permit, batch: Vec<Vec<u8>>) -> Vec<Outcome> {
        let parsed = batch.iter().map(|line| persons::parse_line(line)).collect();
        lines::store_parsed(parsed, |lines| async move {
            let loaded = self
                .store
                .store_persons(lines, permit.peer(), self.clock.now())
                .await?;
            // A line that changes nothing may repeat one whose result was lost: what that one forbade holds by now only
            // when its wait is over.
            if loaded.forbids || loaded.outcomes.contains(&Ok(LineOutcome::Unchanged)) {
                self.guard_wait(loaded.forbids).await;
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
        let record = NonProvisionRecord::parse(request, self.clock.now())
            .map_err(|(field, rule)| Refusal::malformed(field, rule))?;
        let act_id = record.act_id;
        let epoch = self
            .store
            .record_non_provision(record, permit.peer(), self.clock.now())
            .await?;
        self.guard_wait(true).await;
        tracing::info!(operator = %permit.peer(), %act_id, epoch = epoch.0, "a non-provision record was made");
        Ok(RecordNonProvisionResponse { epoch: epoch.0 })
    }

    /// A forbidding act returns only when no conforming gateway can release an earlier answer any more (I3): so long after
    /// the last one, the start of the process counting as one.
    async fn guard_wait(&self, forbids: bool) {
        let now = self.clock.monotonic();
        let last = match self.last_forbidding.lock() {
            Ok(mut last) => {
                if forbids {
                    *last = now;
                }
                *last
            }
            Err(_) => now,
        };
        let passed = now.saturating_sub(last);
        tokio::time::sleep(self.policies.guard_wait().saturating_sub(passed)).await;
    }
}

#[tonic::async_trait]
impl KosekiAdmin for AdminService {
    type LoadPersonsStream = Results;

    async fn load_persons(&self, request: Request<Streaming<FileLine>>) -> Result<Response<Results>, Status> {
        let permit = permit(&request)?;
        let this = self.clone();
        let results = self.intake.take_in(request.into_inner(), move |batch| {
            let (this, permit) = (this.clone(), permit.clone());
            async move { this.load(&permit, batch).await }
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
        self.guard_wait(true).await;
        Ok(Response::new(response))
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
