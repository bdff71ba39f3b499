//! Ingest: municipalities send register copies (clause 2.1). A municipality writes the codes that the policy lists for
//! it, and no others.

use std::sync::Arc;

use common::{
    authorisation::{Permit, permit},
    clock::Clock,
    identity::PeerIdentity,
    lines::{self, Intake, LineFault, Outcome, Results},
    policy::{Policies, Policy},
    refusal::{Reason, Refusal},
    terms::MunicipalityCode,
};
use koseki_proto::koseki::{
    common::v1::{FileLine, LineReason},
    ingest::v1::{RecordOwnNonProvisionRequest, RecordOwnNonProvisionResponse, ingest_server::Ingest},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    guard_wait::GuardWait,
    non_provision::NonProvisionRecord,
    register::{self, RegisterCopy},
    store::ProviderStore,
};

/// Serves `koseki.ingest.v1.Ingest`.
#[derive(Clone)]
pub struct IngestService {
    /// The store.
    pub store: Arc<dyn ProviderStore>,
    /// The policies that this side holds.
    pub policies: Arc<Policies>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Bounds the files that are loaded at the same time.
    pub intake: Intake,
    /// What a forbidding act waits for before it returns.
    pub guard_wait: GuardWait,
}

impl IngestService {
    async fn store(&self, sender: &PeerIdentity, batch: Vec<Vec<u8>>) -> Vec<Outcome> {
        let policy = self.policies.current();
        let parsed = batch.iter().map(|line| parse(&policy, sender, line)).collect();
        lines::store_parsed(parsed, |copies| {
            self.store.store_copies(copies, sender, self.clock.now())
        })
        .await
    }

    async fn record(
        &self,
        permit: &Permit,
        request: &RecordOwnNonProvisionRequest,
    ) -> Result<RecordOwnNonProvisionResponse, Refusal> {
        let now = self.clock.now();
        let record = NonProvisionRecord::parse_own(request, now)
            .map_err(|(field, rule)| Refusal::malformed(field, rule))?;
        let own = record.scope.register().map(|register| register.municipality_code);
        if !own.is_some_and(|code| may_write(&self.policies.current(), permit.peer(), code)) {
            return Err(Reason::NotOwnRegister.into());
        }
        let act_id = record.act_id;
        let epoch = self
            .store
            .record_non_provision(record, permit.peer(), now)
            .await?;
        self.guard_wait.forbade().await;
        tracing::info!(officer = %permit.peer(), %act_id, epoch = epoch.0, "a non-provision record was made");
        Ok(RecordOwnNonProvisionResponse { epoch: epoch.0 })
    }
}

fn may_write(policy: &Policy, sender: &PeerIdentity, code: MunicipalityCode) -> bool {
    sender
        .municipality()
        .is_some_and(|own| policy.may_write(own, code))
}

fn parse(policy: &Policy, sender: &PeerIdentity, line: &[u8]) -> Result<RegisterCopy, LineFault> {
    let copy = register::parse_line(line)?;
    if may_write(policy, sender, copy.key.municipality_code) {
        Ok(copy)
    } else {
        let rule = "a code that the policy lists for the sender";
        Err(LineFault::new(LineReason::NotAllowed, "municipality_code", rule))
    }
}

#[tonic::async_trait]
impl Ingest for IngestService {
    type SendCopiesStream = Results;

    async fn send_copies(&self, request: Request<Streaming<FileLine>>) -> Result<Response<Results>, Status> {
        let permit = permit(&request)?;
        let this = self.clone();
        let results = self.intake.take_in(request.into_inner(), move |batch| {
            let (this, permit) = (this.clone(), permit.clone());
            async move { this.store(permit.peer(), batch).await }
        })?;
        Ok(Response::new(results))
    }

    async fn record_own_non_provision(
        &self,
        request: Request<RecordOwnNonProvisionRequest>,
    ) -> Result<Response<RecordOwnNonProvisionResponse>, Status> {
        let permit = permit(&request)?;
        Ok(Response::new(self.record(&permit, request.get_ref()).await?))
    }
}
