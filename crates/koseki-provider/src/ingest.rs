//! Ingest: municipalities send register copies (clause 2.1). A municipality writes the codes that the policy lists for
//! it, and no others.

use std::sync::Arc;

use common::{
    authorisation::permit,
    clock::Clock,
    identity::PeerIdentity,
    lines::{self, Intake, LineFault, Outcome, Results},
    policy::{Policies, Policy},
};
use koseki_proto::koseki::{
    common::v1::{FileLine, LineReason},
    ingest::v1::ingest_server::Ingest,
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
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
}

fn parse(policy: &Policy, sender: &PeerIdentity, line: &[u8]) -> Result<RegisterCopy, LineFault> {
    let copy = register::parse_line(line)?;
    let allowed = sender
        .municipality()
        .is_some_and(|own| policy.may_write(own, copy.key.municipality_code));
    if allowed {
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
}
