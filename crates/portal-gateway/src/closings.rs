//! What requesters close themselves: what has queued up is closed together, behind the gate once.

use std::sync::Arc;

use common::{
    batch::{BatchError, BatchLimits, BatchMeter, Batcher},
    clock::Clock,
    policy::Policies,
    refusal::{Reason, Refusal},
    store::{one_by_one_if_it_fails, part as part_of},
    terms::ActId,
};

use crate::{
    call::PortalCall,
    login::token_sha256,
    requester::{refusal, session_bounds},
    store::{Closing, GatewayStore, RequesterClosing},
};

/// Closes for requesters.
#[derive(Clone)]
pub struct Closings(Batcher<RequesterClosing, Result<(), Refusal>>);

impl Closings {
    /// Starts the queue.
    pub fn start(
        store: Arc<dyn GatewayStore>,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
        limits: BatchLimits,
        meter: BatchMeter,
    ) -> Self {
        Self(Batcher::start(
            limits,
            1,
            meter,
            move |asked: Vec<RequesterClosing>| {
                let (store, policies, clock) = (store.clone(), policies.clone(), clock.clone());
                async move {
                    let bounds = session_bounds(&policies);
                    let (store, clock, all) = (&*store, &*clock, asked.as_slice());
                    let outcomes = one_by_one_if_it_fails(asked.len(), |part| async move {
                        store.close(part_of(all, part)?, bounds, clock.now()).await
                    })
                    .await;
                    let outcome = |outcome: Result<Result<(), _>, Reason>| match outcome {
                        Ok(closed) => closed.map_err(refusal),
                        Err(reason) => Err(reason.into()),
                    };
                    outcomes.into_iter().map(outcome).collect()
                }
            },
        ))
    }

    /// Ends a session: in force when this returns. The card is not looked at: closing is never refused for it.
    pub async fn logout(&self, call: PortalCall, token: &[u8]) -> Result<(), Refusal> {
        self.close(Closing::Session, token, call).await
    }

    /// Withdraws a consent: in force when this returns.
    pub async fn withdraw(&self, call: PortalCall, token: &[u8], consent_id: &str) -> Result<(), Refusal> {
        let consent = ActId::parse(consent_id).map_err(|rule| Refusal::malformed("consent_id", rule))?;
        self.close(Closing::Consent(consent), token, call).await
    }

    async fn close(&self, closing: Closing, token: &[u8], call: PortalCall) -> Result<(), Refusal> {
        let asked = RequesterClosing {
            closing,
            token_sha256: token_sha256(token)?,
            call,
        };
        let frontend = asked.call.frontend.clone();
        self.0
            .submit(frontend.name(), asked)
            .await
            .map_err(|error| match error {
                BatchError::Full => Reason::Overloaded,
                BatchError::Lost => Reason::Unavailable,
            })?
    }
}
