//! What requesters close themselves: what has queued up is closed together, behind the gate once.

use std::sync::Arc;

use common::{
    batch::{BatchLimits, BatchMeter},
    clock::Clock,
    policy::Policies,
    refusal::Refusal,
    store::part as part_of,
    terms::ActId,
};

use crate::{
    call::PortalCall,
    in_batches::InBatches,
    login::token_sha256,
    requester::{refusal, session_bounds},
    store::{Closing, GatewayStore, RequesterClosing, RequesterError},
};

/// Closes for requesters.
pub struct Closings(InBatches<RequesterClosing, Result<(), RequesterError>>);

impl Closings {
    /// Starts the queue.
    pub fn start(
        store: Arc<dyn GatewayStore>,
        policies: Arc<Policies>,
        clock: Arc<dyn Clock>,
        limits: BatchLimits,
        meter: BatchMeter,
    ) -> Self {
        Self(InBatches::start(limits, meter, move |asked, part| {
            let (store, bounds, now) = (store.clone(), session_bounds(&policies), clock.now());
            async move { store.close(part_of(&asked, part)?, bounds, now).await }
        }))
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
        let frontend = call.frontend.clone();
        let asked = RequesterClosing {
            closing,
            token_sha256: token_sha256(token)?,
            call,
        };
        self.0.submit(&frontend, asked).await?.map_err(refusal)
    }
}
