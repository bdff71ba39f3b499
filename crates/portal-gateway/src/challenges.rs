//! The texts that cards are to sign, kept until they come back signed: what has queued up is one transaction.

use std::sync::Arc;

use common::{
    batch::{BatchLimits, BatchMeter},
    clock::Clock,
    identity::PeerIdentity,
    refusal::Reason,
    store::part as part_of,
};

use crate::{
    in_batches::InBatches,
    store::{Challenge, ChallengeStep, GatewayStore},
};

/// Keeps challenges, and uses them up.
pub struct Challenges(InBatches<ChallengeStep, Option<Vec<u8>>>);

impl Challenges {
    /// Starts the queue.
    pub fn start(
        store: Arc<dyn GatewayStore>,
        clock: Arc<dyn Clock>,
        limits: BatchLimits,
        meter: BatchMeter,
    ) -> Self {
        Self(InBatches::start(limits, meter, move |steps, part| {
            let (store, now) = (store.clone(), clock.now());
            async move { store.challenges(part_of(&steps, part)?, now).await }
        }))
    }

    /// Keeps one for this frontend.
    pub async fn keep(&self, frontend: &PeerIdentity, challenge: Challenge) -> Result<(), Reason> {
        let step = ChallengeStep::Keep(challenge);
        self.0.submit(frontend, step).await.map(drop)
    }

    /// Uses one up: its text, when it was this frontend's and has not expired.
    pub async fn take(&self, frontend: &PeerIdentity, id: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let step = ChallengeStep::Take {
            id: id.to_vec(),
            frontend: frontend.name().to_owned(),
        };
        self.0.submit(frontend, step).await
    }
}
